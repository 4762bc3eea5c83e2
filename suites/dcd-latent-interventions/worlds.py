"""Structural causal models and rows of all their single-node interventions, as the authors' PyCausal draws them."""

from __future__ import annotations

import numpy as np
from numpy import ndarray
from numpy.random import Generator

NOISE, INNER, WIDTH, SPREAD = 0.4, 0.2, 8, 0.2  # of sources; its share elsewhere; hidden units; deviation under do


class World:
    """x_j = f_j(parents) + noise, with variables in random order.

    Args:
        rng: of the graph and the mechanisms.
        d: variables.
        degree: expected number of edges, over d.
        linear: weights of size 0.25 to 1; otherwise two layers of ReLU below them, with standard normal weights.
        shift: mean of a variable under intervention is of size `shift` to 2 `shift`, of either sign.

    Attributes:
        graph: (d, d), 1 at [i, j] for an edge i -> j.
    """

    def __init__(self, rng: Generator, d: int, degree: float, linear: bool, shift: float) -> None:
        self.d, self.order, self.linear = d, rng.permutation(d), linear
        self.graph = np.zeros((d, d), dtype=int)
        self.graph[np.ix_(self.order, self.order)] = np.triu(rng.random((d, d)) < 2 * degree / (d - 1), 1)
        self.scale, self.offset = NOISE * rng.uniform(1.0, 1.4, d), 0.3 * rng.standard_normal(d)
        self.means = shift * rng.uniform(1.0, 2.0, d) * rng.choice([-1.0, 1.0], d)
        self.layers = [] if linear else [
            (rng.standard_normal((d, d, WIDTH)), signed(rng, (d, WIDTH), 0.05, 1.5)),
            (rng.standard_normal((d, WIDTH, WIDTH)), signed(rng, (d, WIDTH), 0.05, 1.5)),
        ]  # fmt: skip
        self.weights = signed(rng, (d, d if linear else WIDTH), 0.25, 1.0)

    def draw(self, rng: Generator, n: int, target: int | None = None) -> ndarray:
        """(n, d), with variable `target` under intervention."""
        x = np.zeros((n, self.d))
        noise = self.scale * rng.standard_normal((n, self.d)) + self.offset
        for j in self.order:  # causes come first
            if j == target:
                x[:, j] = self.means[j] + SPREAD * rng.standard_normal(n)
            elif self.graph[:, j].any():
                x[:, j] = self.mechanism(j, x * self.graph[:, j]) + INNER * noise[:, j]
            else:
                x[:, j] = noise[:, j]
        return x

    def mechanism(self, j: int, parents: ndarray) -> ndarray:
        """f_j (n,) of rows (n, d) in which all but the parents are 0."""
        for weights, bias in self.layers:
            parents = np.maximum(parents @ weights[j] + bias[j], 0.0)
        return parents @ self.weights[j]


def signed(rng: Generator, shape: tuple[int, ...], low: float, high: float) -> ndarray:
    return rng.uniform(low, high, shape) * rng.choice([-1.0, 1.0], shape)
