"""Discrete entropic transport between two samples (Cuturi 2013), carried over to points outside them."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.baselines import Fitted
from latentbench.papers.light_schrodinger_bridge.pairs import between, dimensions, moment
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor

#: Entries of a cost matrix that are worked on at once when looking up.
CHUNK = 1 << 23


@model(
    "sinkhorn",
    "Fittable Transporter",
    "discrete entropic transport, looked up at new points",
    examples=(Example("pairs", {"iterations": 50}),),
)
class Sinkhorn(Fitted):
    """Sinkhorn's potentials on the training samples; a new x is sent by the plan that they define for it,
    π(y_j | x) ∝ exp((g_j - ‖x - y_j‖² / 2) / ε) (Pooladian & Niles-Weed 2021, eq. 8).

    Args:
        info: rows (2, D), source and target.
        epsilon: ε, in squared units of the preprocessed data.
        lookup: ``conditional`` draws a training target of π(· | x); ``barycentric`` gives its mean.
        rows: at most so many training rows enter, the first ones: costs are rows² numbers.
        iterations: at most so many of Sinkhorn's iterations, in the log domain (POT).
        tolerance: stop at this error of the marginals.
    """

    targets: Tensor
    potential: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        epsilon: PositiveFloat = 1.0,
        lookup: Literal["conditional", "barycentric"] = "conditional",
        rows: Annotated[int, Ge(2)] = 2000,
        iterations: PositiveInt = 2000,
        tolerance: PositiveFloat = 1e-6,
    ) -> None:
        super().__init__(info)
        self.points = dimensions("Sinkhorn", info)
        self.epsilon = checks.number("epsilon", epsilon, above=True)
        self.mean = checks.one_of("lookup", lookup, ("conditional", "barycentric")) == "barycentric"
        self.rows = min(checks.whole("rows", rows, 2), info.n_train)
        self.iterations = checks.whole("iterations", iterations)
        self.tolerance = checks.number("tolerance", tolerance, above=True)
        self._buffer("targets", self.rows, self.points)
        self._buffer("potential", self.rows)

    def fit(self, x: Tensor, generator: Generator) -> None:
        """Solve on the first `rows` rows of x (N, 2, D). Nothing is drawn."""
        import ot

        if tuple(x.shape[1:]) != self.shape or len(x) < self.rows:
            raise UserError(f"samples {tuple(x.shape)} for a model of ({self.rows} or more, 2, {self.points})")
        source, target = x[: self.rows].double().unbind(1)
        cost = 0.5 * torch.cdist(source, target).square()
        weights = source.new_full((self.rows,), 1.0 / self.rows)
        _, log = ot.bregman.sinkhorn_log(
            weights,
            weights,
            cost,
            self.epsilon,
            numItermax=self.iterations,
            stopThr=self.tolerance,
            log=True,
            warn=False,
        )
        self.targets.copy_(target)
        self.potential.copy_(log["log_v"])
        self.fitted.fill_(True)

    def _log_weights(self, x: Tensor) -> Tensor:
        """log π(y_j | x), (N, D) -> (N, rows)."""
        raw = self.potential - 0.5 * torch.cdist(x.double(), self.targets).square() / self.epsilon
        return raw.log_softmax(-1)

    def transport(self, x: Tensor, generator: Generator, time: float = 1.0) -> Tensor:
        """Where each x is sent, (N, D) -> (N, D), at `time` on a Brownian bridge from x to there."""
        t = moment(time)
        sent = torch.cat([self._send(rows, generator) for rows in x.split(max(1, CHUNK // self.rows))])
        y = self._answered(sent).to(x.dtype)
        return y if t == 1.0 else between(x, y, t, self.epsilon, generator)

    def _send(self, x: Tensor, generator: Generator) -> Tensor:
        weights = self._log_weights(x).exp()
        if self.mean:
            return weights @ self.targets
        return self.targets[torch.multinomial(weights, 1, generator=generator)[:, 0]]
