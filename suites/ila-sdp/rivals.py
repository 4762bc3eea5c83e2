"""What the programs are held against: k-means, EM, hard EM, and what could be had with all parameters known."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models.study import Arrays
from numpy import ndarray
from pydantic import NonNegativeInt
from sklearn.mixture import GaussianMixture

from . import sdp
from .clusters import ClusterStudy, Start, k_means, nearest

EXAMPLES = (Example("real-vector", {"problems": 2, "rows": 24, "dimension": 3}),)
SEARCH = (Example("real-vector", {"problems": 2, "rows": 24, "dimension": 3, "restarts": 2}),)


@model("kmeans-clusters", "Iterative Study Clusterer", "k-means++, best of ten", examples=EXAMPLES)
class KMeansClusters(ClusterStudy):
    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        return {"labels": k_means(given["x"], self.groups, rng)}


@model("random-clusters", "Iterative Study Clusterer", "rows by the nearest of K random rows", examples=EXAMPLES)
class RandomClusters(ClusterStudy):
    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        return {"labels": given["random"]}


@model("bayes-clusters", "Iterative Study Clusterer", "all parameters known", examples=EXAMPLES)
class BayesClusters(ClusterStudy):
    """The group of the greatest density."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        return {"labels": log_densities(given["x"], given["means"], given["covariances"]).argmax(1)}


def log_densities(x: ndarray, means: ndarray, covariances: ndarray) -> ndarray:
    """(n, K) of rows (n, d), without -d log(2 pi) / 2."""
    found = np.empty((len(x), len(means)))
    for k, (mean, s) in enumerate(zip(means, covariances, strict=True)):
        root = np.linalg.cholesky(s)
        found[:, k] = -np.log(np.diag(root)).sum() - (np.linalg.solve(root, (x - mean).T) ** 2).sum(0) / 2
    return found


class Local(ClusterStudy):
    """A search that climbs from a partition; the best by its own likelihood of the start and of random starts.

    Args:
        start: the first partition.
        restarts: from the nearest of K random rows.
    """

    def __init__(self, info: DataInfo, *, start: Start = "kmeans", restarts: NonNegativeInt = 0, **design: Any) -> None:
        super().__init__(info, **design)
        self.start_from, self.restarts = start, restarts

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        x = given["x"]
        starts = [self.started(given, self.start_from, rng)]
        starts += [nearest(x, x[rng.choice(len(x), self.groups, replace=False)]) for _ in range(self.restarts)]
        return {"labels": max((self.climb(x, start) for start in starts), key=lambda found: found[1])[0]}

    @abstractmethod
    def climb(self, x: ndarray, labels: ndarray) -> tuple[ndarray, float]:
        """Labels (n,) and the log likelihood reached."""


@model("em-clusters", "Iterative Study Clusterer", "EM, a covariance each", examples=SEARCH)
class Em(Local):
    """Expectation-maximisation of the mixture; the floor is added to variances."""

    def climb(self, x: ndarray, labels: ndarray) -> tuple[ndarray, float]:
        z = sdp.lifted(labels, self.groups)
        weights = z.sum(2)
        mixture = GaussianMixture(
            self.groups,
            reg_covar=self.floor,
            max_iter=500,
            tol=1e-5,
            weights_init=weights.mean(1),
            means_init=weights @ x / weights.sum(1, keepdims=True),
            precisions_init=np.linalg.inv(sdp.covariances(x, z, self.floor)),
        ).fit(x)
        return mixture.predict(x), float(mixture.score(x))


@model("hard-em-clusters", "Iterative Study Clusterer", "turns of labels and parameters", examples=SEARCH)
class HardEm(Local):
    """Local search for what iLA-SDP relaxes: each row to the group of the greatest density, until none moves."""

    def climb(self, x: ndarray, labels: ndarray) -> tuple[ndarray, float]:
        for _ in range(100):
            z = sdp.lifted(labels, self.groups)
            weights = z.sum(2)
            means = weights @ x / weights.sum(1, keepdims=True)
            moved = log_densities(x, means, sdp.covariances(x, z, self.floor)).argmax(1)
            if (moved == labels).all() or len(np.unique(moved)) < self.groups:
                break
            labels = moved
        return labels, sdp.exact_likelihood(x, labels, self.floor)
