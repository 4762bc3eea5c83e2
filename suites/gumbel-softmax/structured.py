"""Structured prediction by a stochastic network: the second half of a sample given the first (Jang et al. 2017, 4.1).

    p(lower | upper) = E_{h_1 ~ p(h_1 | upper)} ... E_{h_K ~ p(h_K | h_{K-1})} p(lower | h_K)

Trained on the one-sample bound E[-log p(lower | h)]; its likelihood is the log of the mean over many h.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, nets
from latentbench.models.discrete import layout as codes
from latentbench.models.discrete.estimator import Estimator, Hints
from latentbench.models.discrete.estimators import build_estimator
from pydantic import PositiveInt
from torch import Generator, Tensor, nn


@model(
    "structured-predictor",
    "Trainable ConditionalBound",
    "stochastic network that predicts the second half of a binary vector from the first",
    whole_batch=True,
    examples=(Example("binary-vector", {"layout": "2x3", "layers": 2}),),
)
class StructuredPredictor(nn.Module):
    """Layers of categorical (or Bernoulli) variables, each linear in the one before; Bernoulli outputs.

    Args:
        info: binary vectors of an even length; the first half is given (rows of an image: its upper half).
        layout: of every stochastic layer: categories x variables, ``2x200`` for 200 Bernoulli units.
        layers: number of stochastic layers.
        estimator: see `estimators`; each layer has its own.
        init: ``glorot`` or ``default``.

    Raises:
        UserError: a parameter is out of its range, or the data are not binary vectors of an even length.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        layout: str = "2x200",
        layers: PositiveInt = 2,
        estimator: checks.Choice = "gumbel_softmax",
        init: str = "glorot",
    ) -> None:
        super().__init__()
        checks.support("structured-predictor", info, "binary")
        dims = checks.vector_length("structured-predictor", info)
        if dims % 2:
            raise UserError(f"structured-predictor got vectors of {dims}", fix="an even length, to be cut in halves")
        self.given = dims // 2
        self.layout = codes.Layout.parse(layout)
        count, width = checks.whole("layers", layers), self.layout.width
        self.layers = nn.ModuleList([nn.Linear(self.given if i == 0 else width, width) for i in range(count)])
        self.out = nn.Linear(width, self.given)
        nets.initialise(self, checks.one_of("init", init, nets.INITS))
        self.estimators = nn.ModuleList([build_estimator(estimator, dims) for _ in range(count)])

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, : self.given], x[:, self.given :]

    def _logits(self, level: int, below: Tensor, progress: float | None = None) -> Tensor:
        estimator = cast(Estimator, self.estimators[level])
        return estimator.sharpened(self.layout.logits(self.layers[level](below)), progress)

    def _cost(self, level: int, below: Tensor, lower: Tensor, generator: Generator, hints: Hints) -> Tensor:
        """-log p(lower | h) with every layer from `level` on drawn: a surrogate within a surrogate, (..., N)."""
        if level == len(self.layers):
            return -densities.bernoulli(lower, self.out(below))
        hints = replace(hints, mean_cost=lambda z: self._mean_cost(level + 1, self.layout.flat(z), lower))
        surrogate: Tensor = self.estimators[level](
            self._logits(level, below, hints.progress),
            lambda z: self._cost(level + 1, self.layout.flat(z), lower, generator, hints),
            generator,
            hints,
        )
        return surrogate

    def _mean_cost(self, level: int, below: Tensor, lower: Tensor) -> Tensor:
        """The same with every layer at its mean."""
        for i in range(level, len(self.layers)):
            below = self.layout.flat(self._logits(i, below).softmax(-1))
        return -densities.bernoulli(lower, self.out(below))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The one-sample bound's surrogate."""
        upper, lower = self._halves(batch.x)
        hints = Hints(batch.step, batch.progress, batch.x)
        return {"loss": self._cost(0, upper, lower, generator, hints).mean()}

    def log_conditional_weights(self, x: Tensor, k: int, generator: Generator) -> Tensor:
        """log p(lower | h_i) for k hard draws h_i given the upper half, (k, N) nats."""
        below, lower = self._halves(x)
        for i in range(len(self.layers)):
            below = self.layout.flat(codes.draw(self._logits(i, below), generator, *([k] if i == 0 else [])))
        return densities.bernoulli(lower, self.out(below))
