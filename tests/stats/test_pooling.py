"""One claim over many cells."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.stats.claims import judge_bound, judge_order, judge_trend, settle
from latentbench.stats.pooling import judge_all, judge_mean, judge_rank, judge_sign
from latentbench.stats.samples import Sample
from scipy import stats


def seeds(mean, rng, n=4, spread=0.1):
    return dict(enumerate(rng.normal(mean, spread, n)))


def orders(gains, **options):
    rng = np.random.default_rng(0)
    return [judge_order(seeds(1 - g, rng, **options), seeds(1.0, rng, **options), "lower") for g in gains]


NAMES = [f"cell {i}" for i in range(20)]


@pytest.mark.parametrize(("right", "wrong"), [(8, 0), (7, 1), (1, 7), (0, 5), (4, 4)])
def test_sign_is_the_binomial_test(right, wrong):
    cells = orders([3.0] * right + [-3.0] * wrong)
    found = judge_sign(cells, NAMES)
    assert found.p_reproduced == pytest.approx(stats.binomtest(right, right + wrong, alternative="greater").pvalue)
    assert found.p_against == pytest.approx(stats.binomtest(wrong, right + wrong, alternative="greater").pvalue)
    interval = stats.binomtest(right, right + wrong).proportion_ci(0.95, method="exact")
    assert (found.estimate, found.low, found.high) == pytest.approx((right / (right + wrong), *interval))


def test_sign_holds_its_level_and_needs_no_spread():
    rng = np.random.default_rng(1)
    rejected = 0
    for _ in range(400):
        cells = [judge_order([rng.normal()], [rng.normal()], "higher") for _ in range(8)]
        rejected += judge_sign(cells, NAMES).p_reproduced <= 0.05
    assert rejected / 400 == pytest.approx(9 / 256, abs=0.025)


def test_sign_leaves_ties_out_and_counts_what_is_missing_against_either():
    tie = judge_order([2.0, 2.0], [2.0, 2.0], "lower")
    absent = judge_order([], [1.0, 2.0], "lower")
    cells = orders([2.0] * 6)
    assert judge_sign([*cells, tie], NAMES).p_reproduced == pytest.approx(2**-6)
    found = judge_sign([*cells, absent], NAMES)
    assert found.p_reproduced == pytest.approx(8 / 128)
    assert found.n == 4
    assert "1 of 7 without a result" in found.text
    assert judge_sign([absent, absent], NAMES).n == 0


@pytest.mark.parametrize(
    "cell",
    [
        lambda good: judge_bound([3.0, 3.1, 2.9], 2.0 if good else 4.0, "above"),
        lambda good: judge_trend([[1.0, 1.1], [2.0, 2.1]], "rises" if good else "falls"),
        lambda good: judge_order([1.0], [2.0], "lower" if good else "higher"),
    ],
)
def test_side_says_where_the_estimate_lies(cell):
    assert (cell(True).side, cell(False).side) == (1, -1)


def test_all_is_intersection_union():
    cells = orders([2.0, 1.5, 0.05])
    found = judge_all(cells, NAMES)
    assert found.p_reproduced == max(c.p_reproduced for c in cells)
    assert found.p_against == min(1.0, 3 * min(c.p_against for c in cells))
    assert found.estimate == pytest.approx(cells[2].estimate), "of the least clear cell"
    assert "cell 2" in found.text
    assert [j.verdict for j in settle([judge_all(orders([2.0, 1.5]), NAMES)])] == ["reproduced"]
    assert [j.verdict for j in settle([judge_all(orders([2.0, -1.5]), NAMES)])] == ["not-reproduced"]


def test_mean_is_the_t_test_of_seed_by_seed_means():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, (5, 4)), rng.normal(0.6, 1, (5, 4))
    pairs = [(Sample.of(dict(enumerate(x))), Sample.of(dict(enumerate(y)))) for x, y in zip(a, b)]
    found = judge_mean(pairs, "lower", [0.0] * 5, NAMES[:5], unit="nats")
    test = stats.ttest_rel(a.mean(0), b.mean(0), alternative="less")
    assert found.p_reproduced == pytest.approx(test.pvalue)
    assert found.estimate == pytest.approx((a - b).mean())
    assert (found.low, found.high) == pytest.approx(
        tuple(stats.ttest_rel(a.mean(0), b.mean(0)).confidence_interval(0.95))
    )


def test_mean_holds_its_level_where_cells_share_their_noise():
    """The same seeds go wrong in all cells at once: what averages within a seed does not count it twelve times."""
    rng = np.random.default_rng(3)
    rejected = 0
    for _ in range(400):
        common = rng.normal(0, 1, 4)
        pairs = []
        for _ in range(12):
            noise = common + rng.normal(0, 0.1, 4)
            pairs.append((Sample.of(dict(enumerate(noise))), Sample.of(dict.fromkeys(range(4), 0.0))))
        rejected += judge_mean(pairs, "higher", [0.0] * 12, NAMES[:12]).p_reproduced <= 0.05
    assert rejected / 400 == pytest.approx(0.05, abs=0.03)


def test_mean_needs_every_cell_and_a_margin_is_averaged():
    rng = np.random.default_rng(4)
    pair = Sample.of(seeds(1.0, rng)), Sample.of(seeds(2.0, rng))
    none = judge_mean([pair, (pair[0], Sample.of([]))], "lower", [0.0, 0.0], NAMES[:2])
    assert (none.p_reproduced, none.p_against, none.n) == (1.0, 1.0, 4)
    assert "cell 1" in none.text
    assert judge_mean([pair] * 2, "lower", [0.5, 0.7], NAMES[:2]).reference == pytest.approx(0.6)
    assert judge_mean([pair] * 2, "lower", [0.5, 2.0], NAMES[:2]).side == -1


def exhaustive(cells, among, better, method):
    """P(rank sum at most as large) by going through every order within every cell."""
    sign = 1 if better == "lower" else -1
    ranks = [stats.rankdata([sign * c[m] for m in among]) for c in cells]
    total = sum(r[among.index(method)] for r in ranks)
    sums = [sum(choice) for choice in itertools.product(*ranks)]
    return np.mean([s <= total + 1e-9 for s in sums]), np.mean([s >= total - 1e-9 for s in sums])


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_rank_is_exact_with_ties(better):
    rng = np.random.default_rng(5)
    among = ["a", "b", "c", "d"]
    cells = [dict(zip(among, rng.integers(0, 4, 4).astype(float))) for _ in range(5)]
    found = judge_rank(cells, "b", among, better)
    assert (found.p_reproduced, found.p_against) == pytest.approx(exhaustive(cells, among, better, "b"))
    own = [stats.rankdata([c[m] if better == "lower" else -c[m] for m in among])[1] for c in cells]
    assert found.estimate == pytest.approx(np.mean(own))


def test_rank_settles_and_counts_missing_cells_against_either():
    cells = [{"a": 1.0 + i, "b": 2.0 + i, "c": 3.0 + i} for i in range(5)]
    assert settle([judge_rank(cells, "a", ["a", "b", "c"], "lower")])[0].verdict == "reproduced"
    assert settle([judge_rank(cells, "a", ["a", "b", "c"], "higher")])[0].verdict == "not-reproduced"
    whole, partial = (judge_rank(c, "a", ["a", "b", "c"], "lower") for c in (cells, [*cells, {"a": 1.0}]))
    assert partial.p_reproduced > whole.p_reproduced
    assert partial.p_against >= whole.p_against
    assert judge_rank([{}, {"a": 1.0}], "a", ["a", "b"], "lower").n == 0
    with pytest.raises(UserError, match="among"):
        judge_rank(cells, "z", ["a", "b"], "lower")


@pytest.mark.parametrize("judge", [judge_sign, judge_all])
def test_no_cells_are_refused(judge):
    with pytest.raises(UserError, match="no cells"):
        judge([], [])


def test_what_a_sign_test_needs_is_cells():
    text = settle([judge_sign(orders([1.0] * 6 + [-1.0] * 4), NAMES)])[0].text
    assert "more cells, not by more seeds" in text
    assert "can settle nothing" in settle([judge_sign(orders([1.0] * 3), NAMES)])[0].text
