"""Six latents in four overlapping views, and what sets of views share (arXiv 2311.04056, example 2.1)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from scipy.stats import wishart
from torch import Generator, Tensor
from torch.nn import functional

LATENTS = 6
VIEWS = ((0, 1, 2, 3, 4), (0, 1, 2, 4, 5), (0, 1, 2, 3, 5), (0, 1, 3, 4, 5))  # latents of each
SETS = tuple(views for size in (2, 3, 4) for views in combinations(range(len(VIEWS)), size))
LAYERS, SLOPE = 3, 0.2  # linear layers of a mixing, leaky ReLU between them
POOL, BEST = 25_000, 25  # matrices that are drawn, and those of the least condition numbers


def shared(views: tuple[int, ...]) -> list[int]:
    """The latents that all of these views have."""
    return sorted(set.intersection(*(set(VIEWS[k]) for k in views)))


class World:
    """Normal latents of covariance I, or if `dependent` of one from Wishart(6, I), and a mixing of each view."""

    def __init__(self, rng: np.random.Generator, dependent: bool) -> None:
        size, eye = len(VIEWS[0]), np.eye(LATENTS)
        self.covariance = wishart.rvs(LATENTS, eye, random_state=rng) if dependent else eye
        self.root = torch.tensor(np.linalg.cholesky(self.covariance))
        pool = rng.uniform(-1.0, 1.0, (POOL, size, size))
        pool /= np.linalg.norm(pool, axis=1, keepdims=True)  # columns, as the authors'
        best = rng.permutation(pool[np.argsort(np.linalg.cond(pool), kind="stable")[:BEST]])
        self.mixings = torch.tensor(best[: LAYERS * len(VIEWS)]).unflatten(0, (LAYERS, len(VIEWS)))

    def latents(self, n: int, draws: Generator) -> Tensor:
        """(n, 6)"""
        return torch.randn(n, LATENTS, generator=draws, dtype=torch.float64) @ self.root.T

    def observe(self, z: Tensor) -> Tensor:
        """(4, n, 5): each view of latents z (n, 6)."""
        x = torch.stack([z[:, list(seen)] for seen in VIEWS])
        for i, weights in enumerate(self.mixings):
            x = (functional.leaky_relu(x, SLOPE) if i else x) @ weights.mT
        return x
