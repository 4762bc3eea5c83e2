import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from latentbench.stats.hypothesis_tests import (
    Contrast,
    hedges_g,
    holm,
    independent,
    one_sample,
    paired,
    slope_weights,
    weighted,
)
from scipy import stats
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW, ttost_ind, ttost_paired

RNG = np.random.default_rng(0)
A, B = RNG.normal(1.0, 1.0, 7), RNG.normal(0.2, 3.0, 4)


@pytest.mark.parametrize(
    ("side", "method"), [("greater", "p_above"), ("less", "p_below"), ("two-sided", "p_different")]
)
def test_t_tests_are_scipys(side, method):
    assert getattr(one_sample(A), method)(0.4) == pytest.approx(stats.ttest_1samp(A, 0.4, alternative=side).pvalue)
    pairs = stats.ttest_rel(A[:4], B, alternative=side)
    assert getattr(paired(A[:4], B), method)() == pytest.approx(pairs.pvalue)


def test_unpaired_test_is_welchs_statistic_with_the_smaller_sides_freedom():
    welch = stats.ttest_ind(A, B, equal_var=False)
    found = independent(A, B)
    assert float(found.estimate / found.se) == pytest.approx(welch.statistic)
    assert float(found.df) == 3
    assert float(found.p_above()) == pytest.approx(stats.t.sf(welch.statistic, 3))
    assert float(found.p_different()) >= welch.pvalue  # Satterthwaite's are more
    half = stats.t.ppf(0.95, 3) * float(found.se)
    np.testing.assert_allclose(found.interval(0.9), [found.estimate - half, found.estimate + half])


@pytest.mark.parametrize("counts", [(2, 2), (2, 3), (2, 10), (2, 100), (3, 3), (3, 10), (5, 5)])
@pytest.mark.parametrize("ratio", [0.1, 0.3, 1.0, 3.0, 10.0])
def test_unpaired_test_holds_its_level_far_out_whatever_the_spreads(counts, ratio):
    rng, repetitions = np.random.default_rng(counts[1]), 20_000
    found = independent(rng.normal(size=(repetitions, counts[0])), ratio * rng.normal(size=(repetitions, counts[1])))
    for alpha in (0.05, 0.0025):
        assert (found.p_above() <= alpha).mean() <= alpha + 4 * np.sqrt(alpha / repetitions)


def test_interval_is_scipys():
    np.testing.assert_allclose(one_sample(A).interval(0.9), stats.ttest_1samp(A, 0).confidence_interval(0.9))


def test_equivalence_is_statsmodels():
    expected = DescrStatsW(A).ttost_mean(0.5, 2.5)[0]
    assert float(one_sample(A).p_equivalent(1.5, 1.0)) == pytest.approx(expected)
    expected = ttost_paired(A[:4], B, -2.0, 2.0)[0]
    assert float(paired(A[:4], B).p_equivalent(0.0, 2.0)) == pytest.approx(expected)
    _, low, high = ttost_ind(A, B, -2.0, 2.0, usevar="unequal")
    expected = max(stats.t.sf(low[0], 3), stats.t.cdf(high[0], 3))
    assert float(independent(A, B).p_equivalent(0.0, 2.0)) == pytest.approx(expected)


def test_everything_is_vectorised_over_leading_axes():
    x, y = RNG.normal(size=(3, 2, 6)), RNG.normal(size=(3, 2, 5))
    found = independent(x, y).p_above()
    assert found.shape == (3, 2)
    assert found[1, 1] == pytest.approx(float(independent(x[1, 1], y[1, 1]).p_above()))


def test_slope_is_the_regression_slope_of_each_seed():
    levels, at = RNG.normal(size=(4, 9)) + np.arange(4)[:, None], [0.0, 1.0, 2.5, 3.0]
    each = [stats.linregress(at, levels[:, i]).slope for i in range(9)]
    found = weighted(list(levels), slope_weights(at).tolist(), paired=True)
    assert float(found.estimate) == pytest.approx(np.mean(each))
    assert float(found.p_above()) == pytest.approx(stats.ttest_1samp(each, 0, alternative="greater").pvalue)


def test_unpaired_slope_holds_its_level():
    levels = RNG.normal(size=(4, 20_000, 5)) * np.array([1.0, 2.0, 1.0, 4.0])[:, None, None]
    found = weighted(list(levels), slope_weights(range(4)).tolist(), paired=False)
    assert 0.02 < (found.p_above() <= 0.05).mean() < 0.055


def test_the_papers_spread_is_a_second_side_known_by_its_summary():
    paper_mean, paper_std, runs = 0.3, 0.8, 6
    welch = stats.ttest_ind_from_stats(A.mean(), A.std(ddof=1), 7, paper_mean, paper_std, runs, equal_var=False)
    found = one_sample(A).widened(paper_std, runs)
    assert float(found.p_above(paper_mean)) == pytest.approx(stats.t.sf(welch.statistic, 5))
    assert float(one_sample(A).widened(0.0, runs).p_above(paper_mean)) == float(one_sample(A).p_above(paper_mean))


def test_prediction_is_a_two_sample_test_with_a_single_run():
    # The pooled t test of n values against one has the same statistic and n - 1 degrees of freedom.
    expected = stats.ttest_ind(A, [5.0]).pvalue
    assert float(one_sample(A).predicting(1).p_different(5.0)) == pytest.approx(expected)


def test_without_spread_the_answer_is_exact():
    fixed = one_sample([2.0, 2.0, 2.0])
    assert [float(fixed.p_above(x)) for x in (1.9, 2.0, 2.1)] == [0.0, 1.0, 1.0]
    assert [float(fixed.p_below(x)) for x in (1.9, 2.0, 2.1)] == [1.0, 1.0, 0.0]
    assert fixed.interval() == (2.0, 2.0)
    assert float(fixed.p_equivalent(2.0, 0.1)) == 0.0


def test_rounding_is_no_spread():
    x = np.array([0.1 + 0.2, 0.3, 0.3])
    assert np.ptp(x) > 0
    assert float(one_sample(x).se) == 0
    assert float(paired(x, [0.3, 0.3, 0.3]).p_above()) == 1.0


def test_a_single_seed_says_nothing():
    assert np.isnan(one_sample([1.0]).p_above())
    assert np.isnan(independent([1.0], A).p_above())


def test_one_side_fixed_is_a_one_sample_test():
    fixed = np.full(3, 0.4)
    expected = stats.ttest_1samp(A, 0.4, alternative="greater").pvalue
    assert float(independent(A, fixed).p_above()) == pytest.approx(expected)
    assert float(independent(A, fixed).df) == pytest.approx(6)


def test_hedges_g():
    pooled, df = np.sqrt((6 * A.var(ddof=1) + 3 * B.var(ddof=1)) / 9), 9
    expected, _ = effectsize_smd(A.mean(), A.std(ddof=1), 7, B.mean(), B.std(ddof=1), 4)
    # statsmodels uses the usual approximation to the correction factor.
    assert hedges_g(A.mean() - B.mean(), pooled, df) == pytest.approx(expected, rel=2e-3)
    assert hedges_g(1.0, 1.0, 2) == pytest.approx(1 / np.sqrt(np.pi), rel=1e-12)  # gamma(1) / gamma(1/2)
    assert hedges_g(1.0, 0.0, 9) is None
    assert hedges_g(1.0, 1.0, 1) is None


def test_hedges_g_is_unbiased():
    x = RNG.normal(0.7, 1.0, size=(40_000, 5))
    found = [hedges_g(m, s, 4) for m, s in zip(x.mean(axis=1), x.std(axis=1, ddof=1))]
    assert np.mean(found) == pytest.approx(0.7, abs=0.015)


probabilities = arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1))


@given(probabilities)
@settings(max_examples=60)
def test_holm_is_statsmodels(p):
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


@given(probabilities, st.randoms())
@settings(max_examples=40)
def test_holm_does_not_depend_on_order_and_is_vectorised(p, random):
    order = list(range(len(p)))
    random.shuffle(order)
    np.testing.assert_array_equal(holm(p)[order], holm(p[order]))
    np.testing.assert_array_equal(holm(np.stack([p, p[order]]))[1], holm(p[order]))


samples = arrays(np.float64, st.integers(2, 8), elements=st.floats(-100, 100))


@given(samples, st.floats(-100, 100), st.floats(-50, 50))
def test_p_falls_with_distance_and_both_sides_add_to_one(x, limit, further):
    found = one_sample(x)
    assert found.p_above(limit) <= found.p_above(limit + abs(further)) + 1e-12
    if found.se > 0:
        assert found.p_above(limit) + found.p_below(limit) == pytest.approx(1)


@given(samples, st.floats(-100, 100), st.floats(0.1, 10), st.floats(-10, 10))
def test_p_does_not_depend_on_the_unit(x, limit, scale, shift):
    if x.std() < 1e-3:
        return
    before, after = one_sample(x).p_above(limit), one_sample(scale * x + shift).p_above(scale * limit + shift)
    assert float(after) == pytest.approx(float(before), abs=1e-6)
    assert float(one_sample(-x).p_below(-limit)) == pytest.approx(float(before), abs=1e-12)


def test_contrast_at_another_number_of_seeds():
    found = independent(A, B).at(20)
    assert isinstance(found, Contrast)
    assert float(found.se) == pytest.approx(np.sqrt((A.var(ddof=1) + B.var(ddof=1)) / 20))
