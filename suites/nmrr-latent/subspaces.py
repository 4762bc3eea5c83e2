"""Estimates of the latent subspace: moments with scores of first and second order, and least squares of low rank.

y = F(B' x) + noise with unknown links F. What is found is the column space of B (p, r), at several numbers of rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.view import View
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import PositiveFloat, PositiveInt
from torch import Generator

from .designs import ELEMENTARY, Elliptical, Links, scatter_matrix

SMALL = {"problems": 2, "rows": [60, 90], "variables": 6, "rank": 2}
EXAMPLES = (Example("real-vector", SMALL), Example("real-vector", {**SMALL, "law": "t", "links": "neighbours"}))
Arrays = Mapping[str, Any]


class Subspaces(Study):
    """Answers are orthonormal bases, (numbers of rows, p, r).

    Args:
        info: of the data, which are not looked at.
        law: of x.
        links: see `designs.Links`.
        rows: numbers n of rows; the first rows of the largest sample.
        variables: p.
        responses: q.
        rank: r, which the procedures are told.
        noise: standard deviation of the responses' noise.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        law: Literal["normal", "hyperbolic", "t"] = "normal",
        links: Literal["linear", "neighbours", "pairs"] = "linear",
        rows: tuple[PositiveInt, ...] = (300, 1000),
        variables: PositiveInt = 30,
        responses: PositiveInt = 20,
        rank: PositiveInt = 3,
        noise: PositiveFloat = 0.5,
        problems: PositiveInt = 10,
    ) -> None:
        super().__init__(info, problems=problems)
        if links != "linear" and responses != 2 * len(ELEMENTARY):
            raise UserError(f"responses is {responses}", fix=f"{2 * len(ELEMENTARY)} where links are not linear")
        if min(rows) <= variables or rank > variables:
            raise UserError("fewer rows than variables, or variables than latents", fix="give more rows")
        self.law, self.links, self.rows = Elliptical(law), links, tuple(rows)
        self.variables, self.responses, self.rank, self.noise = variables, responses, rank, noise

    def problem(self, rng: np.random.Generator) -> Problem:
        p, q, r, n = self.variables, self.responses, self.rank, max(self.rows)
        basis = np.linalg.svd(rng.standard_normal((p, q)), full_matrices=False)[0][:, :r]
        links = Links(rng, self.links, r, q)
        x = self.law.draw(rng, n, scatter_matrix(rng, p))
        return Problem({"x": x, "y": links(x @ basis) + self.noise * rng.standard_normal((n, q))}, {"basis": basis})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        return {"bases": np.stack([self.basis(given["x"][:n], given["y"][:n], rng) for n in self.rows])}

    @abstractmethod
    def basis(self, x: ndarray, y: ndarray, rng: np.random.Generator) -> ndarray:
        """(p, r), orthonormal, of x (n, p) and y (n, q)."""


@model("stein-first-order", "Iterative Study", "left singular vectors of the mean of s(x) y'", examples=EXAMPLES)
class FirstOrder(Subspaces):
    """Algorithm 1, with the score of the law that fits x best."""

    def basis(self, x: ndarray, y: ndarray, rng: np.random.Generator) -> ndarray:
        u, q, _ = whitened(self.law, x)
        scores = self.law.weight(q, x.shape[1])[:, None] * u
        return np.linalg.svd(scores.T @ y / len(x))[0][:, : self.rank]


@model("stein-second-order", "Iterative Study", "eigenvectors of the mean of y T(x)", examples=EXAMPLES)
class SecondOrder(Subspaces):
    """Algorithm 2: those of the greatest absolute eigenvalues, with T(x) = s(x) s(x)' - ds/dx."""

    def basis(self, x: ndarray, y: ndarray, rng: np.random.Generator) -> ndarray:
        n, p = x.shape
        u, q, inverse = whitened(self.law, x)
        weight, total = self.law.weight(q, p), y.mean(1)
        outer = (u * (total * (weight**2 - 2.0 * self.law.slope(q, p)))[:, None]).T @ u / n
        values, vectors = np.linalg.eigh(outer - (total * weight).mean() * inverse)
        return vectors[:, np.argsort(-np.abs(values))[: self.rank]]


@model("reduced-rank-regression", "Iterative Study", "least squares of rank r", examples=EXAMPLES)
class ReducedRank(Subspaces):
    """Left singular vectors of the coefficients (supplement I.4)."""

    def basis(self, x: ndarray, y: ndarray, rng: np.random.Generator) -> ndarray:
        coefficients = np.linalg.lstsq(x, y, rcond=None)[0]
        leading = np.linalg.svd(x @ coefficients, full_matrices=False)[2][: self.rank].T
        return np.linalg.svd(coefficients @ leading @ leading.T)[0][:, : self.rank]


@model("principal-components", "Iterative Study", "leading eigenvectors of x's covariance", examples=EXAMPLES)
class PrincipalComponents(Subspaces):
    """What x alone tells of the subspace: here nothing."""

    def basis(self, x: ndarray, y: ndarray, rng: np.random.Generator) -> ndarray:
        return np.linalg.eigh(np.cov(x.T))[1][:, -self.rank :]


def whitened(law: Elliptical, x: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """S^-1 x (n, p) and x' S^-1 x (n,) of x less its mean, with S of greatest likelihood; and S^-1."""
    x = x - x.mean(0)
    inverse = np.linalg.inv(law.scatter(x))
    u = x @ inverse
    return u, (x * u).sum(1), inverse


def distance(basis: ndarray, found: ndarray) -> float:
    """Root of the mean squared sine between two subspaces, of orthonormal (p, r): 0 where they are one, 1 at most.

    The authors' code measures this, what B keeps outside of the found subspace over the root of r; the distance (3.1)
    of the paper's text lies between it and its product with the root of 2 r.
    """
    return float(np.linalg.norm(basis - found @ (found.T @ basis)) / np.sqrt(basis.shape[1]))


def _distances(model: Any) -> ndarray:
    """(problems, numbers of rows)"""
    return np.array([[distance(t["basis"], found) for found in a["bases"]] for t, a in model.answered()])


@metric("subspace_distance", "Study", "1", "lower", settings={"rows": -1}, lowest={"rows": -1}, within=(0.0, 1.0))
def subspace_distance(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Median over problems of `distance` to the true subspace, at one number of rows (0 the first, -1 the last).

    The standard error is a normal sample's; medians at each number of rows are in the details.
    """
    distances = _distances(model)
    column = distances[:, int(settings["rows"])]
    se = float(1.2533 * column.std(ddof=1) / np.sqrt(len(column))) if len(column) > 1 else None
    details = {str(n): float(d) for n, d in zip(model.rows, np.median(distances, axis=0), strict=True)}
    return MetricValue(float(np.median(column)), se, len(column), details)


@metric("subspace_exponent", "Study", "1", "lower")
def subspace_exponent(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Least-squares slope of the log of the median distance in the log of the number of rows."""
    if len(model.rows) < 2:
        raise UserError("a rate is of several numbers of rows", where="subspace_exponent", fix="give `rows` two")
    medians = np.median(_distances(model), axis=0)
    return MetricValue(float(np.polyfit(np.log(model.rows), np.log(medians), 1)[0]), None, model.problems)
