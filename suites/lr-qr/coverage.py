"""Coverage of a shifted target by thresholds of scores: Communities and Crime, and rows with a known density ratio."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.optimize import brentq
from torch import Generator, Tensor

ALPHA = 0.1
#: Columns of the registry's `communities-crime`.
COLUMNS = {"black": 2, "white": 3, "asian": 4, "hispanic": 5}
RIDGE = np.logspace(-3, 3, 13)
SMALL = {"problems": 2, "rows": 60, "dimensions": 3}
EXAMPLES = [
    Example("real-vector", SMALL),
    Example("real-vector", {**SMALL, "rule": "split"}),
    Example("real-vector", {**SMALL, "rule": "weighted"}),
    Example("real-vector", {**SMALL, "rule": "oracle"}),
    Example("real-vector", {**SMALL, "rule": "2r"}),
    Example("real-vector", {**SMALL, "rule": "dro"}),
]


def quantile(scores: ndarray, level: float, weights: ndarray, extra: Any) -> Any:
    """Least of `scores` (N,) whose weight and that of lower ones reach `level` of all weight; infinity has `extra`, a
    number or (T,)."""
    order = np.argsort(scores)
    heaped = np.cumsum(weights[order])
    place = np.searchsorted(heaped, level * (heaped[-1] + extra) * (1 - 1e-12))
    return np.append(scores[order], np.inf)[place]


def log_odds(x: ndarray, target: ndarray, penalty: float, *rows: ndarray) -> list[ndarray]:
    """Of target against source at each of `rows`, by logistic regression with C = `penalty` (section 5.2)."""
    from sklearn.linear_model import LogisticRegression

    labels = np.repeat([0, 1], [len(x), len(target)])
    rule = LogisticRegression(C=penalty, max_iter=1000).fit(np.concatenate([x, target]), labels)
    return [rule.decision_function(a) for a in rows]


def ridge(x: ndarray, y: ndarray) -> tuple[ndarray, float]:
    """Coefficients (D,) and intercept of ridge regression, with the penalty best in five folds (section 5.2)."""

    def solve(x: ndarray, y: ndarray) -> tuple[ndarray, ndarray]:
        """For all penalties, (D, K) and (K,)."""
        values, vectors = np.linalg.eigh((x - x.mean(0)).T @ (x - x.mean(0)))
        w = vectors @ ((vectors.T @ ((x - x.mean(0)).T @ y))[:, None] / (values[:, None] + RIDGE))
        return w, y.mean() - x.mean(0) @ w

    fold, errors = np.arange(len(y)) % 5, np.zeros(len(RIDGE))
    for k in range(5):
        w, b = solve(x[fold != k], y[fold != k])
        errors += ((x[fold == k] @ w + b - y[fold == k][:, None]) ** 2).mean(0)
    w, b = solve(x, y)
    return w[:, errors.argmin()], float(b[errors.argmin()])


def regularised(given: Arrays, rng: np.random.Generator, strength: float) -> ndarray:
    """LR-QR with all affine maps as hypotheses; quantile regression where `strength`, the factor of lam*, is 0."""
    x, target, new = (np.column_stack([np.ones(len(a)), a]) for a in (given["x"], given["target"], given["new"]))
    sample, lam = Sample(x, given["scores"], target), 0.0
    if strength:
        lam = choose(sample, strengths(len(x), len(target), strength), ALPHA, rng)
    found: ndarray = new @ fit(sample, lam, ALPHA)[0]
    return found


def split(given: Arrays, rng: np.random.Generator, level: float = 1 - ALPHA) -> Any:
    """Split conformal prediction, which takes source and target for one."""
    return quantile(given["scores"], level, np.ones(len(given["scores"])), 1.0)


def weighted(given: Arrays, rng: np.random.Generator, penalty: float) -> Any:
    """Weighted conformal prediction (Tibshirani et al. 2019) with an estimated ratio, which counts up to a factor."""
    logs = log_odds(given["x"], given["target"], penalty, given["x"], given["new"])
    most = max(a.max() for a in logs)
    return quantile(given["scores"], 1 - ALPHA, *(np.exp(a - most) for a in logs))


def oracle(given: Arrays, rng: np.random.Generator) -> Any:
    """The same with the ratio that made the rows."""
    if "ratio" not in given:
        raise UserError("the ratio is not known", fix="shift: made")
    return quantile(given["scores"], 1 - ALPHA, given["ratio"], given["new_ratio"])


def doubly_robust(given: Arrays, rng: np.random.Generator, penalty: float) -> float:
    """2R: the least score q with E2 m(q, X) + E1 r(X) (1(S <= q) - m(q, X)) >= 1 - alpha (Yang et al. 2024).

    One half of the rows estimates r and the law m(q, x) = P(S <= q | x), of log scores that are linear in x by ridge
    regression with residuals of one law; the other half has the means, with weights r of sum 1.
    """
    first, second = np.array_split(rng.permutation(len(given["x"])), 2)
    known, target = np.array_split(given["target"][rng.permutation(len(given["target"]))], 2)
    x, scores = given["x"], np.log(np.maximum(given["scores"], 1e-9))
    w, b = ridge(x[first], scores[first])
    rest = np.sort(scores[first] - x[first] @ w - b)
    logs = log_odds(x[first], known, penalty, x[second])[0]
    weights = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
    centres, at, own = target @ w + b, x[second] @ w + b, scores[second]
    for q in np.sort(own):
        law, source = (np.searchsorted(rest, q - a, side="right") / len(rest) for a in (centres, at))
        if law.mean() + weights @ ((own <= q) - source) >= 1 - ALPHA:
            return float(np.exp(q))
    return float("inf")


def worst_level(level: float, radius: float) -> float:
    """The greatest b with KL(Bernoulli(level) | Bernoulli(b)) <= `radius`: what has probability b has `level` at least
    under all laws within that divergence (Cauchois et al. 2024)."""

    def excess(b: float) -> float:
        return float(level * np.log(level / b) + (1 - level) * np.log((1 - level) / (1 - b)) - radius)

    return level if radius <= 0 else 1.0 if excess(1 - 1e-12) < 0 else float(brentq(excess, level, 1 - 1e-12))


def robust(given: Arrays, rng: np.random.Generator, penalty: float) -> Any:
    """DRO: split conformal at the worst level in a KL ball, as wide as the target's mean of estimated log ratios."""
    x, target = given["x"], given["target"]
    logs = log_odds(x, target, penalty, target)[0] + np.log(len(x) / len(target))
    return split(given, rng, worst_level(1 - ALPHA, float(logs.mean())))


RULES: dict[str, Callable[..., Any]] = {
    "lr-qr": regularised, "split": split, "weighted": weighted, "oracle": oracle, "2r": doubly_robust, "dro": robust,
}  # fmt: skip


@model("shifted-conformal", "Iterative Study", "thresholds of scores under covariate shift", examples=EXAMPLES)
class ShiftedConformal(Study):
    """Answers are ``threshold`` (T,) of scores at rows of the target, where infinity covers all.

    Args:
        info: of rows with target ``y``, where `shift` is one of their columns.
        rule: what finds thresholds.
        shift: the column by whose median rows are source (at most the median) or target, scores being absolute
            residuals of ridge regression; or ``made``: normal inputs that `tilt` moves along x_1, where scores are
            |normal| exp(growth x_1).
        strength: factor of lam* (rule ``lr-qr``).
        penalty: C of the logistic regression (rules ``weighted``, ``2r``, ``dro``).
        rows: made ones of the source; half as many of the target come without labels, and 1,000 are judged.
        dimensions: of made inputs.
        problems: random splits, or draws.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Literal["lr-qr", "split", "weighted", "oracle", "2r", "dro"] = "lr-qr",
        shift: Literal["black", "white", "asian", "hispanic", "made"] = "made",
        strength: NonNegativeFloat = 1.0,
        penalty: PositiveFloat = 1.0,
        rows: PositiveInt = 500,
        dimensions: PositiveInt = 20,
        tilt: float = 1.0,
        growth: float = 0.3,
        problems: PositiveInt = 10,
    ) -> None:
        super().__init__(info, problems=problems)
        self.rule, self.shift, self.rows, self.dimensions = rule, shift, rows, dimensions
        self.tilt, self.growth = tilt, growth
        self.settings = (strength,) if rule == "lr-qr" else () if rule in ("split", "oracle") else (penalty,)
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
        if self.shift == "made":
            counts = (self.rows, self.rows // 2, 1000)
            x, target, new = (rng.standard_normal((n, self.dimensions)) for n in counts)
            target[:, 0], new[:, 0] = target[:, 0] + self.tilt, new[:, 0] + self.tilt
            scores, truth = (np.abs(rng.standard_normal(len(a))) * np.exp(self.growth * a[:, 0]) for a in (x, new))
            ratio, new_ratio = (np.exp(self.tilt * a[:, 0] - self.tilt**2 / 2) for a in (x, new))
            given = {"x": x, "target": target, "new": new, "ratio": ratio, "new_ratio": new_ratio}
            return Problem({**given, "scores": scores}, {"scores": truth})
        train, rest = np.array_split(rng.permutation(len(self._y)), 2)
        w, b = ridge(self._x[train], self._y[train])
        scores, by = np.abs(self._y - self._x @ w - b), self._x[rest, COLUMNS[self.shift]]
        source, above = rest[by <= np.median(by)], rest[by > np.median(by)]
        target, new = np.array_split(above, 2)
        given = {"x": self._x[source], "scores": scores[source], "target": self._x[target], "new": self._x[new]}
        return Problem(given, {"scores": scores[new]})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        """With ``cap``, the largest score of the source."""
        found = RULES[self.rule](given, rng, *self.settings)
        return {"threshold": np.broadcast_to(found, len(given["new"])), "cap": given["scores"].max()}


@metric("target_coverage", "Study", "1", "higher", within=(0.0, 1.0))
def target_coverage(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of new rows whose score is at most the threshold, mean over problems."""
    return over_problems(model, lambda truth, answer: float((truth["scores"] <= answer["threshold"]).mean()))


@metric("target_coverage_gap", "Study", "1", "lower", within=(0.0, 1.0))
def target_coverage_gap(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Distance of the mean coverage over problems from the nominal 0.9."""
    found = target_coverage(model, view, settings, generator)
    return MetricValue(abs(found.value - (1 - ALPHA)), found.se, found.n, {"coverage": found.value})


@metric("target_width", "Study", "1", "lower", within=(0.0, None))
def target_width(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean width of intervals, twice the threshold, in units of y; at most twice the largest source score counts for an
    infinite one, and 0 for a negative one."""

    def width(truth: Arrays, answer: Arrays) -> float:
        h = answer["threshold"]
        return float(2 * np.where(np.isinf(h), answer["cap"], np.maximum(h, 0)).mean())

    return over_problems(model, width)
