"""Densities that are fitted in closed form: what a trained model has to beat (the mixtures are in `mixtures`).

All compute in float64 and answer in float32; parameters are buffers, so that they move to a device and are saved like
any model's.
"""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.densities import HALF_LOG_2PI


class Fitted(nn.Module):
    """What the baselines share: samples as float64 vectors, and no answers before `fit`."""

    fitted: Tensor

    def __init__(self, info: DataInfo) -> None:
        super().__init__()
        self.shape, self.dims = tuple(info.shape), info.dims
        self.register_buffer("fitted", torch.tensor(False))

    def _buffer(self, name: str, *shape: int) -> None:
        self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def _rows(self, x: Tensor, least: int = 1) -> Tensor:
        if tuple(x.shape[1:]) != self.shape:
            raise UserError(f"samples of shape {tuple(x.shape[1:])} for a model of {self.shape}")
        if x.shape[0] < least:
            raise UserError(f"{x.shape[0]} training samples", fix=f"{least} or more")
        return x.flatten(1).double()

    def _answered(self, values: Tensor) -> Tensor:
        if not self.fitted:
            raise UserError(f"{type(self).__name__} has not been fitted", fix="call fit first")
        return values.float()

    def _normal(self, *shape: int, generator: Generator) -> Tensor:
        device = self.fitted.device
        return torch.randn(shape, generator=generator, device=device, dtype=torch.float64)

    def _shaped(self, rows: Tensor) -> Tensor:
        return self._answered(rows).unflatten(1, self.shape)


@model(
    "factorised",
    "Fittable ExactLikelihood Sampler",
    "independent coordinates: the likelihood's floor",
    examples=(
        Example("binary-vector"),
        Example("real-image"),
        Example("discrete-vector"),
    ),
)
class Factorised(Fitted):
    """Independent coordinates: Bernoulli (binary), Gaussian (real, unit) or categorical (discrete).

    Args:
        smoothing: pseudo-count a of each value of a binary or discrete coordinate: p = (count + a) / (n + a * values).
        min_variance: floor of a Gaussian coordinate's variance, in squared data units.
    """

    log_p: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, info: DataInfo, *, smoothing: NonNegativeFloat = 1.0, min_variance: PositiveFloat = 1e-6
    ) -> None:
        checks.support("Factorised", info, "binary", "unit", "real", "discrete")
        super().__init__(info)
        self.smoothing = checks.number("smoothing", smoothing)
        self.min_variance = checks.number("min_variance", min_variance, above=True)
        self.levels = {"binary": 2, "discrete": info.levels or 0}.get(info.support, 0)
        if self.levels:
            self._buffer("log_p", self.levels, self.dims)
        else:
            self._buffer("mean", self.dims)
            self._buffer("std", self.dims)

    def fit(self, x: Tensor, generator: Generator) -> None:
        rows = self._rows(x)
        if self.levels:
            counts = torch.stack([(rows == level).sum(0) for level in range(self.levels)]) + self.smoothing
            self.log_p.copy_((counts / counts.sum(0)).log())
        else:
            self.mean.copy_(rows.mean(0))
            self.std.copy_(rows.var(0, correction=0).clamp_min(self.min_variance).sqrt())
        self.fitted.fill_(True)

    def log_prob(self, x: Tensor) -> Tensor:
        rows = self._rows(x)
        if self.levels:
            return self._answered(self.log_p.gather(0, rows.long()).sum(-1))
        d = (rows - self.mean) / self.std
        return self._answered(-(0.5 * d * d + self.std.log() + HALF_LOG_2PI).sum(-1))

    def sample(self, n: int, generator: Generator) -> Tensor:
        if not self.levels:
            return self._shaped(self.mean + self.std * self._normal(n, self.dims, generator=generator))
        draws = torch.multinomial(self.log_p.exp().T, n, replacement=True, generator=generator)
        return self._shaped(draws.T)


@model(
    "gaussian",
    "Fittable ExactLikelihood Sampler",
    "full-covariance Gaussian",
    examples=(
        Example("real-vector"),
        Example("real-image", {"shrinkage": "ledoit_wolf"}),
    ),
)
class Gaussian(Fitted):
    """One Gaussian with full covariance.

    The covariance is (1 - s) S + s tr(S)/D I, S the maximum-likelihood estimate, plus `jitter` * tr(S)/D on the
    diagonal, which keeps it invertible where coordinates are constant or more than samples.

    Args:
        shrinkage: s in [0, 1], or ``ledoit_wolf`` for the estimate of Ledoit & Wolf 2004 (scikit-learn's).
        jitter: relative to the mean variance.
    """

    mean: Tensor
    root: Tensor

    def __init__(self, info: DataInfo, *, shrinkage: float | str = 0.0, jitter: NonNegativeFloat = 1e-6) -> None:
        checks.support("Gaussian", info, "real", "unit")
        super().__init__(info)
        if isinstance(shrinkage, str):
            checks.one_of("shrinkage", shrinkage, ("ledoit_wolf",))
        else:
            checks.number("shrinkage", shrinkage, most=1.0)
        self.shrinkage = shrinkage
        self.jitter = checks.number("jitter", jitter)
        self._buffer("mean", self.dims)
        self._buffer("root", self.dims, self.dims)

    def fit(self, x: Tensor, generator: Generator) -> None:
        rows = self._rows(x, least=2)
        s = self.shrinkage
        if isinstance(s, str):
            from sklearn.covariance import ledoit_wolf

            s = float(ledoit_wolf(rows.cpu().numpy())[1])
        cov = torch.cov(rows.T, correction=0).reshape(self.dims, self.dims)
        scale = cov.diagonal().mean()
        cov = (1.0 - s) * cov
        cov.diagonal().add_((s + self.jitter) * scale)
        root, failed = torch.linalg.cholesky_ex(cov)
        if failed:
            raise UserError("the covariance is singular", fix="raise shrinkage or jitter")
        self.mean.copy_(rows.mean(0))
        self.root.copy_(root)
        self.fitted.fill_(True)

    def log_prob(self, x: Tensor) -> Tensor:
        d = torch.linalg.solve_triangular(self.root, (self._rows(x) - self.mean).T, upper=False)
        log_det = self.root.diagonal().log().sum()
        return self._answered(-0.5 * (d * d).sum(0) - log_det - self.dims * HALF_LOG_2PI)

    def sample(self, n: int, generator: Generator) -> Tensor:
        return self._shaped(self.mean + self._normal(n, self.dims, generator=generator) @ self.root.T)


@model(
    "ppca",
    "Fittable ExactLikelihood Sampler Encoder Decoder Reconstructor GaussianEncoder StandardNormalPrior",
    "probabilistic PCA in closed form",
    examples=(Example("real-vector", {"latent_dim": 2}),),
)
class PPCA(Fitted):
    """Probabilistic PCA, x = W z + mean + noise, by maximum likelihood in closed form (Tipping & Bishop 1999).

    W = U (L - s2 I)^(1/2) (their eq. 7 with R = I) and s2 the mean of the eigenvalues left out (eq. 8), of the
    maximum-likelihood covariance. Then the posterior of the code is a diagonal Gaussian, so the model is an exact
    linear encoder and decoder as well.

    Args:
        latent_dim: number of components, below the number of coordinates.
        min_variance: floor of the noise variance s2, in squared data units.
    """

    mean: Tensor
    directions: Tensor
    variances: Tensor
    noise: Tensor

    def __init__(self, info: DataInfo, *, latent_dim: PositiveInt = 10, min_variance: PositiveFloat = 1e-9) -> None:
        checks.support("PPCA", info, "real", "unit")
        super().__init__(info)
        self.latent_dim = checks.whole("latent_dim", latent_dim)
        self.min_variance = checks.number("min_variance", min_variance, above=True)
        if self.latent_dim >= self.dims:
            raise UserError(f"latent_dim is {latent_dim} for {self.dims} coordinates", fix="fewer components than that")
        self._buffer("mean", self.dims)
        self._buffer("directions", self.dims, self.latent_dim)
        self._buffer("variances", self.latent_dim)
        self._buffer("noise", 1)

    def fit(self, x: Tensor, generator: Generator) -> None:
        rows = self._rows(x, least=2)
        values, vectors = torch.linalg.eigh(torch.cov(rows.T, correction=0))
        values, vectors = values.flip(0), vectors.flip(1)
        noise = values[self.latent_dim :].mean().clamp_min(self.min_variance)
        self.mean.copy_(rows.mean(0))
        self.directions.copy_(vectors[:, : self.latent_dim])
        self.variances.copy_(values[: self.latent_dim].clamp_min(noise))
        self.noise.copy_(noise)
        self.fitted.fill_(True)

    def log_prob(self, x: Tensor) -> Tensor:
        d = self._rows(x) - self.mean
        inside = d @ self.directions
        rest = ((d * d).sum(-1) - (inside * inside).sum(-1)).clamp_min(0.0)
        quadratic = (inside * inside / self.variances).sum(-1) + rest / self.noise
        log_det = self.variances.log().sum() + (self.dims - self.latent_dim) * self.noise.log()
        return self._answered(-0.5 * (quadratic + log_det) - self.dims * HALF_LOG_2PI)

    def _weights(self) -> Tensor:
        return self.directions * (self.variances - self.noise).sqrt()

    def encode_gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Exact posterior mean and log-variance, each (N, latent_dim)."""
        mean = (self._rows(x) - self.mean) @ (self._weights() / self.variances)
        log_var = (self.noise / self.variances).log().expand_as(mean)
        return self._answered(mean), self._answered(log_var)

    def encode(self, x: Tensor) -> Tensor:
        return self.encode_gaussian(x)[0]

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        mean, log_var = self.encode_gaussian(x)
        return mean + torch.exp(0.5 * log_var) * self._normal(*mean.shape, generator=generator).float()

    def decode(self, z: Tensor) -> Tensor:
        return self._shaped(z.double() @ self._weights().T + self.mean)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def sample(self, n: int, generator: Generator) -> Tensor:
        z = self._normal(n, self.latent_dim, generator=generator)
        noise = self.noise.sqrt() * self._normal(n, self.dims, generator=generator)
        return self._shaped(z @ self._weights().T + self.mean + noise)
