"""How often an adaptive solver asks a trained classifier's law for a slope (Chen et al. 2018, section 3, Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.models import checks
from latentbench.papers.neural_ode.odenet import Continuous, OdeNet
from latentbench.papers.neural_ode.solver import Solver
from torch import Generator, Tensor, nn

Settings = Mapping[str, Any]


class Counted(nn.Module):
    """A law that counts its evaluations."""

    def __init__(self, law: nn.Module) -> None:
        super().__init__()
        self.law, self.evaluations = law, 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.evaluations += 1
        slope: Tensor = self.law(t, x)
        return slope


def evaluations(model: OdeNet, batch: Batch, tolerance: float) -> tuple[int, int]:
    """Evaluations of the law on the way to the loss of `batch` and, by the adjoint equation, back from it."""
    if not isinstance(getattr(model, "middle", None), Continuous):
        raise UserError("evaluations are counted of an equation", fix="middle: ode")
    law = Counted(model.middle.field)  # type: ignore[arg-type]  # `getattr` told mypy nothing
    solve = Solver({"dopri5": {"tolerance": tolerance}}, adjoint=True)
    start = model.down(batch.x).detach().requires_grad_()
    end = solve(law, start, start.new_tensor([0.0, 1.0]))[-1]
    forward = law.evaluations
    nn.functional.cross_entropy(model.top(end), batch.columns["y"].long()).backward()
    return forward, law.evaluations - forward


@metric(
    "solver_evaluations",
    "Classifier",
    "evaluations",
    "lower",
    "evaluations of a classifier's law by dopri5 from its features to the loss, or back by the adjoint equation",
    settings={"tolerance": 1e-3, "rows": 128, "way": "forward"},
    lowest={"rows": 1, "tolerance": 1e-9},
    counts=True,
    within=(0.0, None),
)
def solver_evaluations(model: OdeNet, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """On the first `rows` test images as one batch at the relative and absolute `tolerance`; `way` is ``forward``,
    ``backward``, or ``backward-share``, the second by the first."""
    way = checks.one_of("way", settings["way"], ("forward", "backward", "backward-share"))
    rows = min(int(settings["rows"]), len(view))
    columns = {"y": torch.from_numpy(view.columns["y"][:rows].copy()).to(view.device)}
    with torch.enable_grad():
        there, back = evaluations(model, Batch(view.x[:rows], len(view), columns=columns), float(settings["tolerance"]))
    model.zero_grad(set_to_none=True)
    values = {"forward": there, "backward": back, "backward-share": back / there}
    return MetricValue(float(values[way]), None, rows)
