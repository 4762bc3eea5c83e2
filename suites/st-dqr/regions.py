"""Regions of a response as scores that a calibrated radius bounds, and how much of a grid they hold.

A score takes an input (p,) and responses (m, d) to (m,); the region at that input is where it is at most the radius,
which is `conformal` of the scores of calibration rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy import ndarray
from scipy.spatial import cKDTree

ALPHA = 0.1
Score = Callable[[ndarray, ndarray], ndarray]


def conformal(scores: ndarray) -> float:
    """The ceil((n + 1)(1 - ALPHA))-th least of n scores; infinity where there are too few."""
    rank = math.ceil((len(scores) + 1) * (1.0 - ALPHA) - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def lattice(y: ndarray, size: int) -> ndarray:
    """About `size` points (m, d) of a grid over the box from the 1 % quantiles of y (n, d) less 0.2 to the 99 % ones
    plus 0.2, its upper ends left out."""
    low, high = np.add(np.quantile(y, [0.01, 0.99], axis=0), [[-0.2], [0.2]])
    steps = math.ceil(size ** (1.0 / y.shape[1]) - 1e-9)
    axes = [np.linspace(a, b, steps, endpoint=False) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, y.shape[1])


def nearest(points: ndarray, y: ndarray, k: int = 1) -> ndarray:
    """Distances (m,) of y (m, d) from the k-th nearest of the points; infinity where there are fewer."""
    return cKDTree(points).query(y, [k])[0][:, 0] if len(points) else np.full(len(y), np.inf)


class Balls:
    """The score of a region that is given by points (k, d) for an input (p,).

    Uncalibrated, it reaches as far from them as 90 % of them lie from their nearest one. Where so it holds at most
    1 - ALPHA of the calibration rows x (n, p), y (n, d), it is grown: the score is the distance from the points.
    Elsewhere it is shrunk: the score is minus the distance from those points of the grid (m, d) that lie outside.
    """

    def __init__(self, points: Callable[[ndarray], ndarray], x: ndarray, y: ndarray, grid: ndarray) -> None:
        self.points, self.grid = points, grid
        held = [nearest(p := points(a), b[None])[0] <= self.reach(p) for a, b in zip(x, y, strict=True)]
        self.grows = bool(np.mean(held) <= 1.0 - ALPHA)

    @staticmethod
    def reach(points: ndarray) -> float:
        return float(np.quantile(nearest(points, points, 2), 0.9)) if len(points) > 1 else 0.0

    def __call__(self, x: ndarray, y: ndarray) -> ndarray:
        points = self.points(x)
        if self.grows:
            return nearest(points, y)
        return -nearest(self.grid[nearest(points, self.grid) > self.reach(points)], y)


def halfspaces(quantiles: Callable[[ndarray], ndarray], u: ndarray) -> Score:
    """How far y lies beyond the quantiles (M,) along u (M, d) at most: a box for u = +-e_j."""
    return lambda x, y: np.max(quantiles(x) - y @ u.T, axis=1)


def highest_density(log_density: Score, grid: ndarray) -> Score:
    """Probability, summed over the grid (m, d), of what is denser than y (HPD-split: Izbicki, Shimizu, Stern 2022)."""

    def score(x: ndarray, y: ndarray) -> ndarray:
        heights = np.sort(log_density(x, grid))[::-1]
        mass = np.append(0.0, np.cumsum(np.exp(heights - heights[0])))
        return mass[np.searchsorted(-heights, -log_density(x, y))] / mass[-1]

    return score


def judged(score: Score, calibration: Sequence[ndarray], new: Sequence[ndarray], grid: ndarray) -> tuple[ndarray, ...]:
    """Whether regions hold the responses of new rows, (T,), and how many points of the grid they hold, (T,)."""
    radius = conformal(np.array([score(x, y[None])[0] for x, y in zip(*calibration, strict=True)]))
    within = np.array([score(x, np.vstack([y, grid])) <= radius for x, y in zip(*new, strict=True)])
    return within[:, 0], within[:, 1:].sum(1)
