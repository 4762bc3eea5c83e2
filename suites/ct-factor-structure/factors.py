"""Factor models with pure and shared children, as problems, and what is measured of the structures that are found.

x = Λ f + e with factors f of unit variance, correlated, and independent errors; x has unit variance. The answer of a
procedure is ``support`` (p, K), 1 where a variable loads on a factor; the order of factors means nothing.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import metric
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Arrays, Problem, Study
from pydantic import PositiveInt
from scipy.optimize import linear_sum_assignment
from torch import Generator

Violation = Literal["none", "thresholds", "children"]

#: Variables with one parent and with two (the next factor's too), for each factor.
PURE, SHARED = 4, 1


class FactorStudy(Study):
    """Problems of `factors` factors, each with four children of its own and one that it shares with the next.

    Loadings are 0.6 to 0.8 on one factor and 0.5 to 0.6 on either of two; factors correlate by 0.2.

    Args:
        info: of data that no study looks at.
        factors: their number; there are five times as many variables.
        rows: observations of a problem.
        violation: of what the search assumes. ``thresholds``: loadings on one factor are 0.3 to 0.9, so that no
            threshold parts all correlations within from all between; ``children``: of every fourth factor all children
            are shared with the next, so that it has no child of its own.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        factors: PositiveInt = 4,
        rows: PositiveInt = 500,
        violation: Violation = "none",
        problems: PositiveInt = 10,
    ) -> None:
        super().__init__(info, problems=problems)
        self.factors, self.rows, self.violation = factors, rows, violation

    def problem(self, rng: np.random.Generator) -> Problem:
        k, each = self.factors, PURE + SHARED
        p = k * each
        loadings = np.zeros((p, k))
        low, high = (0.3, 0.9) if self.violation == "thresholds" else (0.6, 0.8)
        for j in range(k):
            rows = np.arange(j * each, (j + 1) * each)
            childless = self.violation == "children" and j % 4 == 0
            shared = rows if childless else rows[PURE:]
            loadings[rows, j] = rng.uniform(low, high, each)
            if k > 1:
                loadings[shared, j] = rng.uniform(0.5, 0.6, len(shared))
                loadings[shared, (j + 1) % k] = rng.uniform(0.5, 0.6, len(shared))
        correlations = np.full((k, k), 0.2) + 0.8 * np.eye(k)
        common = loadings @ correlations @ loadings.T
        scores = rng.standard_normal((self.rows, k)) @ np.linalg.cholesky(correlations).T
        errors = rng.standard_normal((self.rows, p)) * np.sqrt(1 - np.diag(common))
        order = rng.permutation(p)
        x = (scores @ loadings.T + errors)[:, order]
        return Problem({"x": x}, {"support": (loadings[order] != 0).astype(float)})


def support_overlap(truth: np.ndarray, found: np.ndarray) -> float:
    """F1 of the entries of two supports (p, K) and (p, L), factors matched one to one for the most in common."""
    common = truth.T @ found
    rows, columns = linear_sum_assignment(-common)
    total = truth.sum() + found.sum()
    return float(2 * common[rows, columns].sum() / total)


@metric("matched_children", "Study", "1", "higher", within=(0.0, 1.0))
def matched_children(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean F1 of which variable loads on which factor, factors matched one to one."""
    return over_problems(model, lambda truth, answer: support_overlap(truth["support"], answer["support"]))


@metric("right_number", "Study", "1", "higher", within=(0.0, 1.0))
def right_number(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Share of problems where the number of factors is the true one."""
    return over_problems(model, lambda truth, answer: float(answer["support"].shape[1] == truth["support"].shape[1]))


@metric("number_error", "Study", "1", "lower", within=(0.0, None))
def number_error(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean of |factors found - true| / true."""

    def error(truth: Arrays, answer: Arrays) -> float:
        true = truth["support"].shape[1]
        return abs(answer["support"].shape[1] - true) / true

    return over_problems(model, error)
