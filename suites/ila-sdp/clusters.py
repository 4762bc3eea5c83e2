"""Gaussian groups of unlike shape, and the semidefinite programs that part them: k-means SDP, LA-SDP and iLA-SDP."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.metrics.representation import kmeans
from latentbench.models import checks
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import PositiveFloat, PositiveInt
from torch import Generator

from . import sdp

Start = Literal["kmeans", "random", "merged"]
EXAMPLES = (Example("real-vector", {"problems": 2, "rows": 24, "dimension": 3}),)


class ClusterStudy(Study):
    """Groups of as many rows each, in random order, whose means are the corners of a regular simplex, turned at random.

    Covariances have a random basis each, eigenvalues in a geometric series and one determinant but for a factor.

    Args:
        info: not used.
        rows: n.
        dimension: d, at least groups - 1.
        groups: K.
        separation: distance of any two means.
        elongation: largest over smallest eigenvalue of a covariance.
        volume: one group's variances over those of the group before it; their geometric mean over groups is 1.
        floor: least eigenvalue of an estimated covariance, for every method that estimates one.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rows: PositiveInt = 75,
        dimension: PositiveInt = 4,
        groups: PositiveInt = 3,
        separation: PositiveFloat = 4.0,
        elongation: PositiveFloat = 20.0,
        volume: PositiveFloat = 2.0,
        floor: PositiveFloat = 0.01,
        problems: PositiveInt = 4,
    ) -> None:
        super().__init__(info, problems=problems)
        self.groups, self.rows = checks.whole("groups", groups, 2), checks.whole("rows", rows, 2 * groups)
        self.dimension = checks.whole("dimension", dimension, groups - 1)
        self.elongation = checks.number("elongation", elongation, least=1.0)
        self.separation, self.volume, self.floor = separation, volume, floor

    def problem(self, rng: np.random.Generator) -> Problem:
        k, d = self.groups, self.dimension
        labels = rng.permutation(np.arange(self.rows) % k)
        turns = np.linalg.qr(rng.standard_normal((k + 1, d, d)))[0]
        corners = np.zeros((k, d))
        corners[:, : k - 1] = np.linalg.svd(np.eye(k) - 1.0 / k)[0][:, : k - 1] / np.sqrt(2.0)
        means = self.separation * corners @ turns[k]
        powers = np.linspace(-0.5, 0.5, d) if d > 1 else np.zeros(1)
        volumes = self.volume ** (np.arange(k) - (k - 1) / 2)
        variances = volumes[:, None] * self.elongation**powers
        noise = rng.standard_normal((self.rows, d)) * np.sqrt(variances)[labels]
        x = means[labels] + np.einsum("nde,ne->nd", turns[labels], noise)
        given = {
            "x": x,
            "random": nearest(x, x[rng.choice(self.rows, k, replace=False)]),
            "merged": merged(x, labels, rng),
            "means": means,  # these two for ceilings alone
            "covariances": turns[:k] * variances[:, None, :] @ turns[:k].swapaxes(1, 2),
        }
        return Problem(given, {"labels": labels, "x": x, "floor": self.floor})

    def started(self, given: Arrays, start: Start, rng: np.random.Generator) -> ndarray:
        """Labels (n,) to start from: of k-means, nearest to random rows, or two groups merged and a third one split."""
        return k_means(given["x"], self.groups, rng) if start == "kmeans" else given[start]

    @abstractmethod
    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        """The `labels` of `x`."""


def k_means(x: ndarray, groups: int, rng: np.random.Generator) -> ndarray:
    """Labels (n,) of the best of ten runs from k-means++ starts."""
    return kmeans(x, groups, seed=int(rng.integers(2**31)))


def nearest(x: ndarray, centres: ndarray) -> ndarray:
    """Number of the centre (K, d) that is nearest to each row (n, d)."""
    return ((x[:, None] - centres) ** 2).sum(2).argmin(1)


def merged(x: ndarray, labels: ndarray, rng: np.random.Generator) -> ndarray:
    """A partition in which two groups are one and another is cut at its mean, across its longest axis."""
    groups = labels.max() + 1
    if groups < 3:
        raise UserError(f"{groups} groups", fix="three or more, of which two can be merged and a third one cut")
    one, other, cut = rng.choice(groups, 3, replace=False)
    found = np.where(labels == other, one, labels)
    rows = np.flatnonzero(labels == cut)
    centred = x[rows] - x[rows].mean(0)
    found[rows[centred @ np.linalg.svd(centred)[2][0] > 0]] = other
    return found


@model("kmeans-sdp", "Iterative Study Clusterer", "the relaxation of k-means (Peng & Wei 2007)", examples=EXAMPLES)
class KMeansSdp(ClusterStudy):
    """Labels by k-means on the K leading eigenvectors of Z."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        x = given["x"]
        a = sdp.affinities(x, np.eye(x.shape[1])[None])
        z = sdp.solve(a, np.array([float(self.groups)])).z[0]
        return {"labels": k_means(np.linalg.eigh(z)[1][:, -self.groups :], self.groups, rng)}


@model("la-sdp", "Iterative Study Clusterer", "likelihood adjusted SDP, covariances known", examples=EXAMPLES)
class LaSdp(ClusterStudy):
    """A row belongs to the k of the largest entry of Z_k 1; covariances are the true ones."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        z = sdp.solve(sdp.affinities(given["x"], given["covariances"]), np.ones(self.groups)).z
        return {"labels": z.sum(2).argmax(0)}


@model("ila-sdp", "Iterative Study Clusterer", "iterated likelihood adjusted SDP", examples=EXAMPLES)
class IlaSdp(ClusterStudy):
    """LA-SDP in turns with the covariances.

    Args:
        start: of the covariances.
        rounds: the most turns.
    """

    def __init__(self, info: DataInfo, *, start: Start = "kmeans", rounds: PositiveInt = 20, **design: Any) -> None:
        super().__init__(info, **design)
        self.start_from, self.rounds = start, rounds

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        labels = self.started(given, self.start_from, rng)
        z, reached = sdp.ascend(given["x"], labels, self.groups, self.floor, self.rounds)
        return {"labels": z.sum(2).argmax(0), "turns": len(reached)}


@metric("likelihood_excess", "Study", "nats", "higher")
def likelihood_excess(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean log likelihood a row of the partition that was found, over that of the true one, all parameters refitted."""

    def excess(truth: Arrays, answer: Arrays) -> float:
        x, floor = truth["x"], truth["floor"]
        return (
            sdp.exact_likelihood(x, answer["labels"], floor) - sdp.exact_likelihood(x, truth["labels"], floor)
        ) / len(x)

    return over_problems(model, excess)
