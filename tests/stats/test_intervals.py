import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.stats.intervals import (
    bootstrap_interval,
    group_summary,
    paired_interval,
    prediction_interval,
    t_interval,
)
from scipy import stats


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 10, 500])
def test_t_interval_is_scipys(n, level):
    x = np.random.default_rng(n).normal(3.0, 2.0, n)
    low, high = t_interval(n, x.mean(), x.std(ddof=1), level)
    expected = stats.t.interval(level, n - 1, loc=x.mean(), scale=stats.sem(x))
    np.testing.assert_allclose([low, high], expected, rtol=1e-10)


def test_too_few_seeds_give_no_interval():
    low, high = t_interval([0, 1, 2], [np.nan, 5.0, 5.0], [np.nan, np.nan, 1.0])
    assert np.isnan(low[:2]).all()
    assert np.isnan(high[:2]).all()
    assert low[2] < 5 < high[2]


def test_leaderboard_of_ten_thousand_groups_takes_milliseconds():
    rng = np.random.default_rng(0)
    groups, values = rng.integers(0, 10_000, 50_000), rng.normal(size=50_000)
    t_interval(2, 0.0, 1.0)  # imports scipy
    start = time.perf_counter()
    low, high = t_interval(*group_summary(values, groups, 10_000))
    assert time.perf_counter() - start < 0.5
    assert low.shape == high.shape == (10_000,)


def test_group_summary_equals_pandas_and_leaves_out_what_is_not_finite():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(1)
    groups, values = rng.integers(0, 40, 120), 1e6 + rng.normal(size=120)
    values[:5], values[5] = np.nan, np.inf
    n, mean, std = group_summary(values, groups, 41)
    kept = pd.Series(np.where(np.isfinite(values), values, np.nan)).groupby(groups)
    expected = kept.agg(["count", "mean", "std"]).reindex(range(41))
    np.testing.assert_array_equal(n, expected["count"].fillna(0))
    np.testing.assert_allclose(mean, expected["mean"], rtol=1e-12)
    np.testing.assert_allclose(std, expected["std"], rtol=1e-6)


def test_prediction_interval_covers_the_next_seed_and_the_mean_of_the_next_three():
    rng = np.random.default_rng(2)
    x, future = rng.normal(size=(40_000, 4)), rng.normal(size=(40_000, 3))
    for runs, target in ((1, future[:, 0]), (3, future.mean(axis=1))):
        low, high = prediction_interval(4, x.mean(axis=1), x.std(axis=1, ddof=1), 0.9, runs=runs)
        assert abs(((low <= target) & (target <= high)).mean() - 0.9) < 0.006


def test_paired_interval_is_that_of_the_differences():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 6, 5))
    mean, low, high = paired_interval(a, b)
    for i in range(6):
        found = stats.ttest_rel(a[i], b[i]).confidence_interval(0.95)
        np.testing.assert_allclose([low[i], high[i]], found, rtol=1e-9)
        assert mean[i] == pytest.approx((a[i] - b[i]).mean())
    assert np.isnan(paired_interval([1.0], [2.0])[1:]).all()


def test_bootstrap_interval():
    x = np.random.default_rng(4).exponential(size=300)
    low, high = bootstrap_interval(x, np.random.default_rng(0))
    t_low, t_high = t_interval(300, x.mean(), x.std(ddof=1))
    assert low < x.mean() < high
    assert high - low == pytest.approx(t_high - t_low, rel=0.15)
    assert low + high > t_low + t_high  # BCa leans with the skew
    assert bootstrap_interval(x, np.random.default_rng(0), method="percentile") != (low, high)
    assert bootstrap_interval([2.0, 2.0, 2.0], np.random.default_rng(0)) == (2.0, 2.0)


@pytest.mark.parametrize("values", [[1.0], [], [1.0, np.nan], [[1.0, 2.0]]])
def test_bootstrap_refuses_what_it_cannot_do(values):
    with pytest.raises(UserError, match="at least two finite"):
        bootstrap_interval(values, np.random.default_rng(0))


@pytest.mark.parametrize("level", [0, 1, 95, -0.1])
def test_level_is_checked(level):
    with pytest.raises(UserError, match="confidence level"):
        t_interval(3, 0.0, 1.0, level)


@given(st.integers(2, 50), st.floats(-1e3, 1e3), st.floats(0, 1e3), st.floats(0.1, 100), st.floats(-1e3, 1e3))
def test_intervals_follow_the_unit(n, mean, std, scale, shift):
    low, high = t_interval(n, mean, std)
    moved = t_interval(n, scale * mean + shift, scale * std)
    np.testing.assert_allclose(moved, (scale * low + shift, scale * high + shift), rtol=1e-9, atol=1e-6)
