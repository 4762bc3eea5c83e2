from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.metrics import samples as sm
from latentbench.metrics.fidelity.inputs import squared_distances
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors


def points(n, seed, shift=0.0, d=3):
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 300), st.integers(0, 1000))
def test_blocks_cover_all_distances(n, m, cells, seed):
    x, y = points(n, seed), points(m, seed + 1)
    blocks = list(squared_distances(x, y, cells))
    np.testing.assert_allclose(np.concatenate([d2 for _, d2 in blocks]), cdist(x, y) ** 2, atol=1e-9)


def test_distance_of_a_point_to_its_copy_is_zero_far_from_the_origin():
    x = points(50, 0) + 1e4
    ((_, d2),) = squared_distances(x, x)
    assert (np.diag(d2) == 0).all()


def test_precision_recall_against_scikit_learn_s_neighbours():
    x, y = points(150, 0), points(120, 1, 0.7)
    radius_x = NearestNeighbors(n_neighbors=4).fit(x).kneighbors(x)[0][:, 3]
    radius_y = NearestNeighbors(n_neighbors=4).fit(y).kneighbors(y)[0][:, 3]
    d = cdist(x, y)
    ours = sm.precision_recall(x, y)
    assert ours.precision == (d <= radius_x[:, None]).any(axis=0).mean()
    assert ours.recall == (d <= radius_y).any(axis=1).mean()
    other = sm.density_coverage(x, y, k=3)
    assert other.density == pytest.approx((d <= radius_x[:, None]).sum() / 3 / 120)
    assert other.coverage == (d <= radius_x[:, None]).any(axis=1).mean()


def test_controls():
    x = points(300, 2)
    same = sm.precision_recall(x, x)
    assert (same.precision, same.recall) == (1.0, 1.0)
    far = sm.precision_recall(x, points(300, 3, 50.0))
    assert (far.precision, far.recall) == (0.0, 0.0)
    collapsed = sm.precision_recall(x, x[:1] + points(300, 4) * 1e-6)
    assert collapsed.precision == 1.0
    assert collapsed.recall < 0.05
    assert sm.density_coverage(x, points(300, 3, 50.0)) == sm.DensityCoverage(0.0, 0.0)


def test_coverage_of_equal_distributions_has_its_expectation():
    values = [sm.density_coverage(points(200, s), points(200, s + 1000)) for s in range(20)]
    # each ball with 5 real neighbours holds none of the fakes with probability about 2^-5 (Naeem et al. 2020)
    assert np.mean([v.coverage for v in values]) == pytest.approx(1 - 2**-5, abs=0.01)
    assert np.mean([v.density for v in values]) == pytest.approx(1, abs=0.03)


def test_nearest_neighbours():
    x, y = points(40, 5), points(60, 6)
    distance, index = sm.nearest(x, y)
    np.testing.assert_array_equal(index, cdist(x, y).argmin(1))
    np.testing.assert_allclose(distance, cdist(x, y).min(1), rtol=1e-12)
    own = cdist(x, x)
    np.fill_diagonal(own, np.inf)
    np.testing.assert_allclose(sm.nearest(x, x, exclude_self=True)[0], own.min(1))


def test_memorisation_is_found_and_honest_samples_are_not_accused():
    train, test, fresh = points(400, 7), points(400, 8), points(400, 9)
    copies = train[:300] + points(300, 10) * 1e-3
    assert sm.nearest_training_ratio(copies, train, test).value > 0.95
    assert sm.nearest_training_ratio(fresh, train, test).value == pytest.approx(0.5, abs=0.1)
    assert sm.nearest_training_ratio(train[:50], train, test).details["copies"] == 1.0
    assert sm.authenticity(copies, train).value < 0.05
    assert sm.authenticity(fresh, train).value == pytest.approx(0.5, abs=0.1)
    assert sm.copying_statistic(copies, train, test).value < -3
    assert abs(sm.copying_statistic(fresh, train, test).value) < 3
    assert sm.copying_statistic(points(400, 11) * 3, train, test).value > 3


def test_the_training_ratio_is_held_against_the_median_test_sample():
    """By hand on a line: one test sample far off moves the mean of the distances, not the median, which is 2."""
    train, test, fake = ([[float(v)] for v in row] for row in ([0, -500], [1, -2, 40], [1.5, 2, 3, -4, 50]))
    found = sm.nearest_training_ratio(fake, train, test)
    assert found.value == pytest.approx((1 + 0.5) / 5)
    assert (found.details["median_test"], found.details["median_fake"]) == (2.0, 3.0)


def test_copying_statistic_is_standard_normal_for_new_data():
    scores = [
        sm.copying_statistic(points(50, s), points(50, s + 500), points(50, s + 900), cells=1).value for s in range(60)
    ]
    assert np.mean(scores) == pytest.approx(0, abs=0.5)
    assert np.std(scores) == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: sm.precision_recall(x[:3], x), "k: is 3"),
        (lambda x: sm.precision_recall(x, x, k=0), "k: is 0"),
        (lambda x: sm.density_coverage(x[:, :1], x), "columns"),
        (lambda x: sm.authenticity(x, x[:1]), "one row"),
        (lambda x: sm.copying_statistic(x[:5], x, x), "no cell"),
        (lambda x: sm.copying_statistic(x, x, x, cells=0), "cells"),
        (lambda x: sm.precision_recall(x * np.nan, x), "NaN"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(UserError, match=says):
        call(points(60, 0))
