"""Gaussian data whose best likelihood is known exactly: one Gaussian, a mixture, and the linear-Gaussian model."""

from __future__ import annotations

import math

import numpy as np

from latentbench.data.generated.oracles import Gaussian, PlanarMixture
from latentbench.declare import generator, oracle

Made = dict[str, np.ndarray]


@oracle("correlated-gaussian")
def correlated_oracle(dims: int, correlation: float) -> Gaussian:
    """N(0, C) with C[i, j] = correlation ** |i - j|: unit variances, neighbours correlated."""
    lag = np.abs(np.arange(dims)[:, None] - np.arange(dims))
    return Gaussian(np.zeros(dims), float(correlation) ** lag)


@generator("correlated-gaussian")
def correlated(n: int, rng: np.random.Generator, dims: int, correlation: float) -> Made:
    """{"x": (n, dims) float32}."""
    return {"x": correlated_oracle(dims, correlation).sample(n, rng).astype(np.float32)}


@oracle("gaussian-mixture")
def mixture_oracle(components: int, radius: float, long: float, short: float) -> PlanarMixture:
    """`components` Gaussians on a circle of `radius`, weights proportional to 1, 2, 3, …, each stretched along the
    circle: standard deviation `long` along it and `short` across."""
    angle = 2 * np.pi * np.arange(components) / components
    across = np.stack([np.cos(angle), np.sin(angle)], 1)
    along = np.stack([-np.sin(angle), np.cos(angle)], 1)
    covariances = long**2 * along[:, :, None] * along[:, None] + short**2 * across[:, :, None] * across[:, None]
    weights = np.arange(1, components + 1, dtype=float)
    return PlanarMixture(weights / weights.sum(), radius * across, covariances)


@generator("gaussian-mixture")
def mixture(n: int, rng: np.random.Generator, components: int, radius: float, long: float, short: float) -> Made:
    """{"x": (n, 2) float32, "y": (n,) int64 component}."""
    oracle = mixture_oracle(components, radius, long, short)
    y = rng.choice(components, size=n, p=oracle.weights)
    factors = np.linalg.cholesky(oracle.covariances)
    x = oracle.means[y] + np.einsum("nij,nj->ni", factors[y], rng.standard_normal((n, 2)))
    return {"x": x.astype(np.float32), "y": y.astype(np.int64)}


@oracle("linear-gaussian")
class LinearGaussian(Gaussian):
    """x = W z + b + noise * e, z ~ N(0, I): probabilistic PCA (Tipping & Bishop 1999), so x ~ N(b, W W' + noise² I).

    Attributes:
        weight: W, (dims, latent).
        mean: b, (dims,).
        noise: standard deviation of the observation noise.
    """

    def __init__(self, dims: int, latent: int, noise: float, structure_seed: int) -> None:
        rng = np.random.default_rng(structure_seed)
        basis, _ = np.linalg.qr(rng.standard_normal((dims, latent)))
        self.weight = basis * np.linspace(3.0, 1.0, latent)  # distinct lengths, so the principal axes are identified
        self.noise = float(noise)
        super().__init__(rng.standard_normal(dims), self.weight @ self.weight.T + noise**2 * np.eye(dims))

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """p(z | x): means (N, latent) and the covariance (latent, latent) that all rows share."""
        precision = np.eye(self.weight.shape[1]) + self.weight.T @ self.weight / self.noise**2
        covariance = np.linalg.inv(precision)
        means = (np.asarray(x, float) - self.mean) @ self.weight @ covariance / self.noise**2
        return means, covariance

    def sample_with_latents(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """x (n, dims) and z (n, latent), float64."""
        z = rng.standard_normal((n, self.weight.shape[1]))
        x = z @ self.weight.T + self.mean + self.noise * rng.standard_normal((n, len(self.mean)))
        return x, z


@generator("linear-gaussian")
def linear(n: int, rng: np.random.Generator, dims: int, latent: int, noise: float, structure_seed: int) -> Made:
    """{"x": (n, dims) float32, "z": (n, latent) float32 the true codes}."""
    x, z = LinearGaussian(dims, latent, noise, structure_seed).sample_with_latents(n, rng)
    return {"x": x.astype(np.float32), "z": z.astype(np.float32)}


def best_linear_fit(x: np.ndarray, latent: int) -> tuple[Gaussian, float]:
    """The maximum-likelihood probabilistic PCA of given rows, in closed form (Tipping & Bishop 1999, section 3.2).

    Returns:
        The fitted density, and its mean log-likelihood of these rows in nats: no linear-Gaussian model of `latent`
        dimensions, however trained, exceeds it on them.
    """
    x = np.asarray(x, float)
    mean = x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    dims = len(mean)
    if not 0 < latent < dims:
        raise ValueError(f"latent must lie in 1 .. {dims - 1}")
    noise = float(values[latent:].mean())
    weight = vectors[:, :latent] * np.sqrt(values[:latent] - noise)
    fitted = Gaussian(mean, weight @ weight.T + noise * np.eye(dims))
    log_det = float(np.log(values[:latent]).sum()) + (dims - latent) * math.log(noise)
    return fitted, -0.5 * (dims * (1 + math.log(2 * math.pi)) + log_det)
