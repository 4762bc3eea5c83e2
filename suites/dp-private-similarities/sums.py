"""Private sums on simulated clusters, private classes, and what is measured of both."""

from __future__ import annotations

import time
from collections.abc import Mapping
from copy import copy
from typing import Any, Literal

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import answer_ms, over_problems
from latentbench.evaluation.view import View
from latentbench.metrics.arrays import mean_and_se
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator

from .structures import Grid, Histogram, Structure, Tree, Uniform, fourier, release

SMALL = {"rows": 40, "queries": 7, "problems": 2}
CLUSTERS, CLASSES, INNER = 5, 10, 16


@model(
    "private-sums",
    "Iterative Study",
    "sums of distances or kernels over private points",
    examples=(Example("real-vector", SMALL), Example("real-vector", {**SMALL, "rule": "fourier", "project": 3})),
)
class PrivateSums(Study):
    """Answers ``sums`` (m,) for queries, of |x - y|_1 or, by rule ``fourier``, exp(-|x - y|^2 / width^2).

    Args:
        info: not used.
        rule: `structures`, by name.
        dims, rows: of the private points, which are of five clusters.
        queries, problems: how many.
        epsilon: of privacy.
        cells: leaves (a power of two), cells or places of a coordinate.
        alpha: of a tree.
        features, project, width: see `structures.fourier`.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Literal["tree", "histogram", "grid", "uniform", "fourier"] = "tree",
        dims: PositiveInt = 4,
        rows: PositiveInt = 5000,
        queries: PositiveInt = 500,
        problems: PositiveInt = 4,
        epsilon: PositiveFloat = 1.0,
        cells: PositiveInt = 1024,
        alpha: PositiveFloat = 0.2,
        features: PositiveInt = 400,
        project: NonNegativeInt = 0,
        width: PositiveFloat = 1.0,
    ) -> None:
        super().__init__(info, problems=problems)
        if rule == "tree" and cells.bit_count() != 1:
            raise UserError(f"a tree of {cells} leaves is not balanced", where="cells", fix="a power of two")
        self.rule, self.sizes, self.epsilon = rule, (dims, rows, queries), epsilon
        self.cells, self.alpha, self.kernel = cells, alpha, (features, width, project)

    def problem(self, rng: np.random.Generator) -> Problem:
        """Points ``x`` (n, d) and queries ``y`` (m, d): in the unit cube, queries uniform, for distances; for kernels
        of one law, distances in a cluster about 0.7 and between clusters about 1.2."""
        d, n, m = self.sizes
        if self.rule == "fourier":
            centres = rng.standard_normal((CLUSTERS, d)) / (2 * d) ** 0.5
            points = centres[rng.integers(CLUSTERS, size=n + m)] + rng.standard_normal((n + m, d)) / (4 * d) ** 0.5
            x, y = points[:n], points[n:]
            squares = (x**2).sum(1) + (y**2).sum(1)[:, None] - 2 * y @ x.T
            return Problem({"x": x, "y": y}, {"sums": np.exp(-squares / self.kernel[1] ** 2).sum(1)})
        centres = rng.uniform(0.2, 0.8, (CLUSTERS, d))
        x = np.clip(centres[rng.integers(CLUSTERS, size=n)] + 0.1 * rng.standard_normal((n, d)), 0.0, 1.0)
        y = rng.uniform(size=(m, d))
        sums = sum(np.abs(a[:, None] - b).sum(1) for a, b in zip(y.T, x.T, strict=True))
        return Problem({"x": x, "y": y}, {"sums": sums})

    def structure(self, rng: np.random.Generator) -> Structure:
        d, n, _ = self.sizes
        if self.rule == "tree":
            return Tree(d, self.cells, self.alpha)
        if self.rule == "uniform":
            return Uniform(n)
        if self.rule == "fourier":
            return fourier(d, *self.kernel, rng)
        return (Grid if self.rule == "grid" else Histogram)(d, self.cells)

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        structure = self.structure(rng)
        return {"sums": structure.answers(release(structure, given["x"], self.epsilon, rng), given["y"])}

    def microseconds(self, i: int) -> float:
        """Least time of a query of problem `i`, of five passes over all, after the release."""
        given, rng = self.problem(self._stream(i, "problem")).given, self._stream(i, "answer")
        structure = self.structure(rng)
        noisy, taken = release(structure, given["x"], self.epsilon, rng), []
        for _ in range(5):
            since = time.perf_counter()
            structure.answers(noisy, given["y"])
            taken.append(1e6 * (time.perf_counter() - since) / len(given["y"]))
        return min(taken)


def descent(
    x: ndarray, y: ndarray, steps: int, rate: float, epsilon: float, delta: float, rng: np.random.Generator
) -> ndarray:
    """Weights (d, CLASSES) of a softmax by `steps` of gradient descent on all rows, (epsilon, delta)-private.

    Gradients of rows, whose inputs x (n, d) are of norm 1, are clipped to norm 1; Gaussian noise on their sum. Steps
    are of zero-concentrated privacy rho = steps / (2 sigma^2), with epsilon = rho + 2 sqrt(rho log(1 / delta)) (Bun &
    Steinke 2016).
    """
    log = -np.log(delta)
    sigma = (steps / 2) ** 0.5 / ((log + epsilon) ** 0.5 - log**0.5)
    weights, targets, rows = np.zeros((x.shape[1], CLASSES)), np.eye(CLASSES)[y], np.ascontiguousarray(x.T)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    for _ in range(steps):
        errors = x @ weights
        errors = np.exp(errors - errors.max(1, keepdims=True))
        errors = errors / errors.sum(1, keepdims=True) - targets
        errors /= np.maximum(1.0, np.sqrt((errors**2).sum(1, keepdims=True)) * norms)
        weights -= rate / len(x) * (rows @ errors + sigma * rng.standard_normal(weights.shape))
    return weights


@model(
    "private-classes",
    "Iterative Study",
    "classes by private similarity, or by private descent",
    examples=(Example("real-vector", SMALL), Example("real-vector", {**SMALL, "rule": "descent", "steps": 3})),
)
class PrivateClasses(Study):
    """Answers ``labels`` (m,) for new rows, from private labelled ones: the class of the greatest sum, or a softmax.

    Ten classes are normal about means that are `apart` times as spread, in 16 dimensions that are laid into `dims` at
    random; rows are then of norm 1. A row is in the sum of one class alone: all classes together cost what one does.

    Args:
        info: not used.
        rule: ``similarity``, by kernels, or ``descent``, the softmax of `descent`.
        dims, apart, rows, queries, problems: see above; private rows, new ones, and how often.
        epsilon, delta: of privacy; similarity has a delta of 0.
        features, width, project: see `structures.fourier`.
        steps, rate: of descent.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Literal["similarity", "descent"] = "similarity",
        dims: PositiveInt = 256,
        apart: PositiveFloat = 1.1,
        rows: PositiveInt = 6000,
        queries: PositiveInt = 1000,
        problems: PositiveInt = 4,
        epsilon: PositiveFloat = 1.0,
        delta: PositiveFloat = 1e-5,
        features: PositiveInt = 300,
        width: PositiveFloat = 1.0,
        project: NonNegativeInt = 0,
        steps: PositiveInt = 10,
        rate: PositiveFloat = 20.0,
    ) -> None:
        super().__init__(info, problems=problems)
        self.rule, self.sizes, self.apart = rule, (dims, rows, queries), apart
        self.privacy, self.kernel, self.training = (epsilon, delta), (features, width, project), (steps, rate)

    def problem(self, rng: np.random.Generator) -> Problem:
        """Private rows ``x`` (n, d) and their classes ``y`` (n,), new rows ``new`` (m, d)."""
        d, n, m = self.sizes
        means, y = self.apart * rng.standard_normal((CLASSES, INNER)), rng.integers(CLASSES, size=n + m)
        x = (means[y] + rng.standard_normal((n + m, INNER))) @ rng.standard_normal((INNER, d))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return Problem({"x": x[:n], "y": y[:n], "new": x[n:]}, {"labels": y[n:]})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        x, y, (epsilon, delta) = given["x"], given["y"], self.privacy
        if self.rule == "descent":
            return {"labels": (given["new"] @ descent(x, y, *self.training, epsilon, delta, rng)).argmax(1)}
        structure = fourier(x.shape[1], *self.kernel, rng)
        noisy = np.stack([release(structure, x[y == c], epsilon, rng) for c in range(CLASSES)], 1)
        return {"labels": structure.answers(noisy, given["new"]).argmax(1)}

    def rival(self) -> PrivateClasses:
        """The same study by descent."""
        other = copy(self)
        other.rule = "descent"
        return other


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


def wrong(truth: Arrays, answer: Arrays) -> float:
    """Share of labels that are not the true ones."""
    return float(np.mean(answer["labels"] != truth["labels"]))


def classes_of(model: Any, name: str) -> PrivateClasses:
    """The model, or UserError where it finds no classes."""
    if not isinstance(model, PrivateClasses):
        raise UserError(f"{type(model).__name__} finds no classes", where=name, fix="measure private-classes")
    return model


@metric("misclassified", "Study", "1", "lower", within=(0.0, 1.0))
def misclassified(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean share of new rows whose class is not found."""
    return over_problems(classes_of(model, "misclassified"), wrong)


@metric("misclassified_more", "Study", "1", "lower", within=(-1.0, 1.0))
def misclassified_more(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean of `misclassified` less that of private descent, as the model is set for it, on the same rows."""
    rival = classes_of(model, "misclassified_more").rival()
    answered = enumerate(model.answered())
    mean, se = mean_and_se(np.asarray([wrong(t, own) - wrong(t, rival.again(i)()) for i, (t, own) in answered]))
    return MetricValue(mean, se if model.problems > 1 else None, model.problems)


@metric("answer_decades", "Study", "log10 ms", "lower")
def answer_decades(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Log10 of `answer_ms`, of release and classes of all new rows: for comparison on one machine alone."""
    classes_of(model, "answer_decades")
    return MetricValue(float(np.log10(answer_ms(model, view, {"problems": 5}, generator).value)))
