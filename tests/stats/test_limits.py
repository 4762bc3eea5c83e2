"""Intervals of quantities that have a lowest or a highest value."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.stats.claims import judge_bound, judge_order, judge_trend, judge_value
from latentbench.stats.intervals import inside, of_difference, t_interval

UNIT = (0.0, 1.0)
POSITIVE = (0.0, None)


def test_ends_stay_within_the_limits_where_the_symmetric_interval_does_not():
    x = np.array([0.97, 0.995, 0.999])
    args = 3, x.mean(), x.std(ddof=1)
    low, high = t_interval(*args)
    assert high > 1
    low, high = t_interval(*args, limits=UNIT)
    assert 0 < low < x.mean() < high < 1
    low, high = t_interval(3, 2.0, 3.0, limits=POSITIVE)
    assert 0 < low < 2 < high < np.inf
    low, high = t_interval(2, -2.0, 9.0, limits=(None, 0.0))
    assert -np.inf < low < -2 < high < 0


@pytest.mark.parametrize("limits", [(-1.0, 1.0), (0.0, 100.0), (-3.0, None), (None, 7.0)])
def test_a_narrow_interval_is_the_symmetric_one(limits):
    low, high = inside(limits, 0.4, 1e-4)
    assert (low, high) == (pytest.approx(0.4 - 1e-4, abs=1e-7), pytest.approx(0.4 + 1e-4, abs=1e-7))


def test_scale_and_direction_make_no_difference():
    """What holds of a share holds of per cent, and of one minus it."""
    low, high = map(float, inside(UNIT, 0.93, 0.05))
    for limits, centre, half, expected in (
        ((0.0, 100.0), 93.0, 5.0, (100 * low, 100 * high)),
        (UNIT, 0.07, 0.05, (1 - high, 1 - low)),
        ((-1.0, 0.0), -0.93, 0.05, (-high, -low)),
    ):
        assert tuple(map(float, inside(limits, centre, half))) == pytest.approx(expected)


def test_without_spread_without_values_and_outside_it_is_as_before():
    assert inside(UNIT, 1.0, 0.0) == (1.0, 1.0)
    assert np.isnan(inside(UNIT, 0.5, np.nan)).all()
    assert inside(UNIT, 1.5, 0.2) == (pytest.approx(1.3), pytest.approx(1.7)), (
        "an impossible estimate is shown as it is"
    )
    low, high = inside(POSITIVE, [1.0, 2.0, -1.0], [5.0, 0.0, 0.5])
    assert (low[0] > 0, low[1], high[1], low[2]) == (True, 2.0, 2.0, -1.5)
    assert np.isfinite(inside(POSITIVE, 1e-9, 1e9)).all()


DRAWS = {
    "accuracy near 1": (UNIT, lambda r, s: r.beta(20, 0.5, s), 20 / 20.5),
    "share": (UNIT, lambda r, s: r.beta(9, 1, s), 0.9),
    "cosine": ((-1.0, 1.0), lambda r, s: 2 * r.beta(50, 1, s) - 1, 2 * 50 / 51 - 1),
    "middle": (UNIT, lambda r, s: r.beta(5, 5, s), 0.5),
    "milliseconds": (POSITIVE, lambda r, s: np.exp(r.normal(0, 0.5, s)), np.exp(0.125)),
    "exponential": (POSITIVE, lambda r, s: r.exponential(3.0, s), 3.0),
    "normal": (UNIT, lambda r, s: r.normal(0.7, 0.02, s), 0.7),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("n", [3, 5, 10])
def test_coverage(name, n):
    """At least that of Student's interval, near 95 % (91 % for the most skewed), and never beyond the limits."""
    limits, draw, truth = DRAWS[name]
    x = draw(np.random.default_rng(0), (20_000, n))
    args = n, x.mean(1), x.std(1, ddof=1)
    low, high = t_interval(*args, limits=limits)
    covered = ((low <= truth) & (truth <= high)).mean()
    plain = t_interval(*args)
    assert covered >= ((plain[0] <= truth) & (truth <= plain[1])).mean() - 0.002
    assert 0.91 <= covered <= 0.965
    assert low.min() >= (limits[0] if limits[0] is not None else -np.inf)
    assert high.max() <= (limits[1] if limits[1] is not None else np.inf)


def test_judgements_keep_to_them_and_tests_do_not_change():
    a, b, c = {0: 0.99, 1: 0.9, 2: 0.999}, {0: 0.2, 1: 0.01, 2: 0.05}, {0: 0.5, 1: 0.9, 2: 0.6}
    kinds = [
        (lambda **k: judge_value(a, 0.9, 0.1, **k), UNIT),
        (lambda **k: judge_bound(a, 0.8, "above", **k), UNIT),
        (lambda **k: judge_order(a, b, "higher", **k), (-1, 1)),
        (lambda **k: judge_trend([b, c, a], "rises", **k), (-1, 1)),
    ]
    for judge, (least, most) in kinds:
        free, limited = judge(), judge(limits=UNIT)
        assert least < limited.low <= limited.estimate <= limited.high < most
        assert (free.low, free.high) != (limited.low, limited.high)
        assert (free.p_reproduced, free.p_against) == (limited.p_reproduced, limited.p_against)


def test_limits_of_a_difference():
    assert of_difference((-1.0, 1.0)) == (-2.0, 2.0)
    assert of_difference((0.0, None)) == (None, None)
