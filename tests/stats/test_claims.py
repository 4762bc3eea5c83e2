import json
import math
from dataclasses import FrozenInstanceError
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.stats.claims import PILOT, decide, judge_bound, judge_order, judge_trend, judge_value, settle
from latentbench.stats.samples import Sample
from scipy import stats

NLL = {0: 86.71, 1: 86.83, 2: 86.64, 3: 86.77, 4: 86.80}


def verdict(judgement):
    return decide([judgement])[0]


def moved(by, values=NLL, wiggle=0.02):
    """The same seeds, shifted, with a small wiggle of their own."""
    return {k: v + by + wiggle * (-1) ** k for k, v in values.items()}


# Values


def test_value_is_reproduced_by_equivalence_and_not_by_a_test_that_finds_nothing():
    assert verdict(judge_value(NLL, 86.76, 0.2)) == "reproduced"
    noisy = {0: 80.0, 1: 93.0, 2: 86.0}
    assert stats.ttest_1samp(list(noisy.values()), 86.76).pvalue > 0.5
    assert verdict(judge_value(noisy, 86.76, 0.2)) == "consistent"


def test_value_p_is_tost():
    x = np.array(list(NLL.values()))
    found = judge_value(NLL, 86.9, 0.2)
    low = stats.ttest_1samp(x, 86.7, alternative="greater").pvalue
    high = stats.ttest_1samp(x, 87.1, alternative="less").pvalue
    assert found.p_reproduced == pytest.approx(max(low, high))
    assert (found.low, found.high) == pytest.approx(tuple(stats.ttest_1samp(x, 0).confidence_interval(0.95)))
    assert found.estimate == pytest.approx(x.mean())


@pytest.mark.parametrize(
    ("better", "word"), [("lower", "better"), ("higher", "not-reproduced"), (None, "not-reproduced")]
)
def test_value_far_below(better, word):
    assert verdict(judge_value(NLL, 88.0, 0.2, better)) == word


@pytest.mark.parametrize(
    ("better", "word"), [("higher", "better"), ("lower", "not-reproduced"), (None, "not-reproduced")]
)
def test_value_far_above(better, word):
    assert verdict(judge_value(NLL, 85.0, 0.2, better)) == word


def test_against_allows_for_the_noise_of_a_single_reported_run():
    # The mean of 200 seeds is pinned down far outside the tolerance, yet one seed in three is further off.
    rng = np.random.default_rng(0)
    x = dict(enumerate(rng.normal(0.0, 1.0, 200)))
    found = judge_value(x, 1.0, 0.05)
    assert stats.ttest_1samp(list(x.values()), 0.95).pvalue < 1e-6
    assert verdict(found) == "consistent"
    assert settle([found])[0].needed_n is None
    assert verdict(judge_value(x, 1.0, 0.05, reported_runs=100)) == "not-reproduced"


def test_prediction_interval_decides_consistent():
    x = {0: 1.0, 1: 2.0, 2: 3.0}
    half = stats.t.ppf(0.975, 2) * math.sqrt(1 / 3 + 1)
    found = judge_value(x, 2.0 + 0.99 * half, 0.1)
    assert found.prediction == pytest.approx((2 - half, 2 + half))
    assert verdict(found) == "consistent"
    assert verdict(judge_value(x, 2.0 + 1.01 * half, 0.1)) == "insufficient"


def test_the_papers_own_spread_widens_the_comparison():
    exact, wide = judge_value(NLL, 86.76, 0.2), judge_value(NLL, 86.76, 0.2, reported_std=0.3, reported_runs=5)
    assert wide.p_reproduced > exact.p_reproduced
    far, far_wide = (
        judge_value(NLL, 88.0, 0.2, reported_runs=5),
        judge_value(NLL, 88.0, 0.2, reported_std=0.8, reported_runs=5),
    )
    assert far_wide.p_against > far.p_against
    low, high = far_wide.prediction
    assert (low + high) / 2 == pytest.approx(86.75)
    half = stats.t.ppf(0.975, 4) * math.sqrt(np.var(list(NLL.values()), ddof=1) / 5 + 0.8**2 / 5)
    assert (high - low) / 2 == pytest.approx(half)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"tolerance": math.nan}, "tolerance"),
        ({"tolerance": math.inf}, "tolerance"),
        ({"reported": math.nan}, "reported"),
        ({"better": "up"}, "better"),
        ({"reported_std": 0.1}, "number of runs"),
        ({"reported_std": 0.1, "reported_runs": 1}, "number of runs"),
        ({"reported_std": -0.1, "reported_runs": 5}, "number of runs"),
        ({"reported_std": math.nan, "reported_runs": 5}, "reported_std"),
        ({"reported_runs": 0}, "reported_runs"),
        ({"failed": -1}, "failed"),
    ],
)
def test_value_refuses(arguments, what):
    with pytest.raises(UserError, match=what):
        judge_value(NLL, **({"reported": 86.0, "tolerance": 0.1} | arguments))


def welch(a, b, alternative):
    """Welch's statistic with the smaller side's degrees of freedom."""
    found = stats.ttest_ind(a, b, equal_var=False)
    tail = stats.t.cdf if alternative == "less" else stats.t.sf
    return tail(found.statistic, min(len(a), len(b)) - 1)


# Orders


def test_order_is_paired_by_seed():
    a, b = NLL, moved(0.3)
    found = judge_order(a, b, "lower", names=("IWAE", "VAE"), unit="nats")
    pairs = stats.ttest_rel(list(a.values()), [b[k] for k in a], alternative="less")
    assert found.p_reproduced == pytest.approx(pairs.pvalue)
    assert found.p_against == pytest.approx(1 - pairs.pvalue)
    assert "paired" in found.text
    assert verdict(found) == "reproduced"
    assert verdict(judge_order(a, b, "higher")) == "not-reproduced"


def test_order_without_shared_seeds_is_welch():
    a, b = list(NLL.values()), list(moved(0.3).values())[:3]
    found = judge_order(a, b, "lower")
    assert found.p_reproduced == pytest.approx(welch(a, b, "less"))
    assert found.n == 3
    other_seeds = {k + 100: v for k, v in moved(0.3).items()}
    assert "paired" not in judge_order(NLL, other_seeds, "lower").text


def test_order_with_very_different_numbers_of_seeds():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 3), rng.normal(3, 0.1, 400)
    found = judge_order(a, b, "lower")
    assert found.p_reproduced == pytest.approx(welch(a, b, "less"))
    assert found.n == 3


def test_order_margin():
    a, b = NLL, moved(0.3)
    assert verdict(judge_order(a, b, "lower", 0.2)) == "reproduced"
    assert verdict(judge_order(a, b, "lower", 0.3)) == "insufficient"
    assert verdict(judge_order(a, b, "lower", 0.5)) == "not-reproduced"


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_order_refuses_margins(margin):
    with pytest.raises(UserError, match="margin"):
        judge_order(NLL, NLL, "lower", margin)


def test_order_needs_a_direction():
    with pytest.raises(UserError, match="better"):
        judge_order(NLL, NLL, "smaller")


# Trends

K1, K5, K50 = moved(0.0, wiggle=0.0), moved(-1.0), moved(-1.6, wiggle=-0.03)


def test_strict_trend_is_the_worst_step():
    found = judge_trend([K1, K5, K50], "falls", labels=["1", "5", "50"], name="NLL", unit="nats")
    steps = [
        stats.ttest_rel([b[k] for k in a], list(a.values()), alternative="less").pvalue
        for a, b in ((K1, K5), (K5, K50))
    ]
    assert found.p_reproduced == pytest.approx(max(steps))
    assert verdict(found) == "reproduced"
    assert verdict(judge_trend([K1, K5, K50], "rises")) == "not-reproduced"


def test_a_list_that_turns_back_is_no_strict_trend_though_its_slope_is():
    levels = [K1, K50, K5, moved(-2.5)]
    assert verdict(judge_trend(levels, "falls")) == "not-reproduced"
    assert verdict(judge_trend(levels, "falls", shape="overall")) == "reproduced"
    assert judge_trend(levels, "falls").p_against == pytest.approx(
        min(1, 3 * stats.ttest_rel(list(K50.values()), list(K5.values()), alternative="less").pvalue)
    )


def test_a_flat_step_is_not_settled_by_its_neighbours():
    flat = moved(-1.0, wiggle=-0.02)
    assert verdict(judge_trend([K1, K5, flat, moved(-3.0)], "falls")) == "insufficient"


def test_overall_trend_measures_by_position():
    at = [0.0, 1.6, 3.9]
    found = judge_trend([K1, K5, K50], "falls", shape="overall", positions=at)
    means = [np.mean(list(x.values())) for x in (K1, K5, K50)]
    assert found.estimate == pytest.approx(stats.linregress(at, means).slope)


def test_trend_over_unpaired_levels():
    levels = [list(x.values())[: 3 + i] for i, x in enumerate((K1, K5, K50))]
    found = judge_trend(levels, "falls")
    worst = max(welch(b, a, "less") for a, b in pairwise(levels))
    assert found.p_reproduced == pytest.approx(worst)
    assert found.n == 3
    assert verdict(judge_trend(levels, "falls", shape="overall")) == "reproduced"


def test_trend_with_a_level_missing_or_single():
    assert verdict(judge_trend([K1, {0: math.nan}, K50], "falls")) == "not-run"
    assert verdict(judge_trend([K1, {0: 86.0}, K50], "falls")) == "insufficient"
    assert verdict(judge_trend([K1, {0: 86.0}, K50], "falls", shape="overall")) == "insufficient"


@pytest.mark.parametrize(
    ("levels", "arguments", "what"),
    [
        ([K1], {}, "level"),
        ([K1, K5], {"labels": ["a"]}, "labels"),
        ([K1, K5], {"positions": [0.0, 1.0]}, "strict"),
        ([K1, K5], {"shape": "overall", "positions": [1.0]}, "positions"),
        ([K1, K5], {"shape": "overall", "positions": [1.0, 1.0]}, "positions"),
        ([K1, K5], {"shape": "overall", "positions": [2.0, 1.0]}, "positions"),
        ([K1, K5], {"shape": "monotone"}, "shape"),
        ([K1, K5], {"direction": "up"}, "direction"),
        ([K1, K5], {"margin": -1.0}, "margin"),
    ],
)
def test_trend_refuses(levels, arguments, what):
    with pytest.raises(UserError, match=what):
        judge_trend(levels, **({"direction": "falls"} | arguments))


# Bounds


def test_bound_is_a_one_sided_test_on_the_mean():
    x = list(NLL.values())
    found = judge_bound(NLL, 86.6, "above")
    assert found.p_reproduced == pytest.approx(stats.ttest_1samp(x, 86.6, alternative="greater").pvalue)
    assert verdict(found) == "reproduced"
    assert verdict(judge_bound(NLL, 86.6, "below")) == "not-reproduced"
    assert "1 of 5 seeds lies on the wrong side" in judge_bound(NLL, 86.7, "above").text


def test_bound_refuses():
    with pytest.raises(UserError, match="side"):
        judge_bound(NLL, 1.0, "over")
    with pytest.raises(UserError, match="limit"):
        judge_bound(NLL, math.inf, "above")


# Few seeds, failures, no spread


def every_kind(values, **more):
    return [
        judge_value(values, 86.75, 0.5, **more),
        judge_order(values, {k: v + 9 for k, v in NLL.items()}, "lower", **more),
        judge_order({k: v + 9 for k, v in NLL.items()}, values, "higher", **more),
        judge_trend([values, {k: v + 9 for k, v in NLL.items()}], "rises", **more),
        judge_bound(values, 50.0, "above", **more),
    ]


@pytest.mark.parametrize("nothing", [{}, {0: math.nan, 1: math.inf, 2: None}])
def test_no_seed_is_not_run(nothing):
    for j in every_kind(nothing):
        assert (j.n, j.p_reproduced, j.p_against, j.estimate) == (0, 1.0, 1.0, None)
        assert verdict(j) == "not-run"
        assert j.failed == len(nothing)


def test_one_seed_is_never_enough():
    for j in every_kind({0: 86.75}):
        assert verdict(j) == "insufficient"
        assert settle([j])[0].needed_n == PILOT
        assert (j.low, j.high) == (None, None)
        assert "spread unknown" in j.text
        assert "at least 3 seeds" in settle([j])[0].text


def test_one_value_of_a_deterministic_method_is_enough():
    assert verdict(judge_value({0: 86.75}, 86.8, 0.1, deterministic=True)) == "reproduced"
    assert verdict(judge_value({0: 86.75}, 86.9, 0.1, "lower", deterministic=True)) == "better"
    assert verdict(judge_bound({0: 86.75}, 87, "above", deterministic=True)) == "not-reproduced"
    pca = Sample.of({0: 90.0}, deterministic=True)
    against_pca = judge_order(NLL, pca, "lower")
    assert verdict(against_pca) == "reproduced"
    assert against_pca.n == 5
    one_sample = stats.ttest_1samp(list(NLL.values()), 90.0, alternative="less").pvalue
    assert against_pca.p_reproduced == pytest.approx(one_sample)
    # The other side's randomness is not excused.
    assert verdict(judge_order({0: 86.75}, pca, "lower")) == "insufficient"


def test_two_numbers_without_spread_are_settled_exactly():
    low, high = {0: 1.0, 1: 1.0}, {0: 1.5, 1: 1.5}
    assert verdict(judge_order(low, high, "lower")) == "reproduced"
    assert verdict(judge_order(high, low, "lower")) == "not-reproduced"
    assert verdict(judge_order(low, low, "lower")) == "not-reproduced"  # equal is not better
    assert verdict(judge_order(low, high, "lower", 0.5)) == "reproduced"  # "by 0.5" is met
    assert verdict(judge_order(low, high, "lower", 0.6)) == "not-reproduced"
    assert verdict(judge_trend([low, high, high], "rises")) == "not-reproduced"
    assert verdict(judge_value(low, 1.1, 0.1)) == "reproduced"  # on the edge, up to rounding
    assert verdict(judge_value(low, 1.1001, 0.1)) == "not-reproduced"
    assert verdict(judge_bound(low, 1.0, "above")) == "reproduced"
    assert verdict(judge_bound(low, 1.0, "below")) == "reproduced"
    settled = settle([judge_value(low, 1.1, 0.1)])[0]
    assert settled.needed_n == 2
    assert settled.effect_size is None
    assert "no spread" in settled.text


def test_a_coarse_metric_without_spread_counts_only_its_seeds():
    twelve, ten = {0: 12, 1: 12, 2: 12}, {0: 10, 1: 10, 2: 10}
    found = judge_order(twelve, ten, "higher", deterministic=False)
    assert found.p_reproduced == pytest.approx(1 / 8)
    assert verdict(found) == "insufficient"
    assert settle([found])[0].needed_n == 5
    five = judge_order(dict.fromkeys(range(5), 12), dict.fromkeys(range(5), 10), "higher", deterministic=False)
    assert verdict(five) == "reproduced"
    tie = judge_order(ten, ten, "higher", deterministic=False)
    assert verdict(tie) == "insufficient"
    assert settle([tie])[0].needed_n is None


def test_one_side_without_spread_leaves_the_noise_of_the_other():
    fixed = dict.fromkeys(range(5), 86.75)
    assert verdict(judge_order(NLL, fixed, "lower")) == "insufficient"
    assert verdict(judge_order(fixed, moved(0.3), "lower")) == "reproduced"


def test_failures_never_count_and_are_always_named():
    for whole, holed in zip(every_kind(NLL), every_kind(NLL | {7: math.nan, 8: math.inf, 9: None})):
        assert (whole.p_reproduced, whole.p_against, whole.n) == (holed.p_reproduced, holed.p_against, holed.n)
        assert holed.failed == 3
        assert "3 of" in holed.text
        assert "failed" in holed.text
        assert "failed" not in whole.text
    for j in every_kind(NLL, failed=2):
        assert j.failed == 2
        assert "2 of" in j.text


def test_failures_are_named_by_side():
    text = judge_order(NLL | {9: math.nan}, Sample.of(moved(0.3), failed=4), "lower", names=("IWAE", "VAE")).text
    assert "5 of 15 runs failed (1 of IWAE, 4 of VAE) and are left out" in text


def test_a_failed_seed_takes_its_pair_along():
    a, b = dict(NLL), moved(0.3)
    a[4] = math.nan
    found = judge_order(a, b, "lower")
    assert found.n == 4
    assert (
        found.p_reproduced
        == judge_order({k: v for k, v in a.items() if k != 4}, {k: b[k] for k in range(4)}, "lower").p_reproduced
    )


# The words


def test_sentences():
    a, b = dict(enumerate([80.0, 80.2, 79.9, 80.1, 80.0])), dict(enumerate([82.0, 82.0, 81.8, 82.1, 81.9]))
    order = judge_order(a, b, "lower", names=("IWAE k=50", "VAE k=50"), unit="nats")
    assert order.text == "IWAE k=50 is lower than VAE k=50 by 1.92 nats (95% CI 1.82 to 2.02, n = 5 paired seeds)"
    order = judge_order(b, a, "lower", 0.5, names=("VAE", "IWAE"), unit="nats")
    assert order.text == (
        "VAE is higher than IWAE by 1.92 nats (95% CI 1.82 to 2.02, n = 5 paired seeds), "
        "where lower by at least 0.5 nats is claimed"
    )
    value = judge_value(a, 80.3, 0.1, name="IWAE", unit="nats")
    assert value.text == (
        "IWAE gives 80.04 nats (95% CI 79.90 to 80.18, n = 5 seeds), 0.26 below the reported 80.3 nats (tolerance 0.1)"
    )
    bound = judge_bound(a, 80.5, "above", name="IWAE", unit="nats")
    assert bound.text == (
        "IWAE gives 80.04 nats (95% CI 79.90 to 80.18, n = 5 seeds), 0.46 below the limit 80.5 nats, "
        "where above is claimed; 5 of 5 seeds lie on the wrong side"
    )
    trend = judge_trend([b, a], "falls", name="NLL", labels=["k=1", "k=50"], unit="nats")
    assert trend.text == (
        "NLL falls at 1 of 1 steps of k=1, k=50; the least clear step, k=1 to k=50, is -1.92 nats "
        "(95% CI -2.02 to -1.82, n = 5 paired seeds)"
    )
    slope = judge_trend([b, a], "rises", shape="overall", name="NLL", labels=["k=1", "k=50"], unit="nats")
    assert slope.text == (
        "NLL falls by 1.92 nats a level on average over k=1, k=50 (95% CI 1.82 to 2.02, n = 5 paired seeds), "
        "where rises is claimed"
    )


def test_judgements_are_frozen_and_plain():
    found = settle(every_kind(NLL) + every_kind({}) + every_kind({0: 1.0}))
    for j in found:
        again = json.loads(json.dumps(j.as_dict(), allow_nan=False))
        assert again["verdict"] == j.verdict
        assert not any(k.startswith("_") for k in again)
    with pytest.raises(FrozenInstanceError):
        found[0].n = 9


# Symmetries

values = st.lists(st.floats(-50, 50).map(lambda x: round(x, 3)), min_size=2, max_size=7)
seeds = values.map(lambda xs: dict(enumerate(xs)))


def negated(x):
    return {k: -v for k, v in x.items()}


def scaled(x, scale, shift):
    return {k: scale * v + shift for k, v in x.items()}


def close(a, b):
    assert a.p_reproduced == pytest.approx(b.p_reproduced, rel=1e-6, abs=1e-9)
    assert a.p_against == pytest.approx(b.p_against, rel=1e-6, abs=1e-9)
    assert (a.effect_size is None) == (b.effect_size is None)


def spread_out(*samples):
    assume(all(np.std(list(s.values())) > 0.01 for s in samples))


@given(seeds, seeds, st.floats(-50, 50), st.floats(0.01, 20), st.floats(0, 10))
@settings(max_examples=60, deadline=None)
def test_lower_is_higher_under_negation(a, b, reported, tolerance, margin):
    close(judge_order(a, b, "lower", margin), judge_order(negated(a), negated(b), "higher", margin))
    close(
        judge_trend([a, b, a], "falls", margin=margin),
        judge_trend([negated(a), negated(b), negated(a)], "rises", margin=margin),
    )
    close(judge_bound(a, reported, "above"), judge_bound(negated(a), -reported, "below"))
    x, y = judge_value(a, reported, tolerance, "lower"), judge_value(negated(a), -reported, tolerance, "higher")
    close(x, y)
    assert verdict(x) == verdict(y)


@given(seeds, seeds, st.floats(-50, 50), st.floats(0.01, 20), st.floats(0.01, 100), st.floats(-100, 100))
@settings(max_examples=60, deadline=None)
def test_verdicts_do_not_depend_on_the_unit(a, b, reported, tolerance, scale, shift):
    spread_out(a, b)
    if set(a) == set(b):
        spread_out({k: a[k] - b[k] for k in a})
    a2, b2 = scaled(a, scale, shift), scaled(b, scale, shift)
    close(judge_value(a, reported, tolerance), judge_value(a2, scale * reported + shift, scale * tolerance))
    close(judge_order(a, b, "lower", tolerance), judge_order(a2, b2, "lower", scale * tolerance))
    close(judge_bound(a, reported, "below"), judge_bound(a2, scale * reported + shift, "below"))
    x, y = judge_order(a, b, "lower"), judge_order(a2, b2, "lower")
    if x.effect_size is not None and y.effect_size is not None:
        assert x.effect_size == pytest.approx(y.effect_size, rel=1e-5, abs=1e-6)


@given(seeds, seeds, st.floats(0, 20), st.floats(0, 20))
@settings(max_examples=60, deadline=None)
def test_a_larger_margin_is_harder_to_show_and_easier_to_refute(a, b, margin, more):
    near, far = judge_order(a, b, "higher", margin), judge_order(a, b, "higher", margin + more)
    assume(margin > 0 or more == 0 or near.low != near.high)  # a tie turns from refuted to met where nothing varies
    assert far.p_reproduced >= near.p_reproduced - 1e-12
    assert far.p_against <= near.p_against + 1e-12


@given(seeds, st.floats(-50, 50), st.floats(0.01, 20), st.floats(0, 20))
@settings(max_examples=60, deadline=None)
def test_a_larger_tolerance_is_easier_to_meet(x, reported, tolerance, more):
    tight, wide = judge_value(x, reported, tolerance), judge_value(x, reported, tolerance + more)
    assert wide.p_reproduced <= tight.p_reproduced + 1e-12
    assert wide.p_against >= tight.p_against - 1e-12


@given(seeds, st.floats(-50, 50), st.floats(0.01, 20))
@settings(max_examples=60, deadline=None)
def test_evidence_for_and_against_exclude_each_other(x, reported, tolerance):
    for j in (
        judge_value(x, reported, tolerance),
        judge_bound(x, reported, "above"),
        judge_order(x, [1.0, 2.0], "lower"),
    ):
        assert j.p_reproduced + j.p_against >= 1 - 1e-9
