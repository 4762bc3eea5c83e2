import math

import numpy as np
import pytest
from latentbench.stats.claims import judge_bound, settle
from latentbench.stats.hypothesis_tests import one_sample
from latentbench.stats.sequential import Schedule, combined, planner
from latentbench.stats.simulate import FALSE_AT_THE_LIMIT, TRUE_AT_THE_LIMIT, cycle, noise, order_paired
from latentbench.stats.simulate_sequential import MOST, Replayed, at_analyses, planned, right, wrong

ALPHA, REPETITIONS = 0.05, 2000
LIMIT = ALPHA + 4 * math.sqrt(ALPHA * (1 - ALPHA) / REPETITIONS)
SCHEDULE = Schedule(3, 12)


def test_later_looks_see_the_seeds_of_earlier_ones():
    draw = Replayed(noise("normal", np.random.default_rng(0)))
    long = draw((2, 1, 12))
    draw.rewind()
    np.testing.assert_array_equal(draw((2, 1, 4)), long[..., :4])


@pytest.mark.parametrize("shape", ["normal", "t3"])
@pytest.mark.parametrize("against", [False, True])
def test_any_wrong_verdict_at_any_look_stays_within_alpha(shape, against):
    among = TRUE_AT_THE_LIMIT if against else FALSE_AT_THE_LIMIT
    draw = noise(shape, np.random.default_rng(7))
    for kinds, clear in [*(([kind], 0) for kind in among.values()), (cycle(among, 6), 0), (cycle(among, 6), 6)]:
        found, _ = wrong(kinds, clear, draw, REPETITIONS, SCHEDULE, ALPHA, against=against)
        assert found <= LIMIT


def test_looking_with_the_fixed_test_does_not():
    draw = noise("normal", np.random.default_rng(8))
    sequential, peeking = wrong([order_paired], 0, draw, REPETITIONS, SCHEDULE, ALPHA, against=False)
    assert sequential <= LIMIT
    assert peeking > 2 * ALPHA


def test_what_is_clear_is_settled_early_and_what_is_not_loses_little():
    draw = noise("normal", np.random.default_rng(9))
    share, seeds, fixed = right(order_paired, 4.0, 5, draw, REPETITIONS, SCHEDULE, ALPHA)
    assert share == 1
    assert seeds < 6
    share, seeds, fixed = right(order_paired, 1.2, 1, draw, REPETITIONS, SCHEDULE, ALPHA)
    assert share > fixed - 0.08
    assert seeds < 9


def test_the_evidence_at_a_look_is_the_fixed_tests_on_its_seeds():
    x = np.random.default_rng(1).standard_normal((50, 1, 12))
    found = at_analyses(
        [lambda draw, shape, n, effect: (p := one_sample(draw((*shape, n))).p_above(0.0), p)],
        [0.0],
        lambda shape: x,
        50,
        SCHEDULE,
    )
    for (_, held, _), analysis in zip(found, SCHEDULE.within(12), strict=True):
        np.testing.assert_allclose(held, one_sample(x[..., : analysis.seeds]).p_above(0.0))


def test_seeds_that_are_planned_from_those_judged_keep_alpha_by_the_sequential_test_alone():
    repetitions = 400
    draw = noise("normal", np.random.default_rng(10))
    (fixed, _), (sequential, _), (shown, _) = planned(0.0, draw, repetitions, SCHEDULE, ALPHA)
    assert sequential <= ALPHA < fixed
    assert sequential <= shown <= 2 * ALPHA


@pytest.mark.parametrize("effect", [0.0, 1.0, 2.0])
def test_what_is_planned_is_what_verdicts_plan(effect):
    """Claim by claim, against `settle`: its verdicts and the seeds that it asks for."""
    x = np.random.default_rng(11).standard_normal((12, MOST))
    for row in x:
        n, held = SCHEDULE.first, None
        while held is None:
            taken = [(analysis, _bound(row[: analysis.seeds] + effect)) for analysis in SCHEDULE.within(n)]
            [judged] = settle([combined(taken)], ALPHA, planner=planner(SCHEDULE))
            if judged.verdict != "insufficient" or judged.needed_n is None or judged.needed_n > MOST:
                held = judged.verdict == "reproduced"
            else:
                n = judged.needed_n
        assert planned(effect, lambda shape, row=row: row[None], 1, SCHEDULE, ALPHA)[1] == (held, n)


def _bound(values):
    return judge_bound(dict(enumerate(values)), 0.0, "above")
