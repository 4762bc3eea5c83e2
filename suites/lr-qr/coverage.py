"""Coverage of a shifted target by thresholds of scores: Communities and Crime, and rows with a known density ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Arrays, Problem, Study
from latentbench.papers.lr_qr.regularised import Sample, choose, fit, strengths
from numpy import ndarray
from pydantic import PositiveInt
from torch import Generator, Tensor

ALPHA = 0.1
#: Columns of the registry's `communities-crime`.
COLUMNS = {"black": 2, "white": 3, "asian": 4, "hispanic": 5}
#: Of made rows: how far x_1 moves, and how the log of scores' scale grows with it.
TILT, GROWTH = 1.0, 0.3
#: Settings that are searched on folds of three, as many for either side: factors of lam* and C of logistic regression.
FACTORS, PENALTIES = np.logspace(-6, 0, 13), np.logspace(-3, 3, 13)
#: Factors of the paper's grid (section 5.1), and of each rule that is LR-QR.
EVEN = np.linspace(0.1, 1, 10)
RULES = {"lr-qr": FACTORS, "lr-qr-even": EVEN, "quantile-regression": np.zeros(1)}
SMALL = {"problems": 2, "rows": 60, "dimensions": 3}
EXAMPLES = (
    Example("real-vector", SMALL),
    Example("real-vector", {**SMALL, "rule": "weighted"}),
    Example("real-vector", {**SMALL, "rule": "oracle"}),
)


def quantile(scores: ndarray, weights: ndarray, extra: ndarray) -> ndarray:
    """Least of `scores` (N,) whose weight and that of lower ones reach 1 - ALPHA of all weight (T,), of which infinity
    has `extra` (T,)."""
    order = np.argsort(scores)
    heaped = np.cumsum(weights[order])
    place = np.searchsorted(heaped, (1 - ALPHA) * (heaped[-1] + extra) * (1 - 1e-12))
    return np.append(scores[order], np.inf)[place]


def regularised(given: Arrays, rng: np.random.Generator, factors: ndarray) -> ndarray:
    """LR-QR with all affine maps as hypotheses and the best of `factors` of lam*: thresholds (T,)."""
    x, target, new = (np.column_stack([np.ones(len(a)), a]) for a in (given["x"], given["target"], given["new"]))
    sample = Sample(x, given["scores"], target)
    lams = strengths(len(x), len(target), factors)
    found: ndarray = new @ fit(sample, choose(sample, lams, ALPHA, rng), ALPHA)[0]
    return found


def weighted(given: Arrays, penalties: ndarray) -> ndarray:
    """Weighted conformal prediction (Tibshirani et al. 2019): the odds of target against source are the ratio up to a
    factor, which does not count, by logistic regression with the C of the least log loss in rows left out."""
    from sklearn.linear_model import LogisticRegressionCV

    labels = np.repeat([0, 1], [len(given["x"]), len(given["target"])])
    rule = LogisticRegressionCV(
        Cs=penalties,
        cv=3,
        scoring="neg_log_loss",
        l1_ratios=(0.0,),
        max_iter=2000,
        use_legacy_attributes=False,
    ).fit(np.concatenate([given["x"], given["target"]]), labels)
    logs = [rule.decision_function(given[k]) for k in ("x", "new")]
    most = max(a.max() for a in logs)
    return quantile(given["scores"], *(np.exp(a - most) for a in logs))


def thresholds(rule: str, given: Arrays, rng: np.random.Generator) -> ndarray:
    """(T,) of scores at the rows `new`, by a rule of ShiftedConformal."""
    if rule in RULES:
        return regularised(given, rng, RULES[rule])
    if rule == "weighted":
        return weighted(given, PENALTIES)
    if rule == "split":  # which takes source and target for one
        return quantile(given["scores"], np.ones(len(given["scores"])), np.ones(len(given["new"])))
    if "ratio" not in given:
        raise UserError("the ratio is not known", fix="shift: made")
    return quantile(given["scores"], given["ratio"], given["new_ratio"])


@model("shifted-conformal", "Iterative Study", "thresholds of scores under covariate shift", examples=EXAMPLES)
class ShiftedConformal(Study):
    """Answers are ``threshold`` (T,) of scores at rows of the target, where infinity covers all.

    Args:
        info: of rows with target ``y``, where `shift` is one of their columns.
        rule: what finds thresholds; ``lr-qr`` has the best of FACTORS, ``lr-qr-even`` that of the paper's grid.
        shift: the column by whose median rows are source (at most the median) or target, scores being absolute
            residuals of ridge regression; or ``made``: normal inputs that TILT moves along x_1, where scores are
            |normal| exp(GROWTH x_1).
        rows: made ones of the source; half as many of the target come without labels, and 1,000 are judged.
        dimensions: of made inputs.
        problems: random splits, or draws.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Literal["lr-qr", "lr-qr-even", "quantile-regression", "split", "weighted", "oracle"] = "lr-qr",
        shift: Literal["black", "white", "asian", "hispanic", "made"] = "made",
        rows: PositiveInt = 500,
        dimensions: PositiveInt = 100,
        problems: PositiveInt = 5,
    ) -> None:
        super().__init__(info, problems=problems)
        self.rule, self.shift, self.rows, self.dimensions = rule, shift, rows, dimensions
        self._x, self._y = np.zeros((0, 1)), np.zeros(0)

    def start(self, data: Batch, generator: Generator) -> None:
        """Raises UserError where the shift is a column's and the data have no such columns."""
        super().start(data, generator)
        if self.shift in COLUMNS:
            if "y" not in data.columns or data.x.shape[1] <= COLUMNS[self.shift]:
                raise UserError(f"no column to shift by: {self.shift}", fix="dataset communities-crime")
            self._x, self._y = data.x.double().cpu().numpy(), data.columns["y"][:, 0].double().cpu().numpy()

    def state_dict(self) -> dict[str, Tensor]:
        return {**super().state_dict(), "x": torch.from_numpy(self._x), "y": torch.from_numpy(self._y)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._x, self._y = state["x"].numpy(), state["y"].numpy()

    def problem(self, rng: np.random.Generator) -> Problem:
        """Inputs ``x`` (N, D) with ``scores``, ``target`` (M, D), ``new`` (T, D); truth: ``scores`` of the new."""
        return self._made(rng) if self.shift == "made" else self._split(rng)

    def _made(self, rng: np.random.Generator) -> Problem:
        counts = (self.rows, self.rows // 2, 1000)
        x, target, new = (rng.standard_normal((n, self.dimensions)) for n in counts)
        target[:, 0], new[:, 0] = target[:, 0] + TILT, new[:, 0] + TILT
        scores, truth = (np.abs(rng.standard_normal(len(a))) * np.exp(GROWTH * a[:, 0]) for a in (x, new))
        ratio, new_ratio = (np.exp(TILT * a[:, 0] - TILT**2 / 2) for a in (x, new))
        given = {"x": x, "scores": scores, "target": target, "new": new, "ratio": ratio, "new_ratio": new_ratio}
        return Problem(given, {"scores": truth})

    def _split(self, rng: np.random.Generator) -> Problem:
        """Half of the rows train the predictor, and the others are split (section 5.2)."""
        from sklearn.linear_model import RidgeCV

        train, rest = np.array_split(rng.permutation(len(self._y)), 2)
        ridge = RidgeCV(np.logspace(-2, 2, 5), cv=5, scoring="neg_mean_squared_error")
        scores = np.abs(self._y - ridge.fit(self._x[train], self._y[train]).predict(self._x))
        by = self._x[rest, COLUMNS[self.shift]]
        source, above = rest[by <= np.median(by)], rest[by > np.median(by)]
        target, new = np.array_split(above, 2)
        given = {"x": self._x[source], "scores": scores[source], "target": self._x[target], "new": self._x[new]}
        return Problem(given, {"scores": scores[new]})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        """With ``cap``, the largest score of the source."""
        return {"threshold": thresholds(self.rule, given, rng), "cap": given["scores"].max()}


@metric("target_coverage", "Study", "1", "higher", within=(0.0, 1.0))
def target_coverage(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of new rows whose score is at most the threshold, mean over problems."""
    return over_problems(model, lambda truth, answer: float((truth["scores"] <= answer["threshold"]).mean()))


@metric("target_coverage_gap", "Study", "1", "lower", within=(0.0, 1.0))
def target_coverage_gap(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Distance of coverage from the nominal 0.9 in a problem, mean over problems: misses on either side add up."""
    return over_problems(
        model, lambda truth, answer: abs(float((truth["scores"] <= answer["threshold"]).mean()) - (1 - ALPHA))
    )


@metric("target_width", "Study", "1", "lower", within=(0.0, None))
def target_width(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean width of intervals, twice the threshold, in units of y; at most twice the largest source score counts for an
    infinite one, and 0 for a negative one."""

    def width(truth: Arrays, answer: Arrays) -> float:
        h: ndarray = answer["threshold"]
        return float(2 * np.where(np.isinf(h), answer["cap"], np.maximum(h, 0)).mean())

    return over_problems(model, width)
