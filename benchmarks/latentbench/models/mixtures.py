"""Mixture densities fitted by EM, as baselines."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.baselines import Fitted
from latentbench.models.densities import HALF_LOG_2PI


@model(
    "gaussian-mixture",
    "Fittable ExactLikelihood Sampler",
    "mixture of Gaussians by EM (scikit-learn)",
    examples=(
        Example("real-vector", {"components": 2}),
        Example("real-image", {"components": 2, "covariance": "diag"}),
        Example("real-vector", {"components": 2, "covariance": "tied"}),
    ),
)
class GaussianMixture(Fitted):
    """A mixture of Gaussians fitted by scikit-learn's EM, seeded from the generator.

    Args:
        components: number of Gaussians.
        covariance: ``full``, ``diag`` or ``tied`` (one full covariance for all).
        restarts: runs of EM from different starts, of which the best is kept.
        iterations: most EM steps of a run.
        regularisation: added to the diagonal of each covariance, in squared data units.
    """

    log_weights: Tensor
    means: Tensor
    precision: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        components: PositiveInt = 10,
        covariance: Literal["full", "diag", "tied"] = "full",
        restarts: PositiveInt = 1,
        iterations: PositiveInt = 200,
        regularisation: NonNegativeFloat = 1e-6,
    ) -> None:
        checks.support("GaussianMixture", info, "real", "unit")
        super().__init__(info)
        self.components = checks.whole("components", components)
        self.covariance = checks.one_of("covariance", covariance, ("full", "diag", "tied"))
        self.restarts = checks.whole("restarts", restarts)
        self.iterations = checks.whole("iterations", iterations)
        self.regularisation = checks.number("regularisation", regularisation)
        self._buffer("log_weights", self.components)
        self._buffer("means", self.components, self.dims)
        # What scikit-learn calls the precisions' Cholesky factor P, with P P^T = inverse covariance.
        k, d = self.components, self.dims
        self._buffer("precision", *{"full": (k, d, d), "tied": (d, d), "diag": (k, d)}[self.covariance])

    def fit(self, x: Tensor, generator: Generator) -> None:
        from sklearn.mixture import GaussianMixture as Mixture

        rows = self._rows(x, least=self.components)
        mixture = Mixture(
            self.components,
            covariance_type=self.covariance,
            n_init=self.restarts,
            max_iter=self.iterations,
            reg_covar=self.regularisation,
            random_state=seed_from(generator),
        ).fit(rows.cpu().numpy())
        self.log_weights.copy_(torch.from_numpy(mixture.weights_).log())
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.precision.copy_(torch.from_numpy(mixture.precisions_cholesky_))
        self.fitted.fill_(True)

    def log_prob(self, x: Tensor) -> Tensor:
        rows = self._rows(x)
        log_p = []
        for j in range(self.components):  # one component at a time: (N, D) at once, not (N, K, D)
            p = self.precision if self.covariance == "tied" else self.precision[j]
            diagonal = p if p.dim() == 1 else p.diagonal()
            d = rows - self.means[j]
            y = d * p if p.dim() == 1 else d @ p
            log_p.append(self.log_weights[j] - 0.5 * (y * y).sum(-1) + diagonal.log().sum())
        return self._answered(torch.stack(log_p).logsumexp(0) - self.dims * HALF_LOG_2PI)

    def sample(self, n: int, generator: Generator) -> Tensor:
        which = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        noise = self._normal(n, self.dims, generator=generator)
        rows = self.means[which].clone()
        for j in range(self.components):
            p = self.precision if self.covariance == "tied" else self.precision[j]
            mine = which == j
            e = noise[mine]
            rows[mine] += e / p if p.dim() == 1 else torch.linalg.solve_triangular(p, e, upper=True, left=False)
        return self._shaped(rows)


@model(
    "bernoulli-mixture",
    "Fittable ExactLikelihood Sampler",
    "mixture of Bernoullis by EM, for binary data",
    examples=(Example("binary-image", {"components": 3}),),
)
class BernoulliMixture(Fitted):
    """A mixture of factorised Bernoullis, fitted by EM (Bishop 2006, section 9.3.3).

    Args:
        components: number of mixture components.
        iterations: most EM steps.
        tolerance: stops once the mean log-likelihood rises by less than this, nats per sample.
        smoothing: pseudo-count of each value of a coordinate in each component.
    """

    log_weights: Tensor
    logits: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        components: PositiveInt = 50,
        iterations: PositiveInt = 200,
        tolerance: NonNegativeFloat = 1e-4,
        smoothing: PositiveFloat = 1.0,
    ) -> None:
        checks.support("BernoulliMixture", info, "binary")
        super().__init__(info)
        self.components = checks.whole("components", components)
        self.iterations = checks.whole("iterations", iterations)
        self.tolerance = checks.number("tolerance", tolerance)
        self.smoothing = checks.number("smoothing", smoothing, above=True)
        self._buffer("log_weights", self.components)
        self._buffer("logits", self.components, self.dims)

    def _joint(self, rows: Tensor) -> Tensor:
        """log p(x, component), (N, K), in the precision of `rows`."""
        off = -nn.functional.softplus(self.logits).sum(-1)
        return torch.addmm((off + self.log_weights).to(rows.dtype), rows, self.logits.to(rows.dtype).T)

    def fit(self, x: Tensor, generator: Generator) -> None:
        rows = self._rows(x, least=self.components).float()  # of zeros and ones: EM loses nothing, and is twice as fast
        n, device = rows.shape[0], rows.device
        # Starts each component half way between the mean and a sample of its own: apart, and nowhere certain.
        first = torch.randperm(n, generator=generator, device=generator.device)[: self.components].to(device)
        start = 0.25 + 0.25 * rows[first] + 0.25 * rows.mean(0)
        self.logits.copy_(torch.logit(start))
        self.log_weights.fill_(-math.log(self.components))
        before = -math.inf
        for _ in range(self.iterations):
            joint = self._joint(rows)
            total = joint.logsumexp(-1)
            share = (joint - total[:, None]).exp()
            size = share.sum(0)
            p = ((share.T @ rows + self.smoothing) / (size + 2.0 * self.smoothing)[:, None]).double()
            self.logits.copy_(torch.logit(p))
            self.log_weights.copy_(((size + 1e-12) / (size + 1e-12).sum()).log())
            now = total.mean().item()
            if now - before < self.tolerance:
                break
            before = now
        self.fitted.fill_(True)

    def log_prob(self, x: Tensor) -> Tensor:
        return self._answered(self._joint(self._rows(x)).logsumexp(-1))

    def sample(self, n: int, generator: Generator) -> Tensor:
        which = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        return self._shaped(torch.bernoulli(torch.sigmoid(self.logits[which]), generator=generator))


def seed_from(generator: Generator) -> int:
    """A 31-bit seed for a library with a generator of its own."""
    return int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device).item())
