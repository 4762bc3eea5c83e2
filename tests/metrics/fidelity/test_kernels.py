from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.metrics import samples as sm
from latentbench.metrics.fidelity.kernels import polynomial_mmd
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(120, 4)), RNG.normal(size=(90, 4)) + 0.5


def unbiased(kxx, kyy, kxy):
    n, m = len(kxx), len(kyy)
    return (kxx.sum() - np.trace(kxx)) / n / (n - 1) + (kyy.sum() - np.trace(kyy)) / m / (m - 1) - 2 * kxy.mean()


def test_kernel_distances_are_those_of_scikit_learn_s_kernels():
    poly = [polynomial_kernel(a, b, degree=3) for a, b in ((X, X), (Y, Y), (X, Y))]
    assert polynomial_mmd(X, Y) == pytest.approx(unbiased(*poly))
    assert sm.kid(X, Y).value == polynomial_mmd(X, Y)  # fewer rows than a subset: all of them
    rbf = [rbf_kernel(a, b, gamma=1 / (2 * 1.3**2)) for a, b in ((X, X), (Y, Y), (X, Y))]
    assert sm.mmd(X, Y, bandwidth=1.3).value == pytest.approx(unbiased(*rbf))
    pooled = np.concatenate([X, Y])
    median = np.median(cdist(pooled, pooled)[np.triu_indices(len(pooled), 1)])
    assert sm.mmd(X, Y).details["bandwidth"] == pytest.approx(median)


def test_kid_over_subsets():
    state = np.random.RandomState(2020)
    values = [
        polynomial_mmd(X[state.choice(120, 50, replace=False)], Y[state.choice(90, 50, replace=False)])
        for _ in range(20)
    ]
    ours = sm.kid(X, Y, subsets=20, subset_size=50, rng=np.random.RandomState(2020))
    assert ours.value == pytest.approx(np.mean(values), rel=1e-12)
    assert ours.details["std"] == pytest.approx(np.std(values))
    assert ours.se == pytest.approx(np.std(values, ddof=1) / np.sqrt(20))


@pytest.mark.parametrize("metric", [sm.kid, sm.mmd])
def test_unbiased_distances_of_equal_distributions_average_to_zero(metric):
    rng = np.random.default_rng(1)
    values = [metric(rng.normal(size=(60, 3)), rng.normal(size=(60, 3))).value for _ in range(60)]
    assert np.mean(values) == pytest.approx(0, abs=4 * np.std(values) / np.sqrt(60))
    assert min(values) < 0


def test_mmd_standard_error_is_the_spread_over_samples():
    rng = np.random.default_rng(2)
    runs = [sm.mmd(rng.normal(size=(80, 2)), rng.normal(size=(80, 2)) + 1, bandwidth=1.0) for _ in range(80)]
    assert np.mean([r.se for r in runs]) == pytest.approx(np.std([r.value for r in runs]), rel=0.3)


def test_energy_distance_is_scipy_s_in_one_dimension():
    x, y = RNG.normal(size=70), RNG.normal(size=50) * 2
    assert sm.energy_distance(x[:, None], y[:, None]) == pytest.approx(energy_distance(x, y), rel=1e-9)
    assert sm.energy_distance(X, X) == pytest.approx(0, abs=1e-6)
    assert sm.energy_distance(np.zeros((1, 3)), np.array([[3.0, 4, 0]])) == pytest.approx(np.sqrt(10))


def test_vendi_score_counts_different_samples():
    assert sm.vendi_score(np.eye(6)) == pytest.approx(6)
    assert sm.vendi_score(np.repeat(np.eye(3), 4, axis=0)) == pytest.approx(3)
    assert sm.vendi_score(np.ones((5, 2))) == pytest.approx(1)
    for order in (0.5, 2.0, np.inf):
        assert sm.vendi_score(np.eye(6), order=order) == pytest.approx(6)
    # both routes to the eigenvalues
    tall = RNG.normal(size=(30, 4))
    unit = tall / np.linalg.norm(tall, axis=1, keepdims=True)
    p = np.linalg.eigvalsh(unit @ unit.T / 30)
    p = p[p > 1e-12]
    assert sm.vendi_score(tall) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    for order in (0.5, 3.0):
        assert sm.vendi_score(tall, order=order) == pytest.approx((p**order).sum() ** (1 / (1 - order)))
    assert sm.vendi_score(tall, order=np.inf) == pytest.approx(1 / p.max())
    assert sm.vendi_score(unit, kernel="linear") == pytest.approx(sm.vendi_score(tall))
    assert sm.vendi_score(tall.T @ tall) > 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sm.vendi_score(np.zeros((2, 2))), "direction"),
        (lambda: sm.vendi_score(X, kernel="linear"), "length 1"),
        (lambda: sm.vendi_score(X, kernel="rbf"), "kernel"),
        (lambda: sm.vendi_score(X, order=0), "order"),
        (lambda: sm.kid(X, Y, subset_size=100), "subset_size"),
        (lambda: sm.kid(X, Y, subsets=0), "subset"),
        (lambda: sm.mmd(np.ones((5, 2)), np.ones((5, 2))), "bandwidth"),
        (lambda: sm.mmd(X[:1], Y), "at least 2"),
        (lambda: sm.energy_distance(X * np.inf, Y), "NaN or infinite"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(UserError, match=says):
        call()
