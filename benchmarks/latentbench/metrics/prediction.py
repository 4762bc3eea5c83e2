"""Prediction and its uncertainty: classification, detection, regression, intervals.

AUROC and average precision are scikit-learn's; the rest is a few lines of numpy each.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, Ints, integers, matrix, mean_and_se, same_rows, same_shape, vector

Values = Any  # array, list or tensor


def _mean(values: Floats) -> MetricValue:
    value, se = mean_and_se(values)
    return MetricValue(value, se, len(values))


# ---- classes


@of_arrays("predicted labels", "0 … 1", "higher")
def accuracy(predicted: Values, labels: Values) -> MetricValue:
    """Share of right predictions, 0 … 1, higher is better. (N,) int each."""
    p, y = integers(predicted, "predicted"), integers(labels, "labels")
    same_rows(predicted=p, labels=y)
    return _mean((p == y).astype(np.float64))


def _probabilities(probabilities: Values, labels: Values) -> tuple[Floats, Ints]:
    """(N, C) rows that sum to one (a vector is P(class 1)), and (N,) int labels under C."""
    from latentbench.metrics.arrays import to_numpy

    array = to_numpy(probabilities)
    if array.ndim == 1:
        array = np.stack([1 - array, array], axis=1)
    p, y = matrix(array, "probabilities"), integers(labels, "labels")
    same_rows(probabilities=p, labels=y)
    if (p < 0).any() or not np.allclose(p.sum(axis=1), 1, atol=1e-4):
        raise UserError("rows must be probabilities that sum to one", where="probabilities", fix="apply a softmax")
    if y.min() < 0 or y.max() >= p.shape[1]:
        raise UserError(f"run from {y.min()} to {y.max()}, with {p.shape[1]} classes", where="labels")
    return p, y


@of_arrays("probabilities labels", "0 … 2", "lower", "Brier 1950")
def brier_score(probabilities: Values, labels: Values) -> MetricValue:
    """Mean squared error of the probability vector, 0 … 2, lower is better (Brier 1950: summed over classes).

    scikit-learn's binary figure is half of it.
    """
    p, y = _probabilities(probabilities, labels)
    return _mean(np.square(p - np.eye(p.shape[1])[y]).sum(axis=1))


@of_arrays("probabilities labels", "0 … 1", "lower", "Guo et al. 2017", version=2)
def expected_calibration_error(
    probabilities: Values, labels: Values, *, bins: int = 15, equal: Literal["width", "mass"] = "width"
) -> float:
    """Mean |accuracy - confidence| over bins of confidence, 0 … 1, lower is better (Guo et al. 2017).

    Bins of equal width, closed on the right; of equal mass it is another metric. Biased upwards for few samples.

    Args:
        probabilities: (N, C), or (N,) for the probability of class 1.
        labels: (N,) int.
    """
    p, y = _probabilities(probabilities, labels)
    if bins < 1:
        raise UserError(f"is {bins}", where="bins")
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == y
    if equal == "width":
        index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    elif equal == "mass":
        from scipy.stats import rankdata

        ranks = rankdata(confidence) - 1  # equal confidences share a bin, whatever order the rows come in
        index = (ranks * bins / len(ranks)).astype(int)
    else:
        raise UserError(f"unknown bins {equal!r}", where="equal", fix="width or mass")
    gaps = np.bincount(index, correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(y))


# ---- scores of two classes


def _detection(scores: Values, positive: Values) -> tuple[Floats, np.ndarray]:
    s, y = vector(scores, "scores"), integers(positive, "positive")
    same_rows(scores=s, positive=y)
    if not np.isin(y, (0, 1)).all() or (y == y[0]).all():
        raise UserError("must hold both 0 and 1", where="positive", fix="a ranking needs samples of both kinds")
    return s, y


@of_arrays("scores positive", "0 … 1", "higher", "DeLong et al. 1988")
def auroc(scores: Values, positive: Values) -> MetricValue:
    """Area under the ROC curve, 0 … 1, chance 0.5, higher is better (ties count half).

    Standard error by DeLong's method (DeLong et al. 1988).

    Args:
        scores: (N,) higher for the positive class.
        positive: (N,) 0 or 1.
    """
    from scipy.stats import rankdata
    from sklearn.metrics import roc_auc_score

    s, y = _detection(scores, positive)
    value = float(roc_auc_score(y, s))
    ranks = rankdata(s)
    parts = []
    for kind in (1, 0):
        own = y == kind
        # share of the other kind on the right side of each score
        share = (ranks[own] - rankdata(s[own])) / np.count_nonzero(~own)
        parts.append(share.var(ddof=1) / len(share) if len(share) > 1 else np.nan)
    se = float(np.sqrt(sum(parts)))
    return MetricValue(value, se if np.isfinite(se) else None, len(y))


@of_arrays("scores positive", "0 … 1", "higher", "Davis & Goadrich 2006")
def average_precision(scores: Values, positive: Values) -> float:
    """Area under the precision-recall curve as a step function, 0 … 1, higher is better; scikit-learn's.

    Chance is the share of positives; not the trapezoid rule, which is too hopeful (Davis & Goadrich 2006).
    """
    from sklearn.metrics import average_precision_score

    s, y = _detection(scores, positive)
    return float(average_precision_score(y, s))


@of_arrays("scores positive", "0 … 1", "lower", "Hendrycks & Gimpel 2017; Ren et al. 2019")
def fpr_at_tpr(scores: Values, positive: Values, *, tpr: float = 0.95) -> float:
    """False-positive rate at the highest threshold with at least `tpr` of the positives, 0 … 1, lower is better.

    FPR95 of Hendrycks & Gimpel 2017 (0.95), FPR80 of Ren et al. 2019 (0.8). No interpolation between thresholds.
    """
    s, y = _detection(scores, positive)
    if not 0 < tpr <= 1:
        raise UserError(f"is {tpr}", where="tpr", fix="give a share in (0, 1]")
    hits = np.sort(s[y == 1])[::-1]
    threshold = hits[int(np.ceil(tpr * len(hits) - 1e-9)) - 1]
    return float((s[y == 0] >= threshold).mean())


# ---- numbers


def _numbers(predicted: Values, target: Values) -> tuple[Floats, Floats]:
    p, t = vector(predicted, "predicted"), vector(target, "target")
    same_rows(predicted=p, target=t)
    return p, t


@of_arrays("predicted target", "target unit", "lower")
def rmse(predicted: Values, target: Values) -> MetricValue:
    """Root mean squared error, in the target's unit, lower is better; standard error by the delta method. (N,) each."""
    p, t = _numbers(predicted, target)
    mean, se = mean_and_se(np.square(p - t))
    root = float(np.sqrt(mean))
    return MetricValue(root, None if se is None else (se / (2 * root) if root > 0 else 0.0), len(p))


@of_arrays("predicted target", "target unit", "lower")
def mae(predicted: Values, target: Values) -> MetricValue:
    """Mean absolute error, in the target's unit, lower is better. (N,) each."""
    p, t = _numbers(predicted, target)
    return _mean(np.abs(p - t))


@of_arrays("predicted target", "target unit", "lower", "Koenker & Bassett 1978")
def quantile_loss(predicted: Values, target: Values, *, quantile: float) -> MetricValue:
    """Pinball loss of a predicted quantile, in the target's unit, lower is better (Koenker & Bassett 1978).

    mean of max(q (t - p), (q - 1) (t - p)); at 0.5 it is half the mean absolute error.
    """
    p, t = _numbers(predicted, target)
    if not 0 < quantile < 1:
        raise UserError(f"is {quantile}", where="quantile", fix="give a number in (0, 1)")
    return _mean(np.maximum(quantile * (t - p), (quantile - 1) * (t - p)))


@of_arrays("samples target", "target unit", "lower", "Gneiting & Raftery 2007")
def crps_samples(samples: Values, target: Values, *, fair: bool = False) -> MetricValue:
    """Continuous ranked probability score of an ensemble, in the target's unit, lower is better.

    E|X - t| - ½ E|X - X'| (Gneiting & Raftery 2007, eq. 21) of the empirical distribution; `fair` divides the second
    mean by m (m - 1), which is unbiased in the ensemble's size (Ferro 2014), and another metric. O(m log m).

    Args:
        samples: (N, m) draws for each target.
        target: (N,).
    """
    x, t = matrix(samples, "samples"), vector(target, "target")
    same_rows(samples=x, target=t)
    m = x.shape[1]
    if fair and m < 2:
        raise UserError("the fair score needs two draws", where="samples")
    ordered = np.sort(x, axis=1)
    spread = ordered @ (2 * np.arange(1, m + 1) - m - 1) / (m * (m - 1) if fair else m * m)
    return _mean(np.abs(x - t[:, None]).mean(axis=1) - spread)


@of_arrays("mean std target", "target unit", "lower", "Gneiting & Raftery 2007")
def crps_gaussian(mean: Values, std: Values, target: Values) -> MetricValue:
    """Continuous ranked probability score of N(mean, std²), lower is better (Gneiting & Raftery 2007, section 4.2)."""
    from scipy.stats import norm

    mu, sigma, t = vector(mean, "mean"), vector(std, "std"), vector(target, "target")
    same_rows(mean=mu, std=sigma, target=t)
    if (sigma <= 0).any():
        raise UserError("must be positive", where="std")
    z = (t - mu) / sigma
    return _mean(sigma * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi)))


def _interval(lower: Values, upper: Values) -> tuple[Floats, Floats]:
    low, high = vector(lower, "lower"), vector(upper, "upper")
    same_shape(lower=low, upper=high)
    if (low > high).any():
        raise UserError("lies above upper in places", where="lower", fix="exchange the two")
    return low, high


@of_arrays("lower upper target", "share", "none")
def interval_coverage(lower: Values, upper: Values, target: Values) -> MetricValue:
    """Share of targets inside their closed intervals, 0 … 1; best at the nominal level. (N,) each."""
    low, high = _interval(lower, upper)
    t = vector(target, "target")
    same_rows(lower=low, target=t)
    return _mean(((low <= t) & (t <= high)).astype(np.float64))


@of_arrays("lower upper", "target unit", "lower")
def interval_width(lower: Values, upper: Values) -> MetricValue:
    """Mean width of intervals, in the target's unit, lower is better at equal coverage. (N,) each."""
    low, high = _interval(lower, upper)
    return _mean(high - low)
