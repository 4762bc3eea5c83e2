"""How often an adaptive solver asks a trained classifier's law for a slope (Chen et al. 2018, section 3, Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.papers.neural_ode.odenet import Continuous, OdeNet, classification_loss
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


@torch.enable_grad()
def evaluations(model: OdeNet, batch: Batch, tolerance: float) -> tuple[int, int]:
    """Evaluations of the law on the way to the loss of `batch` and, by the adjoint equation, back from it."""
    middle = getattr(model, "middle", None)
    if not isinstance(middle, Continuous):
        raise UserError("evaluations are counted of an equation", fix="middle: ode")
    law = Counted(middle.field)
    solve = Solver({"dopri5": {"tolerance": tolerance}}, adjoint=True)
    start = model.down(batch.x).detach().requires_grad_()
    end = solve(law, start, start.new_tensor([0.0, 1.0]))[-1]
    forward = law.evaluations
    classification_loss(model.top(end), batch)["loss"].backward()
    model.zero_grad(set_to_none=True)
    return forward, law.evaluations - forward


def of_first_rows(model: OdeNet, view: View, settings: Settings) -> tuple[int, int, int]:
    """`evaluations` for the first `rows` test images as one batch, and how many these are."""
    rows = min(int(settings["rows"]), len(view))
    y = torch.from_numpy(view.columns["y"][:rows].copy()).to(view.device)
    batch = Batch(view.x[:rows], len(view), columns={"y": y})
    return *evaluations(model, batch, float(settings["tolerance"])), rows


@metric(
    "solver_evaluations",
    "Classifier",
    "evaluations",
    "lower",
    "evaluations of a classifier's law by dopri5 from its features to the loss",
    settings={"tolerance": 1e-3, "rows": 128},
    lowest={"rows": 1, "tolerance": 1e-9},
    counts=True,
    within=(0.0, None),
)
def solver_evaluations(model: OdeNet, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """On the first `rows` test images as one batch, at the relative and absolute `tolerance`."""
    there, _, rows = of_first_rows(model, view, settings)
    return MetricValue(float(there), None, rows)


@metric(
    "backward_evaluations_share",
    "Classifier",
    "1",
    "lower",
    "evaluations of a classifier's law back from the loss, by the adjoint equation, over those to it",
    settings={"tolerance": 1e-3, "rows": 128},
    lowest={"rows": 1, "tolerance": 1e-9},
    within=(0.0, None),
)
def backward_evaluations_share(model: OdeNet, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """As `solver_evaluations`."""
    there, back, rows = of_first_rows(model, view, settings)
    return MetricValue(back / there, None, rows)
