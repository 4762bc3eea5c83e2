from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.metrics import transport as tr
from scipy.optimize import linear_sum_assignment, minimize_scalar

RNG = np.random.default_rng(0)


def spd(seed, d=3):
    a = np.random.default_rng(seed).normal(size=(d, d))
    return a @ a.T + 0.1 * np.eye(d)


def test_bw2_uvp_in_closed_form():
    x = RNG.normal(size=(500, 3)) * [1, 2, 3]
    cov, mean = np.cov(x.T), x.mean(0)
    assert tr.bw2_uvp(x, mean, cov) == pytest.approx(0, abs=1e-8)
    assert tr.bw2_uvp(x + np.array([1, 0, 0]), mean, cov) == pytest.approx(100 / np.trace(cov))
    assert tr.bw2_uvp(mean + np.zeros((5, 3)), mean, cov) == pytest.approx(100)  # a constant explains no variance
    both = tr.conditional_bw2_uvp(
        np.stack([x, x + np.array([1, 0, 0])]), np.stack([mean] * 2), np.stack([cov] * 2), 4.0
    )
    assert both == pytest.approx(100 * 0.5 / 4)


def test_gaussian_entropic_cost_is_the_best_coupling_in_one_dimension():
    a, b, eps = 1.7, 0.6, 0.8

    def objective(c):  # a Gaussian coupling with covariance c
        return 0.5 * (a + b - 2 * c) - 0.5 * eps * np.log(1 - c * c / (a * b))

    bound = np.sqrt(a * b) * (1 - 1e-9)
    best = minimize_scalar(objective, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-10}).fun
    found = tr.gaussian_entropic_cost([0.0], [[a]], [2.0], [[b]], eps)
    assert found == pytest.approx(best + 2, abs=1e-8)


def test_limits_of_the_gaussian_cost():
    from latentbench.metrics.samples import frechet_distance_from_moments

    m1, m2, a, b = np.zeros(3), np.ones(3), spd(1), spd(2)
    exact = frechet_distance_from_moments(m1, a, m2, b) / 2
    assert tr.gaussian_entropic_cost(m1, a, m2, b, 1e-9) == pytest.approx(exact, abs=1e-6)
    independent = 0.5 * (3 + np.trace(a) + np.trace(b))
    assert tr.gaussian_entropic_cost(m1, a, m2, b, 1e9) == pytest.approx(independent, rel=1e-6)
    assert tr.gaussian_sinkhorn_divergence(m1, a, m1, a, 0.5) == pytest.approx(0, abs=1e-12)
    assert tr.gaussian_sinkhorn_divergence(m1, a, m2, b, 0.5) > 0


def test_samples_approach_the_gaussian_divergence():
    a, b = spd(3, 2), spd(4, 2)
    x = RNG.multivariate_normal([0, 0], a, size=900)
    y = RNG.multivariate_normal([1, 0], b, size=900)
    expected = tr.gaussian_sinkhorn_divergence([0, 0], a, [1, 0], b, 1.0)
    assert tr.sinkhorn_divergence(x, y, epsilon=1.0) == pytest.approx(expected, rel=0.15)


def test_sinkhorn_controls_and_limit():
    rng = np.random.default_rng(2)  # its own: iterations at so small an epsilon end for some draws alone
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + 1
    assert tr.sinkhorn_divergence(x, x, epsilon=0.5) == pytest.approx(0, abs=1e-6)
    cost = ((x[:, None] - y) ** 2).sum(-1) / 2
    rows, columns = linear_sum_assignment(cost)
    assert tr.sinkhorn_divergence(x, y, epsilon=0.05) == pytest.approx(cost[rows, columns].mean(), rel=0.05)
    half_mmd = 0.5 * np.square(x.mean(0) - y.mean(0)).sum()
    assert tr.sinkhorn_divergence(x, y, epsilon=1e4) == pytest.approx(half_mmd, rel=1e-2)
    # unequal sizes, and symmetry
    assert tr.sinkhorn_divergence(x[:20], y, epsilon=1.0) == pytest.approx(
        tr.sinkhorn_divergence(y, x[:20], epsilon=1.0), rel=1e-4
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: tr.sinkhorn_divergence(x, x, epsilon=0), "epsilon"),
        (lambda x: tr.sinkhorn_divergence(x, x + 5, epsilon=1e-4, steps=2), "no convergence"),
        (lambda x: tr.bw2_uvp(x, np.zeros(2), np.zeros((2, 2))), "vary"),
        (lambda x: tr.gaussian_entropic_cost([0.0], [[1.0]], [0.0], [[1.0]], -1), "epsilon"),
        (lambda x: tr.conditional_bw2_uvp(x, x, x, 1.0), "samples"),
        (lambda x: tr.sinkhorn_divergence(x * np.nan, x, epsilon=1), "NaN"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(UserError, match=says):
        call(RNG.normal(size=(6, 2)))
