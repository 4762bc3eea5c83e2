"""Ordinary differential equations: which solver, and whether gradients go through its steps or the adjoint equation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from latentbench.core.errors import Diverged
from latentbench.models import checks
from torch import Tensor, nn

State = Tensor | tuple[Tensor, ...]


def rk4(*, steps: int = 8) -> dict[str, Any]:
    """`steps` equal steps of a fourth-order Runge-Kutta rule, with cubic interpolation between them."""
    return {"method": "rk4", "steps": checks.whole("solver.rk4.steps", steps)}


def dopri5(*, tolerance: float = 1e-5) -> dict[str, Any]:
    """Dormand and Prince's adaptive fifth-order rule at the given relative and absolute tolerance."""
    tolerance = checks.number("solver.dopri5.tolerance", tolerance, above=True, most=1.0)
    return {"method": "dopri5", "rtol": tolerance, "atol": tolerance}


SOLVERS: Mapping[str, Callable[..., dict[str, Any]]] = {"rk4": rk4, "dopri5": dopri5}


class Solver:
    """Solves dy/dt = f(t, y) with torchdiffeq.

    Raises `Diverged` where an adaptive rule finds no step small enough.

    Args:
        choice: ``rk4``, ``dopri5``, or ``{rk4: {steps: 8}}``, ``{dopri5: {tolerance: 1e-5}}``.
        adjoint: gradients by a second equation, solved backwards (Chen et al. 2018, section 2 and algorithm 1), whose
            memory does not grow with the steps; otherwise by back-propagation through them.
    """

    def __init__(self, choice: checks.Choice, *, adjoint: bool) -> None:
        name, parameters = checks.chosen("solver", choice, SOLVERS)
        self._how = SOLVERS[name](**parameters)
        self.adjoint = checks.flag("adjoint", adjoint)

    def __call__(self, f: nn.Module, start: State, times: Tensor) -> Any:
        """The state at each of `times` (T,), rising or falling; the first is `start`'s.

        Returns:
            As `start`, with a leading axis of T.
        """
        from torchdiffeq import odeint, odeint_adjoint

        how = dict(self._how)
        if "steps" in how:
            step = (times[-1] - times[0]).abs().item() / how.pop("steps")
            how["options"] = {"step_size": step * (1 + 1e-6), "interp": "cubic"}  # no sliver of a step at the end
        try:
            if self.adjoint and torch.is_grad_enabled():
                return odeint_adjoint(f, start, times, adjoint_params=tuple(f.parameters()), **how)
            return odeint(f, start, times, **how)
        except (
            AssertionError
        ) as e:  # how torchdiffeq says that no step is small enough, or that the state is not finite
            raise Diverged(f"the differential equation cannot be solved: {e}") from e

    def on_grid(self, f: nn.Module, start: Tensor, last: float, points: int) -> Tensor:
        """The state at `points` even times from 0 to `last`, (points, *start.shape).

        Between the steps of a fixed rule by cubic Hermite interpolation, all points at once: its error is of the rule's
        own order, and torchdiffeq's loop over the points would take longer than the solution.
        """
        steps = self._how.get("steps")
        times = torch.linspace(0, last, points, device=start.device, dtype=start.dtype)
        if steps is None or steps >= points - 1:
            solved: Tensor = self(f, start, times)
            return solved
        nodes = torch.linspace(0, last, steps + 1, device=start.device, dtype=start.dtype)
        y = self(f, start, nodes)
        h = last / steps
        slope = h * torch.stack([f(t, at) for t, at in zip(nodes, y)])
        i = (times / h).floor().long().clamp(max=steps - 1)
        s = (times / h - i).view(-1, *([1] * start.dim()))
        a, b = y[i], y[i + 1]
        bend = (1 - s) * (slope[i] - (b - a)) + s * ((b - a) - slope[i + 1])
        return a + s * (b - a) + s * (1 - s) * bend
