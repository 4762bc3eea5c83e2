"""What a sweep's runs say of how far chance may have moved the figure of two jobs."""

from __future__ import annotations

import numpy as np
import pytest

from perf.jobs import Sweep, _speedup


def test_runs_that_are_all_alike_leave_nothing_to_chance():
    figure = _speedup("", Sweep(12.0, np.full(4, 4.0)), Sweep(20.0, np.full(4, 4.0)), {})
    assert (figure.value, figure.low, figure.high) == pytest.approx((0.6, 0.6, 0.6))


def test_the_spread_of_runs_is_that_of_the_figure():
    runs = np.array([3.0, 4.0, 4.0, 5.0])
    figure = _speedup("", Sweep(12.0, runs), Sweep(20.0, runs), {})
    assert figure.low < figure.value < figure.high
    # the standard deviation of a sum of four runs is sqrt(2), of which two jobs wait for half
    spread = 0.6 * np.hypot(2**0.5 / 2 / 12, 2**0.5 / 20)
    assert (figure.high - figure.low) / 2 / 1.96 == pytest.approx(spread, rel=0.1)


def test_a_sweep_drawn_anew_has_the_same_mean():
    drawn = Sweep(20.0, np.array([3.0, 5.0])).resampled(2, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(20.0, abs=0.05)
    assert set(drawn) == {19.0, 20.0, 21.0}
