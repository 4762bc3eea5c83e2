"""Feasible learning: a loss below a threshold on every row of the training set (Ramirez et al. 2025, arXiv 2501.14912).

    find theta with g_i(theta) <= eps for all i                                               (FL)
    min_theta,max_lambda>=0  sum_i lambda_i (g_i(theta) - eps) - alpha / 2 lambda_i^2         (RFL; FL has alpha = 0)

g_i is the loss of row i. Slack of least norm in the constraints is what alpha stands for: at the maximum over
multipliers RFL descends on squared excess losses, which is clamped squared ERM. Equations are known by the abstract and
by src/cmps of the authors' code; the multipliers' ascent comes before the weights' descent, as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.capabilities import Validated
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.view import View
from latentbench.models import checks
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Generator, Tensor, nn

RULES = ("erm", "clamped-squared", "fl")
SMALL = {"classes": 3, "hidden": (5,), "threshold": 0.4}


@model(
    "feasible-predictor",
    "Trainable Validated",
    "fully connected classifier or regression, by mean losses or by a constraint on the loss of each row",
    examples=(
        Example("labelled", {**SMALL, "dual_lr": 0.3}),
        Example("labelled", {**SMALL, "dual_lr": 0.3, "alpha": 2.0}),
        Example("labelled", {**SMALL, "rule": "clamped-squared"}),
    ),
)
class FeasiblePredictor(nn.Module):
    """Losses of rows, and what becomes of them.

    Args:
        info: rows of any shape, with a column ``y``.
        classes: number of labels; 0 for a real target.
        hidden: widths of ReLU layers.
        rule: ``erm`` (mean of losses), ``clamped-squared`` (mean of max(0, g - eps)^2) or ``fl``.
        threshold: eps, in nats of cross-entropy (log 1/p asks for probability p) or in squared units of the target.
        dual_lr: step of the multipliers' ascent.
        alpha: weight of the multipliers' squares; 0 is FL, more is RFL.
        centre, unit: a real target y is predicted as (y - centre) / unit.

    Raises:
        UserError: there is no column ``y``, or a parameter is out of its range.
    """

    multipliers: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        classes: NonNegativeInt = 0,
        hidden: Sequence[int] = (70, 70),
        rule: Literal["erm", "clamped-squared", "fl"] = "fl",
        threshold: NonNegativeFloat = 0.0,
        dual_lr: PositiveFloat = 1e-3,
        alpha: NonNegativeFloat = 0.0,
        centre: float = 0.0,
        unit: PositiveFloat = 1.0,
    ) -> None:
        super().__init__()
        if "y" not in info.parts:
            raise UserError("the data have no column y to predict", fix="choose labelled data")
        if classes == 1:
            raise UserError("one class leaves nothing to learn", where="classes", fix="0 for a real target, or 2")
        self.classes, self.rule = classes, checks.one_of("rule", rule, RULES)
        self.threshold, self.dual_lr, self.alpha = threshold, dual_lr, alpha
        self.centre, self.unit = centre, unit
        widths = [info.dims, *checks.wholes("hidden", hidden)]
        layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], classes or 1))
        self.register_buffer("multipliers", torch.zeros(info.n_train))

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy in nats, or squared error in units, of rows x (N, *shape) with y (N,) or (N, 1): (N,)."""
        found = self.net(x.flatten(1))
        if self.classes:
            return nn.functional.cross_entropy(found, y.long().flatten(), reduction="none")
        error: Tensor = found[:, 0] - (y.flatten().to(found) - self.centre) / self.unit
        return error.square()

    def validation_loss(self, batch: Batch, generator: Generator) -> Tensor:
        """Mean of losses, whatever the rule."""
        return self.losses(batch.x, batch.columns["y"]).mean()

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The mean of losses, with the gradient of what the rule descends on; multipliers of the rows ascend first.

        A Lagrangian's own value rises with its multipliers, so it tells nothing of how training goes.
        """
        losses = self.losses(batch.x, batch.columns["y"])
        mean, excess = losses.mean(), losses - self.threshold
        if self.rule == "erm":
            return {"loss": mean}
        if self.rule == "clamped-squared":
            descended = excess.relu().square().mean()
        else:
            descended = (self._ascend(batch, excess.detach()) * excess).sum()
        return {"loss": mean.detach() + (descended - descended.detach()), "descended": descended.detach()}

    def _ascend(self, batch: Batch, excess: Tensor) -> Tensor:
        """Multipliers of the batch's rows (N,) after a step along losses' `excess` (N,) over the threshold."""
        rows = torch.arange(len(excess), device=excess.device) if batch.index is None else batch.index
        before = self.multipliers[rows]
        after = (before + self.dual_lr * (excess - self.alpha * before)).clamp_min(0)
        if self.training:
            self.multipliers = self.multipliers.index_copy(0, rows, after)
        return after


@metric(
    "tail_loss",
    "Validated",
    "1",
    "lower",
    "mean of the largest losses of single rows (conditional value at risk)",
    settings={"share": 0.05, "part": "test"},
    lowest={"share": 1e-6},
    within=(0.0, None),
)
def tail_loss(model: Validated, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Mean of the largest `share` of losses, rounded up to rows, of test rows or of training rows; 1 gives the mean."""
    of = view if settings["part"] == "test" else view.train
    batches = (of.batch(torch.tensor([i])) for i in range(len(of)))
    losses = np.array([model.validation_loss(batch, generator).item() for batch in batches])
    worst = np.sort(losses)[-int(np.ceil(settings["share"] * len(losses))) :]
    return MetricValue(float(worst.mean()), None, len(losses))
