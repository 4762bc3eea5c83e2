import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.stats.hypothesis_tests import Contrast, independent, one_sample
from latentbench.stats.power import CAP, one_sided_power, seeds_to_show_all, seeds_to_show_any, seeds_without_spread
from statsmodels.stats.power import TTestPower, tt_ind_solve_power


def spread(*stds, **more):
    """A contrast with these standard deviations of a seed."""
    return Contrast(np.asarray(0.0), tuple(np.asarray(s**2) for s in stds), (2,) * len(stds), **more)


@pytest.mark.parametrize("effect", [0.3, 0.8, 1.5, 4.0])
@pytest.mark.parametrize("alpha", [0.05, 0.0025])
def test_one_sample_power_and_plan_are_statsmodels(effect, alpha):
    reference = TTestPower()
    for n in (2, 5, 30):
        expected = reference.power(effect, n, alpha, alternative="larger")
        assert one_sided_power(effect * 3, spread(3.0), n, alpha) == pytest.approx(expected, abs=1e-6)
    wanted = int(np.ceil(reference.solve_power(effect, None, alpha, 0.8, alternative="larger")))
    assert seeds_to_show_all([(effect * 3, spread(3.0))], alpha) == wanted


@pytest.mark.parametrize("effect", [0.5, 1.0, 2.0])
def test_two_sample_plan_is_that_of_one_sample_with_both_spreads(effect):
    wanted = TTestPower().solve_power(effect / np.sqrt(2), None, 0.05, 0.8, alternative="larger")
    found = seeds_to_show_all([(effect, spread(1.0, 1.0))])
    assert found == int(np.ceil(wanted))
    # The pooled test, with twice the freedom, needs up to two seeds fewer.
    pooled = tt_ind_solve_power(effect, None, 0.05, 0.8, alternative="larger")
    assert 0 <= found - int(np.ceil(pooled)) <= 2


def share(hits):
    return float(np.mean(hits))


@pytest.mark.parametrize(("offset", "std", "tolerance"), [(0.0, 1.0, 1.0), (0.3, 1.0, 1.0), (0.2, 0.4, 1.0)])
def test_equivalence_plan_settles_it_and_one_seed_fewer_does_not(offset, std, tolerance):
    n = seeds_to_show_all([(tolerance - offset, spread(std)), (tolerance + offset, spread(std))])
    rng = np.random.default_rng(0)

    def power(n):
        return share(one_sample(rng.normal(offset, std, (20_000, n))).p_equivalent(0.0, tolerance) <= 0.05)

    assert power(n) > 0.79
    assert power(n - 1) < 0.81


def test_unequal_spreads_plan_settles_it():
    n = seeds_to_show_all([(1.5, spread(0.3, 2.0))], alpha=0.01)
    rng = np.random.default_rng(1)

    def power(n):
        found = independent(rng.normal(1.5, 0.3, (20_000, n)), rng.normal(0.0, 2.0, (20_000, n)))
        return share(found.p_above() <= 0.01)

    assert power(n) > 0.79
    assert power(n - 1) < 0.81


def test_trend_plan_settles_it():
    gaps = [1.0, 1.2, 2.0]
    n = seeds_to_show_all([(g, spread(1.0)) for g in gaps])
    rng = np.random.default_rng(2)
    passed = [one_sample(rng.normal(g, 1.0, (20_000, n))).p_above() <= 0.05 for g in gaps]
    assert share(np.all(passed, axis=0)) > 0.79


def test_refutation_plan_settles_it():
    gaps = [-0.5, 1.2, 1.0]
    n = seeds_to_show_any([(g, spread(1.0)) for g in gaps])
    rng = np.random.default_rng(3)
    passed = [one_sample(rng.normal(g, 1.0, (20_000, n))).p_above() <= 0.05 / 3 for g in gaps]
    assert share(np.any(passed, axis=0)) > 0.79
    assert n <= seeds_to_show_all([(1.2, spread(1.0))], alpha=0.05 / 3)


@pytest.mark.parametrize("gap", [0.0, -1.0])
def test_no_number_helps_on_the_wrong_side_or_on_the_limit(gap):
    assert seeds_to_show_all([(1.0, spread(1.0)), (gap, spread(1.0))]) is None
    assert seeds_to_show_any([(gap, spread(1.0))]) is None


def test_the_plan_is_capped():
    assert seeds_to_show_all([(0.001, spread(1.0))]) is None
    assert seeds_to_show_all([(0.03, spread(1.0))], cap=6000) is None
    assert 6000 < seeds_to_show_all([(0.03, spread(1.0))]) < CAP


def test_what_seeds_do_not_shrink_can_make_it_hopeless():
    paper = {"fixed": 0.5**2, "fixed_df": 4.0}
    assert seeds_to_show_all([(0.5, spread(1.0, **paper))]) is None
    assert seeds_to_show_all([(1.5, spread(1.0, **paper))]) > seeds_to_show_all([(1.5, spread(1.0))])
    assert seeds_to_show_all([(1.0, spread(1.0, runs=1.0))]) is None


def test_prediction_plan_settles_it():
    contrast = spread(1.0, runs=2.0)
    n = seeds_to_show_all([(2.5, contrast)])
    rng = np.random.default_rng(4)
    found = one_sample(rng.normal(2.5, 1.0, (20_000, n))).predicting(2)
    assert share(found.p_above() <= 0.05) > 0.79


def test_deterministic_parts():
    assert one_sided_power(1.0, spread(0.0), 2, 0.05) == 1.0
    assert one_sided_power(-1.0, spread(0.0), 2, 0.05) == 0.0
    fixed = spread(0.0, fixed=1.0, fixed_df=4.0)
    assert one_sided_power(5.0, fixed, 2, 0.05) == 1.0
    assert one_sided_power(1.0, fixed, 2, 0.05) == 0.0


def test_sign_test_seeds():
    assert seeds_without_spread(0.05) == 5  # 1/32 < 0.05 < 1/16
    assert seeds_without_spread(0.05, 2) == 6


@pytest.mark.parametrize("bad", [{"alpha": 0.0}, {"alpha": 5}, {"power": 1.0}, {"power": 80}])
def test_levels_are_checked(bad):
    with pytest.raises(UserError, match="out of range"):
        seeds_to_show_all([(1.0, spread(1.0))], **bad)


@given(st.floats(0.05, 1e6), st.floats(0.01, 100), st.integers(2, 200), st.floats(1e-4, 0.2))
@settings(max_examples=80)
def test_power_is_a_probability_that_grows_with_n_and_with_the_effect(gap, std, n, alpha):
    here = one_sided_power(gap, spread(std), n, alpha)
    assert 0 <= here <= 1
    assert one_sided_power(gap, spread(std), n + 1, alpha) >= here - 1e-9
    assert one_sided_power(1.5 * gap, spread(std), n, alpha) >= here - 1e-9
    assert one_sided_power(2 * gap, spread(2 * std), n, alpha) == pytest.approx(here, abs=1e-9)


@pytest.mark.parametrize("gap", [1e4, 1e8, 1e12])
@pytest.mark.parametrize("n", [2, 5, 1000])
def test_power_far_out_where_the_noncentral_t_gives_up(gap, n):
    assert one_sided_power(gap, spread(1.0), n, 0.05) == pytest.approx(1.0, abs=1e-3)
    assert one_sided_power(-gap, spread(1.0), n, 0.05) == pytest.approx(0.0, abs=1e-12)
