"""Laws of single targets that are scale mixtures of normal laws, and how well they foretell what came.

An answer of `regression` holds for each of M targets ``mean`` and ``std``, where the last layer's variance is 1, and of
that variance, the same for all, a `Scale`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.metrics.prediction import rmse
from latentbench.models.study import Arrays, Study
from scipy.special import gammaln, logsumexp, ndtr, stdtr
from torch import Generator

LEVEL = 0.95


class Scale(NamedTuple):
    """Law of a target's deviation from the mean: Student's t of `df` (normal where infinite) with variance factors
    `variances` (S,) in the proportions `weights` (S,)."""

    df: float
    weights: np.ndarray
    variances: np.ndarray


def log_density(law: Arrays, y: np.ndarray) -> np.ndarray:
    """Log densities (M,) of targets under an answer."""
    df, spread = float(law["df"]), np.sqrt(np.outer(law["variances"], law["std"] ** 2))
    squared = np.square((y - law["mean"]) / spread)
    if np.isfinite(df):
        top = gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * np.log(df * np.pi)
        each = top - (df + 1) / 2 * np.log1p(squared / df) - np.log(spread)
    else:
        each = -0.5 * (np.log(2 * np.pi) + squared) - np.log(spread)
    return logsumexp(each, axis=0, b=law["weights"][:, None]) if len(each) > 1 else each[0]


def distribution(law: Arrays, y: np.ndarray) -> np.ndarray:
    """Distribution functions (M,) of an answer's laws at targets."""
    df, spread = float(law["df"]), np.sqrt(np.outer(law["variances"], law["std"] ** 2))
    z = (y - law["mean"]) / spread
    return law["weights"] @ (stdtr(df, z) if np.isfinite(df) else ndtr(z))


def fixed(variance: float) -> Scale:
    """Normal laws with a last layer of one variance."""
    return Scale(np.inf, np.ones(1), np.array([variance]))


def covered(law: Arrays, y: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """(M,) flags of targets in their central intervals of that probability."""
    return np.abs(distribution(law, y) - 0.5) <= level / 2


@metric("law_nll", "Study", "nats", "lower")
def law_nll(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean negative log density of a test target, in units of the training targets' standard deviation."""
    return over_problems(model, lambda truth, answer: -log_density(answer, truth["y"]).mean())


@metric("law_rmse", "Study", "1", "lower", within=(0.0, None))
def law_rmse(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Root mean squared error of the laws' means, in units of the training targets' standard deviation."""
    return over_problems(model, lambda truth, answer: rmse(answer["mean"], truth["y"]).value)


@metric("law_miscoverage", "Study", "1", "lower", within=(0.0, 1.0))
def law_miscoverage(model: Study, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Size of the difference of 0.95 and the share of test targets in their central 95 % intervals, of all problems."""
    inside = np.concatenate([covered(answer, truth["y"]) for truth, answer in model.answered()])
    return MetricValue(abs(float(inside.mean()) - LEVEL), None, len(inside), {"covered": float(inside.mean())})
