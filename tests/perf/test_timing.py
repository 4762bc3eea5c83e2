import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.timing import Times, interleaved, interval, ratio, seconds


def test_contenders_take_turns_after_a_warm_up():
    calls = []
    times = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warm_up=1)
    assert calls == ["a", "b"] * 4
    assert [len(t.wall) for t in times.values()] == [3, 3]


def test_waiting_takes_wall_time_and_no_processor_time():
    times = interleaved({"sleep": lambda: time.sleep(0.03)}, repeats=3, warm_up=0)["sleep"]
    assert times.wall.min() >= 0.03
    assert times.cpu.max() < times.wall.max()


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=20))
def test_the_interval_holds_the_median_and_is_the_same_each_time(values):
    middle, low, high = interval(values)
    assert min(values) <= low <= middle <= high <= max(values)
    assert middle == pytest.approx(np.median(values))
    assert interval(values) == (middle, low, high)


def test_a_ratio_is_taken_within_rounds_so_a_slower_machine_cancels_out():
    drift = np.array([1.0, 2.0, 4.0, 8.0, 4.0, 2.0, 1.0])
    found = ratio("x", "ours over theirs", Times(1.2 * drift, drift), Times(drift, drift), target=1.1)
    assert (found.value, found.low, found.high) == pytest.approx((1.2, 1.2, 1.2))
    assert found.met is False
    assert (found.repeats, found.details["cpu_ratio"]) == (7, 1.0)


def test_seconds_are_wall_time_with_processor_time_beside_it():
    found = seconds("x", "a command", Times(np.array([0.4, 0.6, 0.5]), np.array([0.2, 0.2, 0.3])), target=0.5)
    assert (found.value, found.unit, found.met) == (0.5, "s", True)
    assert found.details["cpu_s"] == 0.2
