"""Seeds that lie far from the others."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.stats.outliers import CRITICAL, far_out


@pytest.mark.parametrize("n", [n for n in CRITICAL if n <= 20])
def test_normal_noise_is_reported_for_one_method_of_200(n):
    x = np.random.default_rng(n).normal(-40, 3, (60_000, n))
    middle = np.median(x, axis=1, keepdims=True)
    z = np.abs(x - middle).max(1) / (1.4826 * np.median(np.abs(x - middle), axis=1))
    assert (z > CRITICAL[n]).mean() == pytest.approx(0.005, abs=0.0012)
    assert far_out(dict(enumerate(x[0]))) == {} or z[0] > CRITICAL[n]


@pytest.mark.parametrize("values", [[1000, 1004, 999, 1001, -2750], [1000.0, 1001.5, -2750.0], [20, 20, 20, 20, 0]])
def test_a_diverged_or_collapsed_seed_is_named(values):
    assert list(far_out(dict(enumerate(values)))) == [len(values) - 1]


def test_the_farthest_comes_first_on_either_side():
    found = far_out({7: 1.0, 3: 1.1, 5: 0.9, 1: 1.05, 2: 60.0, 9: -200.0, 4: 0.97, 6: 1.02})
    assert list(found) == [9, 2]
    assert found[9] < 0 < found[2]


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 900.0], [0.0, 0.0, 0.0], [5.0, 5.0, 5.000001, 5.0]])
def test_too_few_or_alike_values_have_none(values):
    assert far_out(dict(enumerate(values))) == {}
