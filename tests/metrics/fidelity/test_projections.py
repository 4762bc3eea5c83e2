from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.metrics import samples as sm
from scipy.stats import wasserstein_distance

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 25), (7, 30)])
def test_one_dimension_is_scipy_s(n, m):
    x, y = RNG.normal(size=(n, 1)), RNG.normal(size=(m, 1)) * 2
    assert sm.sliced_wasserstein(x, y, p=1).value == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]))


def test_average_over_given_directions():
    x, y = RNG.normal(size=(50, 3)), RNG.normal(size=(30, 3)) + 1
    directions = RNG.normal(size=(20, 3))
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    expected = np.mean([wasserstein_distance(x @ t, y @ t) for t in unit])
    assert sm.sliced_wasserstein(x, y, p=1, directions=directions * 7).value == pytest.approx(expected)


def test_a_shift_has_a_closed_form():
    # W_2² along θ is (θ·s)²; over the sphere its mean is ‖s‖² / D
    x = RNG.normal(size=(100, 4))
    shift = np.array([3.0, 0, 4, 0])
    result = sm.sliced_wasserstein(x, x + shift, projections=4000)
    assert result.value == pytest.approx(5 / 2, abs=4 * result.se)
    assert 0 < result.se < 0.1
    assert sm.sliced_wasserstein(x, x[::-1]).value == pytest.approx(0, abs=1e-12)


def test_bad_input():
    x = RNG.normal(size=(5, 2))
    for options in ({"projections": 0}, {"p": 0.5}, {"directions": np.zeros((3, 2))}, {"directions": np.ones((3, 3))}):
        with pytest.raises(UserError):
            sm.sliced_wasserstein(x, x, **options)
