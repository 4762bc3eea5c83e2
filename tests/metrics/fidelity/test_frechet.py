from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.metrics import samples as sm
from scipy.linalg import sqrtm


def reference(x, y):
    a, b = np.cov(x.T), np.cov(y.T)
    shift = x.mean(0) - y.mean(0)
    return shift @ shift + np.trace(a + b - 2 * sqrtm(a @ b).real)


def features(n, d, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * scale + rng.normal(size=d)


def test_against_the_matrix_square_root():
    x, y = features(500, 8, 0), features(300, 8, 1)
    assert sm.frechet_distance(x, y) == pytest.approx(reference(x, y), rel=1e-10)
    assert sm.frechet_distance(y, x) == pytest.approx(sm.frechet_distance(x, y), rel=1e-10)


def test_closed_forms():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5))
    assert sm.frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    assert sm.frechet_distance(x, x + 2) == pytest.approx(20)
    # scaled by c: tr Σ (1 - c)²
    assert sm.frechet_distance(x, (x - x.mean(0)) * 3 + x.mean(0)) == pytest.approx(4 * np.trace(np.cov(x.T)))
    a, b = np.diag([1.0, 4.0]), np.diag([9.0, 16.0])
    assert sm.frechet_distance_from_moments([0, 0], a, [1, 1], b) == pytest.approx(2 + 4 + 4)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 12), st.integers(0, 1000))
def test_few_rows_and_singular_covariances_agree_with_the_general_route(n, m, d, seed):
    x, y = features(n, d, seed), features(m, d, seed + 1)
    a, b = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    # tr (Σ₁Σ₂)^½ is the nuclear norm of A'B for any factors; small ridges make the textbook formula well-defined
    general = sm.frechet_distance_from_moments(x.mean(0), a, y.mean(0), b)
    ours = sm.frechet_distance(x, y)
    assert ours == pytest.approx(general, rel=1e-5, abs=1e-5)
    centred_x, centred_y = (x - x.mean(0)) / np.sqrt(n - 1), (y - y.mean(0)) / np.sqrt(m - 1)
    nuclear = np.linalg.norm(centred_x @ centred_y.T, "nuc")
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * nuclear
    assert ours == pytest.approx(max(exact, 0), rel=1e-6, abs=1e-6)


def test_constant_features_are_no_obstacle():
    x, y = features(50, 4, 0), features(60, 4, 1)
    wide_x, wide_y = np.c_[x, np.zeros((50, 2))], np.c_[y, np.ones((60, 2))]
    assert sm.frechet_distance(wide_x, wide_y) == pytest.approx(sm.frechet_distance(x, y) + 2, rel=1e-9)
    assert sm.frechet_distance(np.zeros((9, 3)), np.zeros((9, 3))) == 0.0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.integers(0, 1000))
def test_streaming_and_merging_equal_the_whole(parts, seed):
    x = features(sum(parts), 3, seed) + 1e5
    stream, left, right = sm.FeatureMoments(3), sm.FeatureMoments(3), sm.FeatureMoments(3)
    for i, part in enumerate(np.split(x, np.cumsum(parts)[:-1])):
        stream.update(part)
        (left if i % 2 else right).update(part)
    left.merge(right)
    left.merge(sm.FeatureMoments(3))
    for moments in (stream, left):
        assert moments.n == len(x)
        np.testing.assert_allclose(moments.mean, x.mean(0), rtol=1e-12)
        np.testing.assert_allclose(moments.covariance, np.cov(x.T), rtol=1e-7, atol=1e-7)


def test_streamed_equals_arrays():
    x, y = features(90, 5, 3).astype(np.float32), features(80, 5, 4).astype(np.float32)
    streamed = sm.frechet_distance_streamed(sm.FeatureMoments.of(x, batch=7), sm.FeatureMoments.of(y, batch=11))
    assert streamed == pytest.approx(sm.frechet_distance(x, y), rel=1e-9)


def test_extrapolation_removes_the_bias_of_few_samples():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(40_000, 20)), rng.normal(size=(2000, 20))
    plain, limit = sm.frechet_distance(real, fake), sm.frechet_distance_infinite(real, fake)
    assert plain > 0.05  # the same distribution: all of it is bias
    assert abs(limit.value) < plain / 3
    assert limit.details["at_n"] == pytest.approx(plain)
    with pytest.raises(UserError, match="extrapolated"):
        sm.frechet_distance_infinite(real[:, :5], fake[:5, :5])


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.full((5, 2), np.nan), np.zeros((5, 2)), "NaN"),
        (np.zeros((1, 2)), np.zeros((5, 2)), "at least 2"),
        (np.zeros((5, 3)), np.zeros((5, 2)), "columns"),
        (np.zeros(5), np.zeros((5, 2)), "shape"),
        (np.array([["a"]]), np.zeros((5, 1)), "numbers"),
    ],
)
def test_bad_input(x, y, says):
    with pytest.raises(UserError, match=says):
        sm.frechet_distance(x, y)


def test_bad_moments():
    with pytest.raises(UserError, match="moments"):
        sm.frechet_distance_from_moments([0.0], np.eye(2), [0.0, 0.0], np.eye(2))
    with pytest.raises(UserError, match="columns"):
        sm.FeatureMoments(2).update(np.zeros((3, 3)))
    with pytest.raises(UserError, match="at least 2"):
        _ = sm.FeatureMoments(2).covariance
