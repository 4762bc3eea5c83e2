import math

import numpy as np
import pytest
from latentbench.stats import simulate
from latentbench.stats.claims import decide, judge_bound, judge_order, judge_trend, judge_value
from latentbench.stats.conditions import beyond, within
from latentbench.stats.hypothesis_tests import holm, independent, one_sample, paired
from latentbench.stats.simulate import (
    FALSE_AT_THE_LIMIT,
    TRUE_AT_THE_LIMIT,
    cycle,
    noise,
    wrong_against,
    wrong_reproduced,
)

ALPHA, REPETITIONS = 0.05, 4000
LIMIT = ALPHA + 4 * math.sqrt(ALPHA * (1 - ALPHA) / REPETITIONS)


@pytest.mark.parametrize("kind", ["normal", "t3", "right", "left"])
def test_noise_has_mean_0_and_variance_1(kind):
    x = noise(kind, np.random.default_rng(0))((400_000,))
    assert x.mean() == pytest.approx(0, abs=0.01)
    assert x.var() == pytest.approx(1, abs=0.15 if kind == "t3" else 0.02)


def test_the_vectorised_judgements_are_those_of_the_claims():
    rng = np.random.default_rng(1)
    a, b, c = rng.normal(0, 1, (3, 40, 5)) + np.array([0.0, 0.8, 1.6])[:, None, None]
    x = one_sample(a)
    fast = [
        simulate.evidence(within(x, x.predicting(1), 0.3, 0.9)),
        simulate.evidence([beyond(paired(b, a), 0.0, 1, closed=False)]),
        simulate.evidence([beyond(independent(b, a), 0.0, 1, closed=False)]),
        simulate.evidence([beyond(x, -0.5, 1, closed=True)]),
        simulate.evidence([beyond(paired(b, a), 0.0, 1, closed=False), beyond(paired(c, b), 0.0, 1, closed=False)]),
    ]
    held, broken = (np.stack(p, axis=1) for p in zip(*fast))
    for i in range(40):
        u, v, w = (dict(enumerate(y[i])) for y in (a, b, c))
        slow = [
            judge_value(u, 0.3, 0.9),
            judge_order(v, u, "higher"),
            judge_order(list(v.values()), u, "higher"),
            judge_bound(u, -0.5, "above"),
            judge_trend([u, v, w], "rises"),
        ]
        np.testing.assert_allclose([j.p_reproduced for j in slow], held[i], rtol=1e-9)
        np.testing.assert_allclose([j.p_against for j in slow], broken[i], rtol=1e-9)
        words = decide(slow)
        assert [w == "reproduced" for w in words] == (holm(held[i]) <= ALPHA).tolist()
        assert [w == "not-reproduced" for w in words] == (holm(broken[i]) <= ALPHA).tolist()


@pytest.mark.parametrize("shape", ["normal", "t3"])
@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_wrong_verdicts_stay_within_alpha(shape, n):
    draw = noise(shape, np.random.default_rng(100 * n))
    for name, kind in FALSE_AT_THE_LIMIT.items():
        assert wrong_reproduced([kind], 0, draw, REPETITIONS, n, ALPHA) <= LIMIT, name
    for name, kind in TRUE_AT_THE_LIMIT.items():
        assert wrong_against([kind], 0, draw, REPETITIONS, n, ALPHA) <= LIMIT, name


@pytest.mark.parametrize("shape", ["normal", "t3"])
@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize(("m", "clear"), [(5, 0), (20, 0), (10, 10)])
def test_any_wrong_verdict_in_a_family_stays_within_alpha(shape, n, m, clear):
    draw = noise(shape, np.random.default_rng(n * m + clear))
    assert wrong_reproduced(cycle(FALSE_AT_THE_LIMIT, m), clear, draw, REPETITIONS, n, ALPHA) <= LIMIT
    assert wrong_against(cycle(TRUE_AT_THE_LIMIT, m), clear, draw, REPETITIONS, n, ALPHA) <= LIMIT


def test_the_simulation_can_fail():
    """Without Holm's correction the same families go wrong far more often than alpha."""
    draw = noise("normal", np.random.default_rng(0))
    held, broken = simulate.family(cycle(FALSE_AT_THE_LIMIT, 20), [0.0] * 20, draw, REPETITIONS, 5)
    assert (held <= ALPHA).any(axis=1).mean() > 0.4
    assert (broken <= ALPHA).any(axis=1).mean() > 0.4


def test_the_level_is_used_up_where_the_test_is_exact():
    draw = noise("normal", np.random.default_rng(0))
    found = wrong_reproduced([FALSE_AT_THE_LIMIT["bound"]], 0, draw, 20_000, 5, ALPHA)
    assert found == pytest.approx(ALPHA, abs=0.007)


def test_a_single_noisy_reported_run_is_not_held_against_the_paper():
    draw = noise("normal", np.random.default_rng(0))
    for m in (1, 20):
        assert wrong_against([simulate.value_one_run] * m, 0, draw, REPETITIONS, 5, ALPHA) <= LIMIT


def test_power_is_that_of_the_noncentral_t():
    from statsmodels.stats.power import TTestPower

    draw = noise("normal", np.random.default_rng(0))
    found = simulate.right(simulate.bound, 1.0, 1, draw, 20_000, 5, ALPHA)
    assert found == pytest.approx(TTestPower().power(1.0, 5, ALPHA, alternative="larger"), abs=0.012)


def test_the_report_prints_every_table(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["simulate", "--repetitions", "60"])
    simulate.main()
    told = capsys.readouterr().out
    assert told.count("\n\n| ") == 7
    assert "60 repetitions" in told
