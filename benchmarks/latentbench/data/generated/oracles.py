"""Exact densities of generated data: what no likelihood model can beat in expectation. All in nats, float64 numpy."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Protocol

import numpy as np

_BLOCK = 1 << 22


class Oracle(Protocol):
    """The density that data were drawn from."""

    @property
    def entropy(self) -> float:
        """Differential entropy in nats: the least negative log-likelihood a sample, in expectation."""
        ...

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """(N, ...) -> (N,) float64 nats."""
        ...


class Gaussian:
    """N(mean, covariance)."""

    def __init__(self, mean: np.ndarray, covariance: np.ndarray) -> None:
        self.mean, self.covariance = np.asarray(mean, float), np.asarray(covariance, float)
        self.factor = np.linalg.cholesky(self.covariance)
        self._log_det = 2 * float(np.log(np.diag(self.factor)).sum())

    @property
    def entropy(self) -> float:
        return 0.5 * (len(self.mean) * (1 + math.log(2 * math.pi)) + self._log_det)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        from scipy.linalg import solve_triangular

        centred = np.asarray(x, float).reshape(len(x), -1) - self.mean
        white = solve_triangular(self.factor, centred.T, lower=True)
        return -0.5 * ((white**2).sum(0) + self._log_det + len(self.mean) * math.log(2 * math.pi))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """(n, D) float64."""
        return self.mean + rng.standard_normal((n, len(self.mean))) @ self.factor.T


class _Planar:
    """A density on the plane whose entropy is integrated on a grid of `spacing` over `box` (x low, high, y low, high).

    The trapezoid rule on a smooth density that has died away at the border converges faster than any power of the
    spacing; a third of the finest standard deviation is enough. The tests hold it against sampling.
    """

    box: tuple[float, float, float, float]
    spacing: float

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    @cached_property
    def entropy(self) -> float:
        a, b, c, d = self.box
        u, v = np.arange(a, b, self.spacing), np.arange(c, d, self.spacing)
        total = 0.0
        for row in v:
            log_p = self.log_prob(np.column_stack([u, np.full_like(u, row)]))
            p = np.exp(log_p)
            total -= float((p[p > 0] * log_p[p > 0]).sum())
        return total * self.spacing**2


class PlanarMixture(_Planar):
    """A mixture of Gaussians on the plane.

    Args:
        weights: (K,), positive, summing to 1.
        means: (K, 2).
        covariances: (K, 2, 2), or (2, 2) where all are alike.
    """

    def __init__(self, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> None:
        self.weights, self.means = np.asarray(weights, float), np.asarray(means, float)
        self.covariances = np.broadcast_to(np.asarray(covariances, float), (len(self.means), 2, 2))
        precision = np.linalg.inv(self.covariances)
        # the exponent of each component as a quadratic in (x, y), so that all of them are one matrix product
        shift = np.einsum("kij,kj->ki", precision, self.means)
        constant = (
            np.log(self.weights)
            - math.log(2 * math.pi)
            - 0.5 * np.log(np.linalg.det(self.covariances))
            - 0.5 * np.einsum("ki,ki->k", shift, self.means)
        )
        self._terms = np.stack(
            [-0.5 * precision[:, 0, 0], -0.5 * precision[:, 1, 1], -precision[:, 0, 1], *shift.T, constant]
        )
        self.spacing = math.sqrt(float(np.linalg.eigvalsh(self.covariances).min())) / 3
        reach = 8 * math.sqrt(float(np.linalg.eigvalsh(self.covariances).max()))
        low, high = self.means.min(0) - reach, self.means.max(0) + reach
        self.box = (low[0], high[0], low[1], high[1])

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, float)
        step = max(1, _BLOCK // len(self.means))
        return np.concatenate([self._block(x[i : i + step]) for i in range(0, len(x), step)] or [np.zeros(0)])

    def _block(self, x: np.ndarray) -> np.ndarray:
        u, v = x[:, 0], x[:, 1]
        exponents = np.stack([u * u, v * v, u * v, u, v, np.ones_like(u)], 1) @ self._terms
        top = exponents.max(1)
        return top + np.log(np.exp(exponents - top[:, None]).sum(1))


def along_curve(points: np.ndarray, weights: np.ndarray, noise: float) -> PlanarMixture:
    """The density of a point drawn along a curve plus isotropic Gaussian noise of standard deviation `noise`.

    `points` (K, 2) and `weights` (K,) are the nodes and weights of a quadrature rule over the curve's parameter; with
    nodes much closer than `noise` the mixture equals the integral to machine precision.
    """
    return PlanarMixture(weights / weights.sum(), points, noise**2 * np.eye(2))


class Cells:
    """Uniform on a set of equal squares of side `side` with lower left corners `corners` (K, 2)."""

    def __init__(self, corners: np.ndarray, side: float) -> None:
        self.corners, self.side = np.asarray(corners, float), float(side)

    @cached_property
    def entropy(self) -> float:
        return math.log(len(self.corners) * self.side**2)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        inside = np.zeros(len(x), bool)
        for corner in self.corners:
            offset = np.asarray(x, float) - corner
            inside |= ((offset >= 0) & (offset < self.side)).all(1)
        return np.where(inside, -self.entropy, -np.inf)
