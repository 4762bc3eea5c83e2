"""The probability of improvement and its interval."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.stats.superiority import superiority
from scipy.special import ndtr


def test_pairs_are_counted_and_ties_count_half():
    found = superiority([1.0, 2.0, 4.0], [2.0, 3.0], "higher")
    assert found.share == pytest.approx((0 + 0 + 0.5 + 0 + 1 + 1) / 6)
    assert superiority([1.0, 2.0, 4.0], [2.0, 3.0], "lower").share == pytest.approx(1 - found.share)


def test_exchanged_sides_turn_it():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.4, 1, 7).tolist(), rng.normal(0, 2, 4).tolist()
    one, other = superiority(a, b, "higher"), superiority(b, a, "higher").turned
    assert (one.share, one.low, one.high, one.p) == pytest.approx((other.share, other.low, other.high, other.p))


def test_complete_separation_is_no_certainty():
    """Where all pairs agree the interval still has a length, which falls with the seeds."""
    low = [superiority(range(n, 2 * n), range(n), "higher").low for n in (2, 3, 5, 10)]
    assert low == sorted(low)
    assert low[0] < 0.5 < low[-1] < 1
    assert superiority([1.0] * 5, [0.0] * 5, "higher").high == 1
    assert superiority([3.0, 4, 5], [0.0, 1, 2], "higher").p == pytest.approx(0.1), "2 of 20 orders are as extreme"


@pytest.mark.parametrize(("m", "n"), [(3, 3), (5, 5), (3, 10)])
@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_intervals_cover_what_they_should(m, n, shift):
    rng = np.random.default_rng(m * 100 + n)
    truth = ndtr(shift / 2**0.5)
    found = [superiority(rng.normal(shift, 1, m), rng.normal(0, 1, n), "higher") for _ in range(400)]
    covered = np.mean([s.low <= truth <= s.high for s in found])
    assert covered > 0.92
    assert all(0 <= s.low <= s.share <= s.high <= 1 for s in found)


def test_a_single_run_has_none():
    with pytest.raises(UserError, match="single run"):
        superiority([1.0], [2.0, 3.0], "lower")
