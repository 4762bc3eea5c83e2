"""Correlation thresholding (Kim & Zhou 2023, arXiv 2203.01471): factors as independent maximal cliques.

At a threshold t variables are joined where |correlation| > t. A variable whose neighbourhood is complete shows a
maximal clique that no other clique gives its members in common: a factor, and the clique its children. Thresholds give
a path of structures; which one, a criterion on the fitted models says. Path and search follow the authors' R package
(github.com/daleskim/fact: steps of 0.02, cliques of two at least), which returns the path and chooses nothing; how one
is chosen here, by the Bayesian criterion of models fitted by EM or without any fit, is ours.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models.study import Arrays
from pydantic import PositiveInt

from .factors import FactorStudy, Violation

STEP = 0.02
ITERATIONS = 40  # of EM, a fit


def cliques_at(correlations: np.ndarray, threshold: float) -> np.ndarray:
    """(p, K) 0/1: the independent maximal cliques, of two members at least, of the graph at one threshold."""
    joined = np.abs(correlations) > threshold
    np.fill_diagonal(joined, True)
    degree = joined.sum(axis=1)
    found: dict[bytes, np.ndarray] = {}
    for row in joined:
        members = np.flatnonzero(row)
        complete = degree[members].min() >= len(members) > 1 and joined[np.ix_(members, members)].all()
        if complete:
            found.setdefault(row.tobytes(), row)
    return np.array(list(found.values())).reshape(-1, len(correlations)).T.astype(float)


def structures(correlations: np.ndarray) -> list[np.ndarray]:
    """Structures at thresholds 0, 0.02 … 1, those that name no more factors than half of the variables."""
    path = (cliques_at(correlations, threshold) for threshold in np.arange(0.0, 1.0, STEP))
    return [support for support in path if 0 < support.shape[1] <= len(correlations) / 2]


def fit(s: np.ndarray, support: np.ndarray, iterations: int = ITERATIONS) -> float:
    """Log likelihood, an observation, of a factor model with these loadings free, fitted by EM (Rubin & Thayer 1982).

    Factors are correlated. Inverses are of K x K by Woodbury's identity.

    Args:
        s: (p, p) correlations.
        support: (p, K) which loadings are free.
    """
    p, k = support.shape
    alike, group = np.unique(support.astype(bool), axis=0, return_inverse=True)
    groups = [(np.flatnonzero(group == g), np.flatnonzero(on)) for g, on in enumerate(alike) if on.any()]
    loadings, phi, psi = 0.7 * support / np.maximum(support.sum(axis=1, keepdims=True), 1), np.eye(k), np.full(p, 0.5)
    value = -np.inf
    for _ in range(iterations + 1):
        weighted = loadings / psi[:, None]
        inner = np.linalg.inv(np.linalg.inv(phi) + loadings.T @ weighted)
        beta = inner @ weighted.T  # (K, p) regression of factors on variables
        s_beta = s @ beta.T
        log_det = np.log(psi).sum() + np.linalg.slogdet(phi)[1] - np.linalg.slogdet(inner)[1]
        trace = (np.diag(s) / psi).sum() - np.sum(weighted * s_beta)
        value = -0.5 * (p * np.log(2 * np.pi) + log_det + trace)
        second = inner + beta @ s_beta
        for rows, on in groups:  # of variables with the same parents
            loadings[np.ix_(rows, on)] = np.linalg.solve(second[np.ix_(on, on)], s_beta[np.ix_(rows, on)].T).T
        psi = np.maximum(np.diag(s) - np.sum(loadings * s_beta, axis=1), 0.01)
        phi = second
    return float(value)


def bic(s: np.ndarray, support: np.ndarray, rows: int) -> float:
    """Bayesian information criterion: free loadings, errors, correlations of factors; the scale of a factor is one."""
    p, k = support.shape
    free = support.sum() + p + k * (k - 1) / 2
    return -2 * rows * fit(s, support) + free * np.log(rows)


@model(
    "correlation-thresholding",
    "Iterative Study",
    examples=(
        Example("real-vector", {"problems": 2, "choose": "bic"}),
        Example("real-vector", {"problems": 2, "choose": "longest"}),
    ),
)
class CorrelationThresholding(FactorStudy):
    """One structure of those along thresholds; where there is none, one factor of all variables.

    Args:
        info, factors, rows, violation, problems: of the problems.
        choose: ``bic``, the best criterion of fitted models; ``longest``, which fits nothing: the structure of most
            thresholds, of those with two factors or more.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        factors: PositiveInt = 4,
        rows: PositiveInt = 500,
        violation: Violation = "none",
        problems: PositiveInt = 10,
        choose: Literal["bic", "longest"] = "bic",
    ) -> None:
        super().__init__(info, factors=factors, rows=rows, violation=violation, problems=problems)
        self.choose = choose

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        s = np.corrcoef(given["x"].T)
        path = structures(s)
        if not path:
            return {"support": np.ones((len(s), 1))}
        several = [support for support in path if support.shape[1] > 1] or path
        times = Counter(support.tobytes() for support in several)
        if self.choose == "longest":
            return {"support": max(several, key=lambda support: times[support.tobytes()])}
        different = {support.tobytes(): support for support in path}.values()
        return {"support": min(different, key=lambda support: bic(s, support, len(given["x"])))}
