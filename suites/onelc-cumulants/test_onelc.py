"""Cumulants by what defines them, searches where sources are exactly independent, rivals on known cases."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.onelc_cumulants import designs, olc, rivals
from scipy.optimize import approx_fprime
from scipy.stats import gamma

INFO = DataInfo((1,), "real", 1)
B, C, A = 0.8, -0.7, [0.9, 0.6, -0.8]  # effects, and loadings of the first latent
POINTS = np.array([-1.0, -0.6, -0.2, 3.0])


def rng(seed=0):
    return np.random.default_rng(seed)


def grid(sources):
    """All combinations of four skewed points: their sources are exactly independent and of variance one."""
    s = np.array(list(product(POINTS, repeat=sources)))
    return (s - s.mean(0)) / s.std(0)


def one(order):
    """Mixing matrix (3, 4) and sample of one latent behind three variables and an effect of the first on the second."""
    m = np.array([[A[0], 1, 0, 0], [A[1] + B * A[0], B, 1, 0], [A[2], 0, 0, 1]])
    return m[order], np.tile(grid(4), (6, 1)) @ m[order].T


def two(order):
    """The same with a fourth variable and a second latent, which is behind all but the third one."""
    m = np.zeros((4, 6))
    m[:, 0], m[:, 1], m[:, 2:] = [*A, 0.7], [0.5, -0.8, 0.0, 1.0], np.eye(4)
    m[1] += C * m[0]
    return m[order], np.tile(grid(6), (4, 1)) @ m[order].T


class TestCumulant:
    def test_of_one_variable(self):
        x = rng().exponential(size=500)
        assert olc.cumulant(x, x, x, x) == pytest.approx(np.mean((x - x.mean()) ** 4) - 3 * x.var() ** 2)

    def test_is_multilinear_and_symmetric(self):
        """Which, with the values on one variable, says all."""
        a, b, c, d, e = rng(1).exponential(size=(5, 300)) + rng(2).exponential(size=300)
        whole = olc.cumulant(2 * a - 3 * e + 7, b, c, d)
        assert whole == pytest.approx(2 * olc.cumulant(a, b, c, d) - 3 * olc.cumulant(e, b, c, d))
        for order in ((b, a, c, d), (b, c, d, a), (d, c, b, a)):
            assert olc.cumulant(*order) == pytest.approx(olc.cumulant(a, b, c, d))

    def test_vanishes_where_sources_are_independent(self):
        s = grid(2)
        assert olc.cumulant(s[:, 0], s[:, 0], s[:, 1], s[:, 1]) == pytest.approx(0.0, abs=1e-12)


class TestIndependence:
    def test_is_hsic_by_matrices(self):
        x = rng(3).exponential(size=150)
        y = 0.02 * x**2 + rng(4).uniform(size=150)
        centre = np.eye(150) - 1 / 150
        k, m = (centre @ np.exp(-(np.subtract.outer(v, v) ** 2) / (2 * v.var())) @ centre for v in (x, y))
        mean, variance = np.trace(k) * np.trace(m) / 150, 2 * (k**2).sum() * (m**2).sum() / 150**2
        plain = gamma.sf((k * m).sum(), mean**2 / variance, scale=variance / mean)
        assert 1e-4 < plain < 0.9
        assert olc.independence(olc.features(x), olc.features(y)) == pytest.approx(plain, rel=0.02)

    def test_has_its_level(self):
        p = [olc.independence(*map(olc.features, rng(i).exponential(size=(2, 300)))) for i in range(200)]
        assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.06)
        assert np.mean(p) == pytest.approx(0.5, abs=0.06)

    def test_sees_what_is_not_correlated(self):
        x = rng(5).standard_normal(400)
        assert olc.independence(olc.features(x), olc.features(x**2)) < 1e-6


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_one_latent_exactly(order):
    mixing, x = one(order)
    found = olc.Search(x, 0.01).answer()
    cause, outcome = order.index(0), order.index(1)
    assert found["graph"].sum() == found["graph"][cause, outcome] == 1
    assert found["effects"][outcome, cause] == pytest.approx(B)
    np.testing.assert_allclose(np.abs(found["mixing"][:, 0]), np.abs(mixing[:, 0]))
    assert designs.mixing_error(found["mixing"], mixing) == pytest.approx(0.0, abs=1e-9)
    assert found["undecided"] == 0


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_two_latents_exactly(order):
    mixing, x = two(order)
    found = olc.Search(x, 0.01).answer()
    cause, outcome = order.index(0), order.index(1)
    assert found["graph"].sum() == found["graph"][cause, outcome] == 1
    assert found["effects"][outcome, cause] == pytest.approx(C)
    np.testing.assert_allclose(np.abs(found["mixing"][:, :2]), np.abs(mixing[:, :2]), atol=1e-9)
    assert designs.mixing_error(found["mixing"], mixing) == pytest.approx(0.0, abs=1e-9)


def test_independent_variables_have_nothing():
    found = olc.Search(np.tile(grid(3), (8, 1)), 0.01).answer()
    assert not found["graph"].any()
    np.testing.assert_array_equal(found["mixing"], np.eye(3))
    assert found["undecided"] == 0


def test_what_nothing_fits_is_left_open():
    _, x = one([0, 1, 2])
    assert olc.Search(x[:, :2], 0.01).answer()["undecided"] == 1, "one latent of two variables has no proxy"


@pytest.mark.parametrize(("structure", "p", "latents"), [("one", 3, 1), ("two", 4, 2)])
@pytest.mark.parametrize("noise", ["exponential", "laplace", "uniform"])
def test_problems(structure, p, latents, noise):
    study = olc.OLC(INFO, structure=structure, noise=noise, rows=100_000)
    problem = study.problem(rng(7))
    x, m, effects = problem.given["x"], problem.truth["mixing"], problem.truth["effects"]
    np.testing.assert_allclose(np.cov(x.T), m @ m.T, atol=0.1)
    sources = x @ np.linalg.pinv(m).T
    kurtosis = {"exponential": 6.0, "laplace": 3.0, "uniform": -1.2}[noise]
    expected = np.sum((np.linalg.pinv(m) @ m) ** 4, 1) * kurtosis
    np.testing.assert_allclose([olc.cumulant(s, s, s, s) for s in sources.T], expected, atol=0.5)
    assert m.shape == (p, latents + p)
    np.testing.assert_array_equal((effects != 0).T, problem.truth["graph"])
    assert problem.truth["graph"].sum() == 1
    np.testing.assert_array_equal(m[:, latents:], effects + np.eye(p))
    assert np.abs(m[m != 0]).min() >= designs.LEAST
    assert (m[:, :latents] != 0).sum(0).tolist() == [p, 3][:latents]
    small = olc.OLC(INFO, structure=structure, rows=1)
    assert len({small.problem(rng(i)).truth["graph"].tobytes() for i in range(5)}) > 1, "variables are shuffled"


def test_distance_of_mixing_matrices():
    true = rng(8).standard_normal((3, 5))
    other = true[:, [4, 2, 0, 1, 3]] * [-2.0, 1.0, 0.5, 3.0, -1.0]
    assert designs.mixing_error(other, true) == pytest.approx(0.0, abs=1e-12)
    assert designs.mixing_error(other[:, 1:], true) == pytest.approx(0.2)
    turned = np.array([[np.cos(0.4), 0.0], [np.sin(0.4), 1.0]])
    assert designs.mixing_error(turned, np.eye(2)) == pytest.approx((1 - np.cos(0.4)) / 2)


class TestRivals:
    def test_lingam_without_latents(self):
        e = rng(9).uniform(-1, 1, (6000, 3))
        b = np.array([[0, 0, 0.7], [-0.9, 0, 0], [0, 0, 0]])  # the third affects the first, which affects the second
        x = e @ np.linalg.inv(np.eye(3) - b).T
        found = rivals.IcaLingam(INFO).answer({"x": x}, rng(10))
        np.testing.assert_array_equal(found["graph"], (b != 0).T)
        np.testing.assert_allclose(found["effects"], np.linalg.inv(np.eye(3) - b) - np.eye(3), atol=0.05)

    def test_order_of_an_unmixing_matrix(self):
        w = np.array([[1.0, 0, 0], [-0.8, 1, 0], [0.3, -0.6, 1]])
        place = [2, 0, 1]  # variable k of w is variable place[k]
        shuffled = np.empty((3, 3))
        shuffled[:, place] = w * np.array([[2.0], [-3.0], [0.5]])
        assert rivals.causal_order(shuffled[[1, 2, 0]]) == place

    def test_least_squares_has_the_latents_bias(self):
        _, x = one([0, 1, 2])
        graph = np.zeros((3, 3), int)
        graph[0, 1] = 1
        found = rivals.KnownGraph(INFO).answer({"x": x, "graph": graph}, rng())
        assert found["effects"][1, 0] == pytest.approx(B + A[0] * A[1] / (A[0] ** 2 + 1))
        assert np.count_nonzero(found["effects"]) == 1

    def test_objective_and_its_gradient(self):
        study = rivals.ReconstructionIca(INFO, weight=0.7)
        white, flat = rng(11).standard_normal((3, 40)), rng(12).standard_normal(12)
        value, gradient = study.objective(flat, white, (4, 3))
        w = flat.reshape(4, 3)
        plain = np.log(2 * np.cosh(w @ white)).sum(0) + 0.7 * ((w.T @ w @ white - white) ** 2).sum(0)
        assert value == pytest.approx(plain.mean())
        numeric = approx_fprime(flat, lambda v: study.objective(v, white, (4, 3))[0], 1e-7)
        np.testing.assert_allclose(gradient, numeric, atol=1e-3)

    def test_reconstruction_ica_finds_a_mixing_matrix(self):
        mixing, x = np.array([[1.0, 0.8], [-0.3, 1.0]]), rng(13).laplace(size=(4000, 2))
        found = rivals.ReconstructionIca(INFO).answer({"x": 5.0 + x @ mixing.T, "latents": 0}, rng(14))
        assert designs.mixing_error(found["mixing"], mixing) < 0.01
        assert rivals.ReconstructionIca(INFO).answer({"x": x[:200], "latents": 2}, rng())["mixing"].shape == (2, 4)


class Fixed(olc.OLC):
    """Finds no effect where there is one, and large ones where there is none."""

    def answer(self, given, rng):
        i = len(self._answers)
        effects = np.where(given["graph"].T, 0.0, 9.0)
        return {"effects": effects, "mixing": np.eye(3)[:, :2], "undecided": i}


def test_measurements():
    study = Fixed(INFO, problems=4)
    study.start(None, torch.Generator().manual_seed(0))
    while not study.done():
        study.advance(None, None)
    truths = [t for t, _ in study.answered()]
    sizes = [np.abs(t["effects"]).max() for t in truths]
    assert designs.effect_error(study, None, {}, None).value == pytest.approx(np.mean(sizes))
    errors = [designs.mixing_error(np.eye(3)[:, :2], t["mixing"]) for t in truths]
    assert designs.mixing_distance(study, None, {}, None).value == pytest.approx(np.mean(errors))
    assert olc.undecided_pairs(study, None, {}, None).value == pytest.approx(1.5)
