"""t tests on contrasts of seed means, equivalence, trends, effect sizes, and Holm's correction.

A `Contrast` is an estimate with what is needed to judge it: the mean of one method, a difference of two (paired by
seed or not), one step of a trend, or a slope. Its tests, intervals and power all come from the same few formulas.
Arrays carry the seeds on their last axis and are vectorised over the others.

Sources: Welch (1938) for the statistic with unequal variances, Hsu (1938) for its degrees of freedom; Schuirmann (1987)
for two one-sided tests; Berger (1982) for intersection-union tests; Hedges (1981) for the effect size; Holm (1979) for
the correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentbench.stats.intervals import UNLIMITED, Limits, inside, t_quantile

FloatArray = NDArray[np.float64]

ROUNDING = 1e-12
"""Spread or distance below this share of the largest value involved is floating-point dust and counts as zero."""


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of means over seeds, with its uncertainty.

    The squared standard error is the sum of v_i (1/n_i + 1/runs) over the independent parts, plus `fixed`.

    Attributes:
        estimate: (...) the estimate, in the metric's unit.
        variances: for each independent part, (...) the variance of one seed (ddof = 1; NaN for a single seed).
        counts: for each part, its number of seeds.
        fixed: variance that more seeds do not shrink: that of a paper's own mean.
        fixed_df: degrees of freedom behind `fixed`.
        runs: when finite, the contrast is with the mean of that many further runs of the same spread (a prediction).
        dust: (...) distances up to this size are rounding.
        limits: between which the expectation lies, whatever the seeds say: the interval stays there; tests ignore it.
    """

    estimate: FloatArray
    variances: tuple[FloatArray, ...]
    counts: tuple[int, ...]
    fixed: float = 0.0
    fixed_df: float = np.inf
    runs: float = np.inf
    dust: FloatArray | float = 0.0
    limits: Limits = UNLIMITED

    def _terms(self) -> list[FloatArray]:
        return [v * (1 / n + 1 / self.runs) for v, n in zip(self.variances, self.counts)]

    @property
    def sampling_variance(self) -> FloatArray:
        """Variance of the estimate over new draws of the seeds, (...)."""
        return np.asarray(sum(v / n for v, n in zip(self.variances, self.counts)), dtype=np.float64)

    @property
    def se(self) -> FloatArray:
        """Standard error, (...)."""
        return np.asarray(np.sqrt(sum(self._terms()) + self.fixed), dtype=np.float64)

    @property
    def df(self) -> FloatArray:
        """Degrees of freedom, (...): those of the part that has the fewest, among the parts that vary.

        With several parts this is safe whatever their spreads: for t > 0, Phi(t sqrt(u)) is concave in u, so the tail
        for a mixture of the parts' variances is at most that of the worst part (Hsu 1938; Mickey and Brown 1966).
        Satterthwaite's approximation is not: with two seeds on one side it rejects up to 14 times too often at the
        levels that a correction for 20 claims asks for (docs/statistics.md).
        """
        df = np.full(np.shape(self.estimate), self.fixed_df if self.fixed > 0 else np.inf)
        for variance, n in zip(self.variances, self.counts):
            df = np.where(variance == 0, df, np.minimum(df, n - 1))
        return df

    def p_above(self, limit: ArrayLike = 0.0) -> FloatArray:
        """One-sided p for "the expectation lies above `limit`" (null: at or below it).

        Without any spread the answer is exact: 0 when the estimate lies above by more than rounding, else 1.
        """
        return _p_positive(self.estimate - np.asarray(limit, dtype=np.float64), self)

    def p_below(self, limit: ArrayLike = 0.0) -> FloatArray:
        """One-sided p for "the expectation lies below `limit`"."""
        return _p_positive(np.asarray(limit, dtype=np.float64) - self.estimate, self)

    def p_different(self, limit: ArrayLike = 0.0) -> FloatArray:
        """Two-sided p for "the expectation differs from `limit`"."""
        return np.minimum(1.0, 2 * np.minimum(self.p_above(limit), self.p_below(limit)))

    def p_equivalent(self, centre: ArrayLike, tolerance: ArrayLike) -> FloatArray:
        """p of two one-sided tests for "the expectation lies within `tolerance` of `centre`"."""
        centre, tolerance = np.asarray(centre, dtype=np.float64), np.asarray(tolerance, dtype=np.float64)
        return np.maximum(self.p_above(centre - tolerance), self.p_below(centre + tolerance))

    def interval(self, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Confidence interval (a prediction interval where `runs` is finite): low, high, each (...)."""
        se = self.se
        half = np.where(se == 0, 0.0, t_quantile(level, np.where(se == 0, 1.0, self.df)) * se)
        return inside(self.limits, self.estimate, half)

    def widened(self, std: float, runs: int) -> Contrast:
        """The contrast against the mean of `runs` >= 2 runs made elsewhere with standard deviation `std`."""
        return replace(self, fixed=std**2 / runs, fixed_df=float(runs - 1))

    def predicting(self, runs: float) -> Contrast:
        """The contrast against the mean of `runs` further runs that spread like these."""
        return replace(self, runs=float(runs))

    def at(self, n: int) -> Contrast:
        """The same estimate and spread, had every part `n` seeds."""
        return replace(self, counts=(n,) * len(self.counts))


def _p_positive(gap: FloatArray, contrast: Contrast) -> FloatArray:
    from scipy.special import stdtr

    se = contrast.se
    with np.errstate(divide="ignore", invalid="ignore"):
        tested = stdtr(contrast.df, -gap / se)
    return np.asarray(np.where(se == 0, np.where(gap > contrast.dust, 0.0, 1.0), tested), dtype=np.float64)


def weighted(levels: Sequence[ArrayLike], weights: Sequence[float], *, paired: bool) -> Contrast:
    """The contrast sum_i weights[i] * mean(levels[i]).

    Args:
        levels: arrays (..., n_i), seeds last. When `paired`, all have the same n and the same seeds in the same order.
        weights: one number a level.
        paired: combine within each seed first, so that what the seeds share cancels out.
    """
    parts = [w * np.asarray(x, dtype=np.float64) for w, x in zip(weights, levels)]
    dust = ROUNDING * np.max([np.abs(x).max(axis=-1) for x in parts], axis=0)
    if paired:
        parts = [np.sum(parts, axis=0)]
    estimate = np.sum([x.mean(axis=-1) for x in parts], axis=0)
    variances = tuple(_variance(x, dust) for x in parts)
    return Contrast(estimate, variances, tuple(x.shape[-1] for x in parts), dust=dust)


def _variance(x: FloatArray, dust: FloatArray) -> FloatArray:
    if x.shape[-1] < 2:
        return np.full(x.shape[:-1], np.nan)
    return np.where(np.ptp(x, axis=-1) <= dust, 0.0, x.var(axis=-1, ddof=1))


def one_sample(values: ArrayLike) -> Contrast:
    """The mean of (..., n) values."""
    return weighted([values], [1.0], paired=True)


def paired(a: ArrayLike, b: ArrayLike) -> Contrast:
    """The mean of a - b, both (..., n) with the same seeds in the same order."""
    return weighted([a, b], [1.0, -1.0], paired=True)


def independent(a: ArrayLike, b: ArrayLike) -> Contrast:
    """mean(a) - mean(b) for (..., n_a) and (..., n_b) values from unrelated seeds, with unequal variances.

    Welch's statistic, with the smaller side's degrees of freedom (see `Contrast.df`).
    """
    return weighted([a, b], [1.0, -1.0], paired=False)


def slope_weights(positions: ArrayLike) -> FloatArray:
    """Weights that make level means a least-squares slope per unit of `positions`, (k,) numbers, not all equal."""
    x = np.asarray(positions, dtype=np.float64)
    centred = x - x.mean()
    return np.asarray(centred / (centred**2).sum(), dtype=np.float64)


def hedges_g(difference: float, std: float, df: float) -> float | None:
    """Standardised difference with Hedges' small-sample correction, exact form (Hedges 1981, eq. 6e).

    Args:
        difference: the difference, in the metric's unit.
        std: what to measure it by: the pooled standard deviation of two groups, or that of paired differences.
        df: degrees of freedom behind `std`.

    Returns:
        A number without unit, or None where it has no meaning: no spread, or df < 2 (the correction is 0 there).
    """
    from scipy.special import gammaln

    if not (df >= 2 and std > 0):
        return None
    correction = np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / np.sqrt(df / 2)
    return float(correction * difference / std)


def holm(p: ArrayLike) -> FloatArray:
    """Holm's adjusted p-values over the last axis of `p` (..., m), vectorised over the others.

    Rejecting those at or below alpha keeps the probability of any wrong rejection within alpha, whatever the
    dependence between the tests.
    """
    p = np.asarray(p, dtype=np.float64)
    m = p.shape[-1]
    order = np.argsort(p, axis=-1, kind="stable")
    scaled = np.take_along_axis(p, order, axis=-1) * np.arange(m, 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(scaled, axis=-1), 1.0)
    out = np.empty_like(p)
    np.put_along_axis(out, order, adjusted, axis=-1)
    return out
