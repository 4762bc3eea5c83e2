"""Polynomial programming: the smallest problem that tells gradient estimators apart (Liu et al. 2023, section 6.1).

    minimise over theta   E_{X ~ softmax(theta)} [ ||X - c||_p^p / L ],     L binary variables, c = 0.45 each

The data have no part in it: a batch of n rows asks for n draws of X. For c below 1/2 the optimum sets every X to 0.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Le
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.discrete.estimator import Hints, gradient_estimates
from latentbench.models.discrete.estimators import build_estimator
from pydantic import PositiveInt
from torch import Generator, Tensor, nn


@model(
    "polynomial-programme",
    "Trainable EstimatedGradient ExpectedCost",
    "binary variables that minimise an expected polynomial: a test of gradient estimators, without data",
    whole_batch=True,
    examples=(Example("binary-vector", {"latents": 6}),),
)
class PolynomialProgramme(nn.Module):
    """One distribution over L independent binary variables.

    Args:
        info: of the data, which are not looked at.
        latents: L.
        power: p.
        target: c.
        start: P(X = 1) before training, for every variable up to a small random offset.
        estimator: see `estimators`.

    Raises:
        UserError: a parameter is out of its range.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latents: PositiveInt = 128,
        power: Annotated[float, Ge(1)] = 2.0,
        target: Annotated[float, Ge(0), Le(1)] = 0.45,
        start: float = 0.5,
        estimator: checks.Choice = "reinmax",
    ) -> None:
        super().__init__()
        self.power = checks.number("power", power, least=1.0)
        self.target = checks.number("target", target, most=1.0)
        start = checks.number("start", start, least=1e-6, most=1.0 - 1e-6)
        logits = torch.empty(checks.whole("latents", latents), 2).uniform_(-0.01, 0.01)
        logits[:, 0] += math.log(start / (1.0 - start))
        self.logits = nn.Parameter(logits)
        self.estimator = build_estimator(estimator, info.dims)

    def cost(self, z: Tensor) -> Tensor:
        """(..., L, 2) to (...): the first category stands for X = 1."""
        return (z[..., 0] - self.target).abs().pow(self.power).mean(-1)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The estimator's surrogate over as many draws as the batch has rows."""
        logits = self.logits.expand(batch.x.shape[0], -1, -1)
        hints = Hints(batch.step, batch.progress, batch.x.flatten(1))
        return {"loss": self.estimator(logits, self.cost, generator, hints).mean()}

    def _expected(self, logits: Tensor) -> Tensor:
        ends = torch.tensor([1.0, 0.0], device=logits.device, dtype=logits.dtype)
        return (logits.softmax(-1) * (ends - self.target).abs().pow(self.power)).sum(-1).mean(-1)

    def expected_cost(self) -> Tensor:
        """The objective itself, scalar: each variable's two values, weighed."""
        return self._expected(self.logits)

    def gradient_estimates(self, x: Tensor, draws: int, generator: Generator) -> Tensor:
        """Independent estimates of the objective's gradient, (draws, N, 2 L); a row is a fresh draw."""
        logits = self.logits.expand(len(x), -1, -1)
        return gradient_estimates(self.estimator, logits, lambda _: self.cost, x.flatten(1), draws, generator)

    def exact_gradient(self, x: Tensor) -> Tensor:
        """(N, 2 L), the same for every row."""
        with torch.enable_grad():
            leaf = self.logits.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self._expected(leaf), leaf)
        return gradient.flatten().expand(len(x), -1)
