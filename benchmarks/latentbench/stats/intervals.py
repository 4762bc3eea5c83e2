"""Means, spreads and intervals over seeds.

Every function works on float64 numpy arrays; where it says "vectorised", arguments broadcast against each other.
An interval that the data cannot give (fewer than two values) is NaN on both ends, never a guess.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentbench.core.errors import UserError

FloatArray = NDArray[np.float64]
#: Lowest and highest value that a quantity can have; None where there is no end.
Limits = tuple[float | None, float | None]
UNLIMITED: Limits = (None, None)
#: No end of an interval lies further out than this power of e on the logarithmic scale.
_FARTHEST = 700.0


def check_level(level: float) -> None:
    """Raise `UserError` unless `level` lies strictly between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise UserError(f"confidence level {level!r} is not between 0 and 1", fix="give 0.95 for 95 %")


def t_quantile(level: float, df: ArrayLike) -> FloatArray:
    """The two-sided t quantile: a t variable with `df` degrees of freedom stays within it with probability `level`."""
    from scipy.special import stdtrit  # late: scipy takes 0.2 to 0.4 s to import

    check_level(level)
    return np.asarray(stdtrit(np.asarray(df, dtype=np.float64), 0.5 + level / 2), dtype=np.float64)


def group_summary(
    values: ArrayLike, groups: ArrayLike, n_groups: int
) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """Count, mean and standard deviation (ddof = 1) of each group, in two passes over the data.

    Args:
        values: (N,) numbers; what is not finite is left out.
        groups: (N,) integers in 0 .. n_groups - 1, the group of each value.
        n_groups: number of groups.

    Returns:
        n (n_groups,) int64, mean (n_groups,) (NaN where n = 0), std (n_groups,) (NaN where n < 2).
    """
    x, g = np.asarray(values, dtype=np.float64), np.asarray(groups, dtype=np.int64)
    finite = np.isfinite(x)
    x, g = x[finite], g[finite]
    n = np.bincount(g, minlength=n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(g, weights=x, minlength=n_groups) / n
        squares = np.bincount(g, weights=(x - mean[g]) ** 2, minlength=n_groups)
        std = np.where(n > 1, np.sqrt(squares / (n - 1)), np.nan)
    return n, mean, std


def t_interval(
    n: ArrayLike, mean: ArrayLike, std: ArrayLike, level: float = 0.95, *, limits: Limits = UNLIMITED
) -> tuple[FloatArray, FloatArray]:
    """Student's confidence interval for a mean, vectorised.

    Args:
        n: number of seeds.
        mean: their mean, in the metric's unit.
        std: their standard deviation (ddof = 1), same unit.
        level: coverage for normal noise.
        limits: of the quantity; where there are any, the interval is made by `inside` and stays between them.

    Returns:
        low, high, in the metric's unit; NaN where n < 2.
    """
    _, high = prediction_interval(n, mean, std, level, runs=np.inf)
    centre = np.asarray(mean, dtype=np.float64)
    return inside(limits, centre, high - centre)


def inside(limits: Limits, centre: ArrayLike, half: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """The interval centre - half to centre + half, made on a scale on which the quantity has no ends.

    That scale is the logit of the place between two limits, or the logarithm of the distance from one. The half-width
    goes there by the scale's derivative at the centre (delta method), and both ends come back, so that they lie
    strictly between the limits. A centre on a limit or beyond one keeps its symmetric interval: it is no estimate of
    such a quantity, and the guard against impossible values says so.

    Args:
        limits: lowest and highest value of the quantity, None for no end.
        centre: (...) the estimate.
        half: (...) half the width of its symmetric interval, same unit; NaN where there is none.

    Returns:
        low, high, each (...).
    """
    centre, half = np.broadcast_arrays(np.asarray(centre, np.float64), np.asarray(half, np.float64))
    low, high = centre - half, centre + half
    least, most = limits
    if least is None and most is None:
        return low, high
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if least is not None and most is not None:
            width = most - least
            place = (centre - least) / width
            there = np.log(place) - np.log1p(-place)
            wide = np.minimum(half / (width * place * (1 - place)), _FARTHEST)
            # whichever of the two forms is exact at the end that is near
            found = least + width / (1 + np.exp(wide - there)), most - width / (1 + np.exp(there + wide))
            able = (place > 0) & (place < 1)
        else:
            end, sign = (least, 1.0) if least is not None else (most, -1.0)
            away = sign * (centre - np.asarray(end, np.float64))
            wide = np.minimum(half / away, _FARTHEST)
            near, far = away * np.exp(-wide), away * np.exp(wide)
            ends = np.asarray(end, np.float64) + sign * near, np.asarray(end, np.float64) + sign * far
            found = ends if sign > 0 else ends[::-1]
            able = away > 0
    able &= np.isfinite(half) & (half > 0)
    return np.where(able, found[0], low), np.where(able, found[1], high)


def of_difference(limits: Limits) -> Limits:
    """Limits of the difference of two quantities that both have `limits`."""
    least, most = limits
    return UNLIMITED if least is None or most is None else (least - most, most - least)


def prediction_interval(
    n: ArrayLike, mean: ArrayLike, std: ArrayLike, level: float = 0.95, *, runs: float = 1
) -> tuple[FloatArray, FloatArray]:
    """Where the mean of `runs` further seeds falls with probability `level`, for normal noise; vectorised.

    Half-width t * std * sqrt(1/n + 1/runs) with n - 1 degrees of freedom. Arguments and result as in `t_interval`.
    """
    n, mean, std = (np.asarray(a, dtype=np.float64) for a in (n, mean, std))
    enough = n > 1
    safe_n = np.where(enough, n, 2.0)
    half = t_quantile(level, safe_n - 1) * std * np.sqrt(1 / safe_n + 1 / runs)
    half = np.where(enough, half, np.nan)
    return mean - half, mean + half


def paired_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean of a - b over paired seeds, with its confidence interval.

    Args:
        a: (..., n) values; the last axis is the seeds.
        b: (..., n) values of the other method for the same seeds in the same order.
        level: coverage.

    Returns:
        mean, low, high, each of shape (...); the ends are NaN where n < 2.
    """
    d = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n = d.shape[-1]
    mean = d.mean(axis=-1)
    std = d.std(axis=-1, ddof=1) if n > 1 else np.full_like(mean, np.nan)
    low, high = t_interval(n, mean, std, level)
    return mean, low, high


def bootstrap_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    level: float = 0.95,
    *,
    method: Literal["BCa", "percentile", "basic"] = "BCa",
    resamples: int = 9999,
) -> tuple[float, float]:
    """Bootstrap confidence interval for the mean of (n,) values (`scipy.stats.bootstrap`).

    For many values (test samples, tasks); over a handful of seeds the bootstrap is too narrow and `t_interval` is the
    one to use. Values without spread give (mean, mean).

    Raises:
        UserError: fewer than two values, or a value that is not finite.
    """
    from scipy.stats import bootstrap

    check_level(level)
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size < 2 or not np.isfinite(x).all():
        raise UserError("a bootstrap needs at least two finite values", fix="leave failed seeds out, or run more")
    if np.ptp(x) == 0:
        return float(x[0]), float(x[0])
    found = bootstrap(
        (x,), np.mean, confidence_level=level, method=method, n_resamples=resamples, rng=rng, vectorized=True
    ).confidence_interval
    return float(found.low), float(found.high)
