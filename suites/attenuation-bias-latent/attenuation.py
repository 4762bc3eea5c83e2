"""Slopes on latent predictors, and their corrections (Jerzak & Jessee 2025, arXiv 2507.22218).

A trait x ~ N(0, 1) is seen through binary indicators alone. An estimate of it is scaled to unit variance, as the model
leaves its scale free, and that rescaling is what classical corrections for measurement error do not know. With rho the
correlation of two estimates, each from half of the indicators, an estimate is x / sqrt(1 / rho) up to noise, so that a
regression on a half comes to slope * sqrt(rho), and one half as the instrument of the other to slope / sqrt(rho).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from latentbench.core.capabilities import Study as Answered
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models import checks
from latentbench.models.study import Problem, Study
from pydantic import PositiveFloat, PositiveInt
from scipy.special import ndtr
from torch import Generator

#: The smallest correlation of two halves that a correction divides by.
LEAST = 0.01
SMALL = (Example("real-vector", {"rows": 60, "indicators": 5, "problems": 2, "resamples": 3, "partitions": 2}),)


class SlopeStudy(Study):
    """y = slope * x + noise, and indicators that are one with probability Phi(loading * x + N(0, 1/4)).

    An answer has the slope and a 95 % interval by percentiles over resampled rows.

    Args:
        info: not used.
        rows, indicators: of a problem; indicators at least 2.
        slope, noise: of the outcome; standard deviation of its noise.
        loading: how much the indicators say of the trait.
        scores: the estimate of the trait: first principal component of the indicators, or their mean.
        partitions: random halvings that corrections average over.
        resamples: of rows, for the interval.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rows: PositiveInt = 1000,
        indicators: PositiveInt = 10,
        slope: float = 0.4,
        noise: PositiveFloat = 0.35,
        loading: PositiveFloat = 0.5,
        scores: Literal["component", "mean"] = "component",
        partitions: PositiveInt = 10,
        resamples: PositiveInt = 50,
        problems: PositiveInt = 50,
    ) -> None:
        super().__init__(info, problems=problems)
        self.rows, self.indicators = rows, checks.whole("indicators", indicators, 2)
        self.slope, self.noise, self.loading = slope, noise, loading
        self.scores, self.partitions, self.resamples = scores, partitions, resamples

    def problem(self, rng: np.random.Generator) -> Problem:
        x = rng.standard_normal(self.rows)
        y = self.slope * x + self.noise * rng.standard_normal(self.rows)
        shape = (self.rows, self.indicators)
        items = rng.random(shape) < ndtr(self.loading * x[:, None] + 0.5 * rng.standard_normal(shape))
        return Problem({"y": y, "items": items.astype(float), "trait": x}, {"slope": self.slope})

    def answer(self, given: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
        """The slope with its interval."""
        y, items, trait = given["y"], given["items"], given["trait"]
        slopes = []
        for _ in range(self.resamples):
            rows = rng.integers(len(y), size=len(y))
            slopes.append(self.estimate(y[rows], items[rows], trait[rows], rng))
        low, high = np.quantile(slopes, [0.025, 0.975])
        return {"slope": self.estimate(y, items, trait, rng), "low": low, "high": high}

    @abstractmethod
    def estimate(self, y: np.ndarray, items: np.ndarray, trait: np.ndarray, rng: np.random.Generator) -> float:
        """The slope of y (N,) on what the items (N, D) measure; `trait` (N,) is for a ceiling alone."""

    def score(self, items: np.ndarray) -> np.ndarray:
        """Estimated trait (N,) of mean 0 and variance 1, higher where more items are one."""
        centred = items - items.mean(0)
        if self.scores == "component":
            weights = np.linalg.eigh(centred.T @ centred)[1][:, -1]
            raw = centred @ (weights * (np.sign(weights.sum()) or 1.0))
        else:
            raw = centred.sum(1)
        return raw / raw.std() if raw.any() else raw

    def halves(self, items: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Scores by two random halves of the items."""
        order = rng.permutation(items.shape[1])
        first, second = np.array_split(order, 2)
        return self.score(items[:, first]), self.score(items[:, second])


def regress(y: np.ndarray, x: np.ndarray) -> float:
    """Least-squares slope of y on x of unit variance, with a constant."""
    return float(np.mean((y - y.mean()) * x))


@model("slope-trait-known", "Iterative Study", examples=SMALL)
class Known(SlopeStudy):
    """Regression on the trait itself: what nobody has."""

    def estimate(self, y: np.ndarray, items: np.ndarray, trait: np.ndarray, rng: np.random.Generator) -> float:
        return regress(y, trait - trait.mean()) / float(trait.var())


@model("slope-naive", "Iterative Study", examples=SMALL)
class Naive(SlopeStudy):
    """Regression on the score of all items; measurement error is ignored."""

    def estimate(self, y: np.ndarray, items: np.ndarray, trait: np.ndarray, rng: np.random.Generator) -> float:
        return regress(y, self.score(items))


@model("slope-composition", "Iterative Study", examples=SMALL)
class Composition(SlopeStudy):
    """Method of composition (Treier & Jackman 2008): mean slope on draws of the trait's posterior, each rescaled.

    The posterior is that of a factor model with one factor; `partitions` is the number of draws.
    """

    def estimate(self, y: np.ndarray, items: np.ndarray, trait: np.ndarray, rng: np.random.Generator) -> float:
        from sklearn.decomposition import FactorAnalysis

        fitted = FactorAnalysis(1, tol=1e-3).fit(items)
        mean = fitted.transform(items)[:, 0] * (np.sign(fitted.components_.sum()) or 1.0)
        spread = (1.0 + np.sum(fitted.components_**2 / fitted.noise_variance_)) ** -0.5
        slopes = []
        for _ in range(self.partitions):
            drawn = mean + spread * rng.standard_normal(len(y))
            slopes.append(regress(y, (drawn - drawn.mean()) / drawn.std()))
        return float(np.mean(slopes))


class Split(SlopeStudy):
    """Mean over random halvings of the items, and over which half comes first."""

    def estimate(self, y: np.ndarray, items: np.ndarray, trait: np.ndarray, rng: np.random.Generator) -> float:
        slopes = []
        for _ in range(self.partitions):
            one, other = self.halves(items, rng)
            rho = max(LEAST, float(np.mean(one * other)))
            slopes += [self.halved(y, one, other, rho), self.halved(y, other, one, rho)]
        return float(np.mean(slopes))

    @abstractmethod
    def halved(self, y: np.ndarray, one: np.ndarray, other: np.ndarray, rho: float) -> float:
        """The slope by two scores (N,) of unit variance, whose correlation is `rho`."""


@model("slope-instrument", "Iterative Study", examples=SMALL)
class Instrument(Split):
    """One half as the instrument of the other: right where scores are not rescaled, too large where they are."""

    def halved(self, y: np.ndarray, one: np.ndarray, other: np.ndarray, rho: float) -> float:
        return regress(y, other) / rho


@model("slope-corrected", "Iterative Study", examples=SMALL)
class Corrected(Split):
    """The slope on a half divided by the root of the halves' correlation: the paper's.

    The instrument's slope times that root, the authors' other correction, is the same number: averaged over which half
    comes first, both are the mean of the two slopes over the root.
    """

    def halved(self, y: np.ndarray, one: np.ndarray, other: np.ndarray, rho: float) -> float:
        return regress(y, one) / rho**0.5


def _error(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    return float(answer["slope"]) / truth["slope"] - 1.0


@metric("slope_bias", "Study", "1", "lower", within=(0.0, None))
def slope_bias(model: Answered, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Size of the mean error of the slope, as a share of the slope."""
    mean = over_problems(model, _error)
    return MetricValue(abs(mean.value), mean.se, mean.n, {"signed": mean.value})


@metric("slope_rms_error", "Study", "1", "lower", within=(0.0, None))
def slope_rms_error(model: Answered, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Root of the mean squared error of the slope, as a share of the slope."""
    mean = over_problems(model, lambda truth, answer: _error(truth, answer) ** 2)
    return MetricValue(mean.value**0.5, None if mean.se is None else mean.se / (2 * mean.value**0.5), mean.n)


@metric("slope_covered", "Study", "1", "higher", within=(0.0, 1.0))
def slope_covered(model: Answered, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Share of problems whose 95 % interval holds the slope."""
    return over_problems(model, lambda truth, answer: float(answer["low"] <= truth["slope"] <= answer["high"]))
