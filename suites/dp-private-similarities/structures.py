"""Structures that answer sums of similarities to private points x_1 … x_n (Backurs et al. 2024, arXiv 2403.08917).

A structure has ``statistics`` of points x (n, d), their ``sensitivity``, the most that one point adds to them in L1,
and ``answers`` (m,) to queries y (m, d) from statistics with noise. With Laplace noise of scale sensitivity /
epsilon they are epsilon-private for data sets that differ by a point, whatever is computed of them; n is public. Sums
of |x - y|_1 are of points and queries in [0, 1]^d, those of exp(-|x - y|^2 / width^2) of points anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray


def release(structure: Structure, x: ndarray, epsilon: float, rng: np.random.Generator) -> ndarray:
    """Statistics of x (n, d) with noise: all that leaves the private side."""
    exact = structure.statistics(x)
    return exact + rng.laplace(0.0, structure.sensitivity / epsilon, exact.shape)


def cells_of(x: ndarray, cells: int) -> ndarray:
    """Which of the equal cells of [0, 1] holds each coordinate."""
    return np.minimum((x * cells).astype(int), cells - 1)


def counts(x: ndarray, cells: int) -> ndarray:
    """Points in each cell (d, cells), by coordinate."""
    return np.stack([np.bincount(c, minlength=cells) for c in cells_of(x, cells).T]).astype(float)


def interval(heap: ndarray, left: ndarray, right: ndarray) -> ndarray:
    """Sums over leaves left, …, right - 1 by the fewest nodes of a heap (2 N,): children of node i are 2 i, 2 i + 1."""
    total, left, right = np.zeros(left.shape), left + len(heap) // 2, right + len(heap) // 2
    while (open_ := left < right).any():
        odd = open_ & (left % 2 == 1)
        total[odd] += heap[left[odd]]
        left = left + odd
        odd = open_ & (right % 2 == 1)
        right = right - odd
        total[odd] += heap[right[odd]]
        left, right = left // 2, right // 2
    return total


@dataclass(frozen=True)
class Tree:
    """Binary trees of counts, one a coordinate, for the L1 distance: section 4 of the paper.

    A query's leaves are taken together whose distances differ by a factor of at most 1 + alpha, each such interval is
    counted by a few nodes, and its points are taken to lie at the mean of its leaves' distances.

    Attributes:
        dims: d.
        cells: leaves, a power of two.
    """

    dims: int
    cells: int
    alpha: float

    @property
    def sensitivity(self) -> float:
        return float(self.dims * self.cells.bit_length())  # a leaf and what is above it

    def statistics(self, x: ndarray) -> ndarray:
        """Heaps (d, 2 cells), without use of the first entry."""
        heap, width = np.zeros((self.dims, 2 * self.cells)), self.cells
        heap[:, width:] = counts(x, width)
        while width > 1:
            heap[:, width // 2 : width] = heap[:, width : 2 * width].reshape(self.dims, -1, 2).sum(2)
            width //= 2
        return heap

    def bounds(self) -> ndarray:
        """Distances, in leaves, at which intervals begin; the last is where they end."""
        found = [1]
        while found[-1] < self.cells:
            found.append(min(self.cells, max(found[-1] + 1, int(found[-1] * (1 + self.alpha)))))
        return np.array(found)

    def answers(self, noisy: ndarray, y: ndarray) -> ndarray:
        begin, end = self.bounds()[:-1], self.bounds()[1:]
        distance, total = (begin + end - 1) / 2 / self.cells, np.zeros(len(y))
        for heap, q in zip(noisy, cells_of(y, self.cells).T[:, :, None], strict=True):
            above = interval(heap, *(np.minimum(q + b, self.cells) for b in (begin, end)))
            below = interval(heap, *(np.maximum(q + 1 - b, 0) for b in (end, begin)))
            total += (above + below) @ distance
        return total


@dataclass(frozen=True)
class Histogram:
    """Counts in equal cells of each coordinate, whose points are taken to lie in the middle; attributes as of Tree."""

    dims: int
    cells: int

    @property
    def sensitivity(self) -> float:
        return float(self.dims)

    def statistics(self, x: ndarray) -> ndarray:
        return counts(x, self.cells)

    def answers(self, noisy: ndarray, y: ndarray) -> ndarray:
        middle = (np.arange(self.cells) + 0.5) / self.cells
        return sum(np.abs(column[:, None] - middle) @ c for column, c in zip(y.T, noisy, strict=True))


@dataclass(frozen=True)
class Grid:
    """Sums of distances by coordinate from each of `cells` equally spaced places, with straight lines between."""

    dims: int
    cells: int

    @property
    def places(self) -> ndarray:
        return np.linspace(0.0, 1.0, self.cells)

    @property
    def sensitivity(self) -> float:
        return self.dims * self.cells / 2  # of a point at an end; distances from all places are convex

    def statistics(self, x: ndarray) -> ndarray:
        return np.abs(x.T[:, None, :] - self.places[:, None]).sum(2)

    def answers(self, noisy: ndarray, y: ndarray) -> ndarray:
        return sum(np.interp(column, self.places, c) for column, c in zip(y.T, noisy, strict=True))


@dataclass(frozen=True)
class Uniform:
    """The answer of who knows n alone and takes the points to be uniform: nothing is released."""

    n: int
    sensitivity: float = 0.0

    def statistics(self, x: ndarray) -> ndarray:
        return np.zeros(0)

    def answers(self, noisy: ndarray, y: ndarray) -> ndarray:
        return self.n * ((y**2 + (1 - y) ** 2) / 2).sum(1)


@dataclass(frozen=True)
class Fourier:
    """Random Fourier features sqrt(2) cos(w'x + b) of the Gaussian kernel, as Wagner et al. 2023 release them.

    Attributes:
        projection: (d, k), applied before the features (section 7: random, k below d); the identity is None.
        frequencies: (k, L).
        shifts: (L,).
    """

    projection: ndarray | None
    frequencies: ndarray
    shifts: ndarray

    @property
    def sensitivity(self) -> float:
        return 2**0.5 * len(self.shifts)

    def features(self, x: ndarray) -> ndarray:
        x = x if self.projection is None else x @ self.projection
        return 2**0.5 * np.cos(x @ self.frequencies + self.shifts)

    def statistics(self, x: ndarray) -> ndarray:
        return self.features(x).sum(0)

    def answers(self, noisy: ndarray, y: ndarray) -> ndarray:
        return self.features(y) @ noisy / len(self.shifts)


def fourier(dims: int, features: int, width: float, project: int, rng: np.random.Generator) -> Fourier:
    """Features of the kernel exp(-|x - y|^2 / width^2), after a random projection to `project` dimensions unless 0."""
    k = project or dims
    projection = rng.standard_normal((dims, k)) / k**0.5 if project else None
    frequencies = rng.standard_normal((k, features)) * 2**0.5 / width
    return Fourier(projection, frequencies, rng.uniform(0, 2 * np.pi, features))


Structure = Tree | Histogram | Grid | Uniform | Fourier
