from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.stats.claims import judge_bound, judge_order, settle
from latentbench.stats.conditions import seeds_to_settle
from latentbench.stats.sequential import KEPT_BACK, Analysis, Schedule, combined, planner


@given(st.integers(2, 60), st.integers(0, 400))
def test_looks_spend_alpha_once(first, more):
    schedule = Schedule(first, first + more)
    found = list(islice(schedule, 60))
    assert sum(analysis.share for analysis in found) == pytest.approx(1, abs=1e-9)
    assert all(analysis.share > 0 for analysis in found)
    assert all(a.seeds < b.seeds for a, b in pairwise(found))
    within = schedule.within(schedule.cap)
    assert (within[0].seeds, within[-1].seeds) == (first, first + more)
    assert sum(analysis.share for analysis in within) == pytest.approx(1 - KEPT_BACK)
    assert all(b.seeds >= 1.25 * a.seeds for a, b in pairwise(within[:-1]))


def test_looks_grow_by_half():
    assert [analysis.seeds for analysis in Schedule(3, 12).within(24)] == [3, 4, 6, 8, 12, 16, 24]
    assert [analysis.seeds for analysis in Schedule(5, 20).within(20)] == [5, 8, 12, 16, 20]


@pytest.mark.parametrize(("first", "cap"), [(1, 5), (5, 4)])
def test_looks_that_are_none(first, cap):
    with pytest.raises(UserError):
        Schedule(first, cap)


def far(n, mean=1.0):
    x = np.linspace(-1, 1, n) + mean
    return judge_bound(dict(enumerate(x)), 0.0, "above")


def test_the_best_look_counts_at_its_share():
    at = [(Analysis(3, 0.1), far(3)), (Analysis(6, 0.3), far(6))]
    found = combined(at)
    ps = [j.p_reproduced / analysis.share for analysis, j in at]
    assert found.p_reproduced == pytest.approx(min(1, *ps))
    assert found.p_against == 1
    assert (found.estimate, found.n) == (at[-1][1].estimate, 6)


def test_a_claim_that_turns_is_not_settled_both_ways():
    up, down = far(30, 5.0), far(40, -9.0)
    found = combined([(Analysis(30, 0.4), up), (Analysis(40, 0.4), down)])
    assert [found.p_reproduced, found.p_against].count(1.0) == 1
    [verdict] = settle([found])
    assert verdict.verdict == "not-reproduced", "the analysis with more evidence"


def test_one_look_needs_more_than_the_fixed_test():
    p = 0.04
    from scipy.stats import t

    x = np.linspace(-1, 1, 9)
    x = x / x.std(ddof=1) + t.isf(p, 8) / 3
    judgement = judge_bound(dict(enumerate(x)), 0.0, "above")
    assert settle([judgement])[0].verdict == "reproduced"
    assert settle([combined([(Analysis(9, 0.5), judgement)])])[0].verdict == "insufficient"


def test_the_plan_is_a_look_with_power():
    rng = np.random.default_rng(3)
    a, b = rng.normal(1.0, 1.0, 4), rng.normal(0.0, 1.0, 4)
    judgement = judge_order(dict(enumerate(a)), dict(enumerate(b)), "higher")
    schedule = Schedule(3, 24)
    [settled] = settle([combined([(Analysis(4, 0.01), judgement)])], planner=planner(schedule))
    assert settled.verdict == "insufficient"
    coming = {analysis.seeds: analysis.share for analysis in islice(schedule, 30)}
    assert settled.needed_n in coming
    enough = seeds_to_settle(judgement._conditions, 4, 0.05 * coming[settled.needed_n], 0.8)
    assert enough <= settled.needed_n
    before = max(n for n in coming if n < settled.needed_n)
    assert before <= 4 or seeds_to_settle(judgement._conditions, 4, 0.05 * coming[before], 0.8) > before
    assert f"about {settled.needed_n} seeds of each" in settled.text
