"""Private sums of similarities (Backurs et al. 2024, arXiv 2403.08917) on simulated clusters, and what is measured.

A structure has ``statistics`` of points x (n, d), their ``sensitivity``, the most that one point adds to them in L1,
and ``answers`` (m,) to queries y (m, d) from statistics with noise. With Laplace noise of scale sensitivity /
epsilon they are epsilon-private for data sets of which one has a point more, whatever is computed of them. Sums of
|x - y|_1 are of points and queries in [0, 1]^d, those of exp(-|x - y|^2) of points anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator

SMALL = {"rows": 40, "queries": 7, "problems": 2}
CLUSTERS = 5


def release(structure: Any, x: ndarray, epsilon: float, rng: np.random.Generator) -> ndarray:
    """Statistics of x (n, d) with noise: all that leaves the private side."""
    exact = structure.statistics(x)
    return exact + rng.laplace(0.0, structure.sensitivity / epsilon, exact.shape)


def cells_of(x: ndarray, cells: int) -> ndarray:
    """Which of the equal cells of [0, 1] holds each coordinate."""
    return np.minimum((x * cells).astype(int), cells - 1)


def counts(x: ndarray, cells: int) -> ndarray:
    """Points (d, cells) in each cell of each coordinate."""
    return np.stack([np.bincount(c, minlength=cells) for c in cells_of(x, cells).T])


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

    ``cells`` are its leaves, a power of two.
    """

    dims: int
    cells: int
    alpha: float

    @property
    def sensitivity(self) -> float:
        return float(self.dims * self.cells.bit_length())  # a leaf and what is above it

    def statistics(self, x: ndarray) -> ndarray:
        """Heaps (d, 2 cells), without use of the first entry."""
        heap = np.zeros((self.dims, 2 * self.cells))
        heap[:, self.cells :] = counts(x, self.cells)
        for i in reversed(range(1, self.cells)):
            heap[:, i] = heap[:, 2 * i] + heap[:, 2 * i + 1]
        return heap

    def bounds(self) -> ndarray:
        """Distances, in leaves, at which intervals begin; the last is where they end."""
        found = [1]
        while found[-1] < self.cells:
            found.append(min(self.cells, max(found[-1] + 1, int(found[-1] * (1 + self.alpha)))))
        return np.array(found)

    def answers(self, noisy: ndarray, y: ndarray) -> ndarray:
        begin, end = self.bounds()[:-1], self.bounds()[1:]
        total = np.zeros((len(y), len(begin)))
        for heap, q in zip(noisy, cells_of(y, self.cells).T[:, :, None], strict=True):
            total += interval(heap, *(np.minimum(q + b, self.cells) for b in (begin, end)))
            total += interval(heap, *(np.maximum(q + 1 - b, 0) for b in (end, begin)))
        return total @ (begin + end - 1) / 2 / self.cells


@dataclass(frozen=True)
class Histogram:
    """Counts in equal cells of each coordinate, whose points are taken to lie in the middle."""

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
    def sensitivity(self) -> float:
        return self.dims * self.cells / 2  # of a point at an end; distances from all places are convex

    def statistics(self, x: ndarray) -> ndarray:
        return np.abs(x.T[:, None, :] - np.linspace(0, 1, self.cells)[:, None]).sum(2)

    def answers(self, noisy: ndarray, y: ndarray) -> ndarray:
        places = np.linspace(0, 1, self.cells)
        return sum(np.interp(column, places, c) for column, c in zip(y.T, noisy, strict=True))


@dataclass(frozen=True)
class Fourier:
    """Random Fourier features sqrt(2) cos(w'x + b) of the Gaussian kernel, as Wagner et al. 2023 release them.

    Before them points are projected by a matrix (d, k), unless None (section 7); frequencies w are (d or k, L).
    """

    projection: ndarray | None
    frequencies: ndarray
    shifts: ndarray

    @classmethod
    def draw(cls, dims: int, features: int, project: int, rng: np.random.Generator) -> Fourier:
        """Of the kernel exp(-|x - y|^2), after a random projection to `project` dimensions unless 0."""
        projection = rng.standard_normal((dims, project)) / project**0.5 if project else None
        frequencies = 2**0.5 * rng.standard_normal((project or dims, features))
        return cls(projection, frequencies, rng.uniform(0, 2 * np.pi, features))

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


@model(
    "private-sums",
    "Iterative Study",
    "sums of distances or kernels over private points",
    examples=(Example("real-vector", SMALL), Example("real-vector", {**SMALL, "rule": "fourier", "project": 3})),
)
class PrivateSums(Study):
    """Answers ``sums`` (m,) for queries, of |x - y|_1 or, by rule ``fourier``, exp(-|x - y|^2).

    Args:
        info: not used.
        rule: the structure, by name.
        dims, rows: of the private points, which are of five clusters.
        queries, problems: how many.
        epsilon: of privacy.
        cells: leaves of a tree (a power of two), cells of a histogram or places of a grid, a coordinate.
        alpha: of a tree.
        features, project: see `Fourier.draw`.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Literal["tree", "histogram", "grid", "fourier"] = "tree",
        dims: PositiveInt = 4,
        rows: PositiveInt = 5000,
        queries: PositiveInt = 500,
        problems: PositiveInt = 4,
        epsilon: PositiveFloat = 1.0,
        cells: PositiveInt = 256,
        alpha: PositiveFloat = 0.1,
        features: PositiveInt = 400,
        project: NonNegativeInt = 0,
    ) -> None:
        super().__init__(info, problems=problems)
        if rule == "tree" and cells.bit_count() != 1:
            raise UserError(f"a tree of {cells} leaves is not balanced", where="cells", fix="a power of two")
        self.rule, self.sizes, self.epsilon = rule, (dims, rows, queries), epsilon
        self.cells, self.alpha, self.features, self.project = cells, alpha, features, project

    def problem(self, rng: np.random.Generator) -> Problem:
        """Points ``x`` (n, d) and queries ``y`` (m, d): in the unit cube, queries uniform, for distances; for kernels
        of one law, distances in a cluster about 0.7 and between clusters about 1.2."""
        d, n, m = self.sizes
        if self.rule == "fourier":
            centres = rng.standard_normal((CLUSTERS, d)) / (2 * d) ** 0.5
            points = centres[rng.integers(CLUSTERS, size=n + m)] + rng.standard_normal((n + m, d)) / (4 * d) ** 0.5
            x, y = points[:n], points[n:]
            sums = np.exp(2 * y @ x.T - (x**2).sum(1) - (y**2).sum(1)[:, None]).sum(1)
        else:
            centres = rng.uniform(0.2, 0.8, (CLUSTERS, d))
            x = np.clip(centres[rng.integers(CLUSTERS, size=n)] + 0.1 * rng.standard_normal((n, d)), 0.0, 1.0)
            y = rng.uniform(size=(m, d))
            sums = sum(np.abs(a[:, None] - b).sum(1) for a, b in zip(y.T, x.T, strict=True))
        return Problem({"x": x, "y": y}, {"sums": sums})

    def structure(self, rng: np.random.Generator) -> Any:
        d = self.sizes[0]
        if self.rule == "fourier":
            return Fourier.draw(d, self.features, self.project, rng)
        if self.rule == "tree":
            return Tree(d, self.cells, self.alpha)
        return (Grid if self.rule == "grid" else Histogram)(d, self.cells)

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        structure = self.structure(rng)
        return {"sums": structure.answers(release(structure, given["x"], self.epsilon, rng), given["y"])}

    def microseconds(self, i: int) -> float:
        """Least time of a query of problem `i`, of 20 passes over all, after the release."""
        given, rng = self.problem(self._stream(i, "problem")).given, self._stream(i, "answer")
        structure = self.structure(rng)
        noisy, taken = release(structure, given["x"], self.epsilon, rng), []
        for _ in range(20):
            since = time.perf_counter()
            structure.answers(noisy, given["y"])
            taken.append(time.perf_counter() - since)
        return 1e6 * min(taken) / len(given["y"])


@metric("sums_relative_error", "Study", "1", "lower", within=(0.0, None))
def sums_relative_error(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean over queries of |answer - sum| / sum."""
    return over_problems(
        model, lambda truth, answer: float(np.mean(np.abs(answer["sums"] - truth["sums"]) / truth["sums"]))
    )


@metric("query_decades", "Study", "log10 us", "lower")
def query_decades(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean log10 of the microseconds of a query, after the release: for comparison on one machine alone."""
    if not isinstance(model, PrivateSums):
        raise UserError(f"{type(model).__name__} releases no sums", where="query_decades", fix="measure private-sums")
    return MetricValue(float(np.mean([np.log10(model.microseconds(i)) for i in range(model.problems)])))
