"""Round Gaussians on a grid (Aithal et al. 2024, figures 2 and 3), their diffusion in closed form, and their support.

Modes are the products of the coordinates of each axis, of equal weight and standard deviation; rows take them in turn,
as in `toy_data.py` of the authors' code. Gaps between modes are tens of standard deviations, so that the region of
highest density with a given mass is a ball about each mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.declare import generator, oracle
from scipy.special import logsumexp
from scipy.stats import chi2
from torch import Tensor

Axes = Sequence[Sequence[float]]


@dataclass(frozen=True)
class GridMixture:
    """The law, in the units of the data.

    Attributes:
        means: (K, D) float64, the last axis changing fastest.
        std: of each mode in each direction.
    """

    means: np.ndarray
    std: float

    @property
    def entropy(self) -> float:
        """Nats; modes do not overlap."""
        k, d = self.means.shape
        return math.log(k) + 0.5 * d * (1.0 + math.log(2.0 * math.pi * self.std**2))

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """(N, D) to (N,) float64 nats."""
        k, d = self.means.shape
        inner = -0.5 * (self._distances(x) / self.std) ** 2
        return logsumexp(inner, 1) - math.log(k) - d * math.log(self.std * math.sqrt(2.0 * math.pi))

    def radius(self, outside: float) -> float:
        """Of the balls about the modes that hold all but `outside` of the mass."""
        return self.std * math.sqrt(chi2.isf(outside, self.means.shape[1]))

    def hallucinated(self, x: np.ndarray, outside: float, radii: float = 1.0) -> np.ndarray:
        """(N,) bool: rows (N, D) outside all balls of so many times `radius`."""
        return self._distances(x).min(1) > radii * self.radius(outside)

    def neighbours(self) -> list[tuple[int, int]]:
        """Pairs of modes that are nearest to each other: those at the smallest distance that there is."""
        apart = self._distances(self.means)
        np.fill_diagonal(apart, np.inf)
        return [(int(i), int(j)) for i, j in np.argwhere(apart <= apart.min() * (1 + 1e-6)) if i < j]

    def between(self, x: np.ndarray, width: float) -> np.ndarray:
        """(N,) bool: rows (N, D) within `width` of a segment from a mode to a nearest neighbour of it."""
        x, near = np.asarray(x, float), np.zeros(len(x), bool)
        for i, j in self.neighbours():
            start, along = self.means[i], self.means[j] - self.means[i]
            share = np.clip((x - start) @ along / (along @ along), 0.0, 1.0)
            near |= np.linalg.norm(x - start - share[:, None] * along, axis=1) <= width
        return near

    def _distances(self, x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.asarray(x, float)[:, None] - self.means, axis=2)


def grid_mixture(axes: Axes, noise: float, scale: float = 1.0) -> GridMixture:
    """Modes at the products of `axes` with standard deviation `noise`, all divided by `scale`.

    Raises:
        UserError: an axis is empty, or `noise` or `scale` not positive.
    """
    if not axes or any(not len(axis) for axis in axes) or not noise > 0 or not scale > 0:
        raise UserError(f"axes {axes!r}, noise {noise!r}, scale {scale!r}", fix="coordinates, and positive numbers")
    return GridMixture(np.array(list(product(*axes)), float) / scale, noise / scale)


def posterior_mean(x: Tensor, alpha_bar: Tensor, means: Tensor, std: float) -> Tensor:
    """E[x_0 | x_t = x], (N, D), where x_t = sqrt(a) x_0 + sqrt(1 - a) eps.

    Args:
        x: (N, D).
        alpha_bar: a, (N, 1) or (1, 1).
        means, std: of the modes, (K, D).
    """
    root, variance = alpha_bar.sqrt(), alpha_bar * std**2 + 1.0 - alpha_bar
    apart = x[:, None] - root[..., None] * means
    weights = torch.softmax(-0.5 * apart.square().sum(2) / variance, 1)[..., None]
    return (weights * (means + (root * std**2 / variance)[..., None] * apart)).sum(1)


@generator("grid-gaussians")
def grid_gaussians(
    n: int, rng: np.random.Generator, axes: Axes, noise: float, scale: float = 1.0
) -> dict[str, np.ndarray]:
    """x (n, D) float32: row i is of mode i modulo K."""
    law = grid_mixture(axes, noise, scale)
    drawn = rng.standard_normal((n, law.means.shape[1]), dtype=np.float32)
    drawn *= np.float32(law.std)
    drawn += law.means[np.arange(n) % len(law.means)].astype(np.float32)
    return {"x": drawn}


@oracle("grid-gaussians")
def grid_gaussians_oracle(axes: Axes, noise: float, scale: float = 1.0) -> GridMixture:
    return grid_mixture(axes, noise, scale)
