"""Continuous normalising flows (Chen et al. 2018, section 4; arXiv 1806.07366)."""

from __future__ import annotations

import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities
from latentbench.papers.neural_ode.solver import Solver
from pydantic import PositiveInt
from torch import Generator, Tensor, nn

#: Time at which the flow is at the data, as in the authors' example; at 0 it is at the base.
END = 10.0
#: Tolerance of the densities that are measured.
EXACT: checks.Choice = {"dopri5": {"tolerance": 1e-5}}


class Field(nn.Module):
    """dz/dt = 1/M Σ_n σ_n(t) u_n(t) tanh(w_n(t)·z + b_n(t)), and beside it d log p / dt = -tr(∂f/∂z), a sum over the
    hidden units too (Chen et al. 2018, theorem 1 and eqs. 9 and 10).

    A small network gives the units' parameters and their gates σ_n in (0, 1) for each time (their section 4,
    "time-dependent dynamics"): only so can the units turn, as section 4.1 says that they do.
    """

    def __init__(self, dims: int, width: int, time_width: int) -> None:
        super().__init__()
        self.dims, self.width = dims, width
        h = time_width
        self.net = nn.Sequential(nn.Linear(1, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh(), nn.Linear(h, self._sizes()[0]))

    def _sizes(self) -> tuple[int, list[int]]:
        sizes = [self.width * self.dims] * 2 + [self.width] * 2
        return sum(sizes), sizes

    def units(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """w (M, D), b (M,) and gated u (M, D) at time t, a scalar."""
        w, u, b, gate = self.net(t.reshape(1)).split(self._sizes()[1])
        u = u.view(self.width, self.dims) * (torch.sigmoid(gate) / self.width)[:, None]
        return w.view(self.width, self.dims), b, u

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        w, b, u = self.units(t)
        h = torch.tanh(state[0] @ w.T + b)
        return h @ u, -((1 - h * h) @ (w * u).sum(-1))


@model(
    "cnf",
    "Trainable ExactLikelihood Sampler",
    "continuous normalising flow with gated units",
    examples=(
        Example("real-vector", {"width": 4, "time_width": 4}),
        Example("real-vector", {"width": 4, "time_width": 4, "adjoint": True}),
        Example("real-vector", {"width": 4, "time_width": 4, "solver": "dopri5"}),
    ),
)
class CNF(nn.Module):
    """A flow along an ordinary differential equation from a standard normal at time 0 to the data at time `END`.

    Args:
        info: vectors of real coordinates.
        width: M, hidden units of the field.
        time_width: hidden units of each of the two layers of the network that sees the time.
        solver: of training, see `Solver`. A coarse one's errors are part of the loss, and what is learnt may use them.
        exact_solver: of densities and samples in evaluation mode, which are exact but for its error.
        adjoint: gradients by the adjoint equation.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        width: PositiveInt = 32,
        time_width: PositiveInt = 32,
        solver: checks.Choice = "rk4",
        exact_solver: checks.Choice = EXACT,
        adjoint: bool = False,
    ) -> None:
        checks.support("CNF", info, "real", "unit")
        super().__init__()
        self.dims = checks.vector_length("CNF", info)
        self.field = Field(self.dims, checks.whole("width", width), checks.whole("time_width", time_width))
        self.learning, self.exact = Solver(solver, adjoint=adjoint), Solver(exact_solver, adjoint=adjoint)

    def _flow(self, x: Tensor, start: float) -> tuple[Tensor, Tensor]:
        """From time `start` to the other end: the points there, and the change of their log-density on the way."""
        times = torch.tensor([start, END - start], dtype=x.dtype, device=x.device)
        solve = self.learning if self.training else self.exact
        end, change = solve(self.field, (x, x.new_zeros(len(x))), times)
        return end[-1], change[-1]

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), (N, D) -> (N,) nats: log N(z(0)) minus the change from the end back to 0 (their eq. 8)."""
        z, change = self._flow(x, END)
        return densities.standard_normal(z) - change

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        return {"loss": -self.log_prob(batch.x).mean()}

    def sample(self, n: int, generator: Generator) -> Tensor:
        like = next(self.parameters())
        return self._flow(torch.randn(n, self.dims, generator=generator, device=like.device, dtype=like.dtype), 0.0)[0]
