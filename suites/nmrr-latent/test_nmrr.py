"""Scores and scatters against densities, moments against sums row by row, and subspaces whose truth is plain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.nmrr_latent import subspaces
from latentbench.papers.nmrr_latent.designs import ELEMENTARY, Elliptical, Links, scatter_matrix
from scipy.stats import multivariate_normal, multivariate_t

INFO = DataInfo((1,), "real", 1)
LAWS = ["normal", "hyperbolic", "t"]


def rng(seed=0):
    return np.random.default_rng(seed)


def log_density(family, x, scatter):
    """Of rows, up to a constant that depends on nothing but the scatter's determinant, which is counted."""
    p = len(scatter)
    if family == "normal":
        return multivariate_normal(np.zeros(p), scatter).logpdf(x)
    if family == "t":
        return multivariate_t(np.zeros(p), scatter * 0.8, df=10).logpdf(x)
    q = np.einsum("ij,jk,ik->i", x, np.linalg.inv(scatter), x)
    return -np.sqrt(p * (2 * p + 1 + q)) - 0.5 * np.linalg.slogdet(scatter)[1]


def score(family, x, scatter):
    u = np.linalg.solve(scatter, x.T).T
    return Elliptical(family).weight((x * u).sum(1), len(scatter))[:, None] * u


def answered(cls, **design):
    study, draws = cls(INFO, **design), torch.Generator().manual_seed(5)
    study.start(None, draws)
    while not study.done():
        study.advance(None, draws)
    return study


def same_span(a, b):
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-8)


@pytest.mark.parametrize("family", LAWS)
class TestLaws:
    def test_score_is_the_density_s(self, family):
        scatter, x, step = scatter_matrix(rng(), 4), rng(1).standard_normal((6, 4)), 1e-5
        for k, e in enumerate(np.eye(4) * step):
            rise = (log_density(family, x + e, scatter) - log_density(family, x - e, scatter)) / (2 * step)
            np.testing.assert_allclose(score(family, x, scatter)[:, k], -rise, atol=1e-6)

    def test_slope_is_the_weight_s(self, family):
        law, q = Elliptical(family), np.array([0.3, 2.0, 9.0])
        numeric = (law.weight(q + 1e-5, 4) - law.weight(q - 1e-5, 4)) / 2e-5
        np.testing.assert_allclose(law.slope(q, 4), numeric, atol=1e-7)

    def test_draws_have_the_score(self, family):
        """E[s(x) x'] is the identity (Stein's lemma with f(x) = x)."""
        scatter = scatter_matrix(rng(2), 3)
        x = Elliptical(family).draw(rng(3), 200_000, scatter)
        np.testing.assert_allclose(score(family, x, scatter).T @ x / len(x), np.eye(3), atol=0.02)
        if family != "hyperbolic":
            np.testing.assert_allclose(np.cov(x.T), scatter, atol=0.05 * np.abs(scatter).max())

    def test_scatter_is_the_likeliest(self, family):
        scatter = scatter_matrix(rng(4), 3)
        law = Elliptical(family)
        x = law.draw(rng(5), 3000, scatter)
        found = law.scatter(x)
        best = log_density(family, x, found).mean()
        for seed in range(20):
            change = 0.03 * rng(seed).standard_normal((3, 3))
            assert log_density(family, x, found + change + change.T).mean() < best

    def test_second_order_is_the_mean_of_y_times_the_second_score(self, family):
        """Row by row, with the second score as supplement II.4 prints it."""
        study = subspaces.SecondOrder(INFO, law=family, variables=4, rank=2, rows=(50,))
        x = Elliptical(family).draw(rng(6), 50, scatter_matrix(rng(7), 4))
        x, y, p = x - x.mean(0), rng(8).standard_normal((50, 3)) + x[:, :1] ** 2, 4
        inverse, moment = np.linalg.inv(Elliptical(family).scatter(x)), np.zeros((4, 4))
        for xi, yi in zip(x, y, strict=True):
            outer, q = np.outer(inverse @ xi, inverse @ xi), xi @ inverse @ xi
            if family == "normal":
                second = outer - inverse
            elif family == "t":
                second = ((p + 10) * (p + 12) * outer - (p + 10) * (8 + q) * inverse) / (8 + q) ** 2
            else:
                chi, psi = 2 * p + 1, p
                root = np.sqrt(chi + q)
                second = ((psi + np.sqrt(psi) / root) * outer - np.sqrt(psi) * root * inverse) / (chi + q)
            moment += yi.mean() * second / 50
        values, vectors = np.linalg.eigh(moment)
        same_span(study.basis(x, y, rng()), vectors[:, np.argsort(-np.abs(values))[:2]])

    def test_first_order_is_the_mean_of_the_score_times_y(self, family):
        study = subspaces.FirstOrder(INFO, law=family, variables=4, rank=2, rows=(50,))
        x, y = rng(9).standard_normal((50, 4)) * [1, 2, 1, 1] + 3.0, rng(10).standard_normal((50, 3))
        centred = x - x.mean(0)
        moment = score(family, centred, Elliptical(family).scatter(centred)).T @ y
        same_span(study.basis(x, y, rng()), np.linalg.svd(moment)[0][:, :2])


def test_least_squares_of_rank_r_has_the_least_error():
    study = subspaces.ReducedRank(INFO, variables=4, rank=2, rows=(50,))
    x, y = rng(1).standard_normal((50, 4)) * [1, 3, 1, 1], rng(2).standard_normal((50, 3))
    found = study.basis(x, y, rng())

    def error(basis):
        z = x @ basis
        return ((y - z @ np.linalg.lstsq(z, y, rcond=None)[0]) ** 2).sum()

    for seed in range(30):
        assert error(found) < error(found + 0.1 * rng(seed).standard_normal(found.shape))


def test_curvature_is_seen_at_second_order_alone():
    x = rng(3).standard_normal((4000, 5))
    y = (x[:, :1] ** 2) * np.array([1.0, 2.0]) + 0.1 * rng(4).standard_normal((4000, 2))
    truth = np.eye(5)[:, :1]
    design = {"variables": 5, "rank": 1, "rows": (4000,)}
    first, second = (cls(INFO, **design).basis(x, y, rng()) for cls in (subspaces.FirstOrder, subspaces.SecondOrder))
    assert subspaces.distance(truth, second) < 0.1
    assert subspaces.distance(truth, first) > 0.3


@pytest.mark.parametrize("kind", ["linear", "neighbours", "pairs"])
def test_links_are_what_they_say_on_one_scale(kind):
    links, z = Links(rng(5), kind, r=2, q=20), rng(6).standard_normal((40, 2))
    y = links(z)
    np.testing.assert_allclose(y.mean(0), 0.0, atol=1e-10)
    np.testing.assert_allclose(y.std(0), 1.0)
    a = links.coefficients
    if kind == "linear":
        expected = {0: z @ a[0], 19: z @ a[19]}
    else:
        assert a.min() > 3
        expected = {6: (z - 1) ** 5 @ a[6], 7: np.log1p(np.exp(z)) @ a[7], 3: np.tanh(z - 1) @ a[3]}
    if kind == "neighbours":
        expected |= {10: (np.sin(z - 1) + np.cosh(z - 1)) @ a[10], 19: (np.exp(z) + np.sin(z - 1)) @ a[19]}
    if kind == "pairs":
        assert all(i != j for i, j in links.sums)
        i, j = links.sums[4]
        expected |= {14: (ELEMENTARY[i](z) + ELEMENTARY[j](z)) @ a[14]}
    for j, values in expected.items():
        np.testing.assert_allclose(y[:, j], (values - values.mean()) / values.std(), atol=1e-9)


def test_distance_is_the_sine():
    basis = np.eye(5)[:, :2]
    turned = basis.copy()
    turned[:, 1] = [0, np.cos(0.3), np.sin(0.3), 0, 0]
    assert subspaces.distance(basis, turned) == pytest.approx(np.sin(0.3) / np.sqrt(2))
    assert subspaces.distance(basis, basis @ [[0, 1], [-1, 0]]) == pytest.approx(0.0, abs=1e-12)
    assert subspaces.distance(basis, np.eye(5)[:, 2:4]) == pytest.approx(1.0)


def test_metrics_are_medians_and_their_slope():
    study = answered(subspaces.FirstOrder, variables=5, rank=2, rows=(100, 1600), problems=4)
    table = np.array([[subspaces.distance(t["basis"], b) for b in a["bases"]] for t, a in study.answered()])
    value = subspaces.subspace_distance(study, None, {"rows": 0}, None)
    assert value.value == pytest.approx(np.median(table[:, 0]))
    assert value.details["1600"] == pytest.approx(np.median(table[:, 1]))
    assert subspaces.subspace_distance(study, None, {"rows": -1}, None).value == value.details["1600"] < value.value
    slope = np.log(value.details["1600"] / value.details["100"]) / np.log(16)
    assert subspaces.subspace_exponent(study, None, {}, None).value == pytest.approx(slope)


@pytest.mark.parametrize("law", LAWS)
def test_the_subspace_is_found(law):
    design = {"law": law, "links": "neighbours", "variables": 6, "rank": 2, "rows": (8000,), "problems": 4}
    by = {c: subspaces.subspace_distance(answered(c, **design), None, {"rows": 0}, None).value for c in (
        subspaces.FirstOrder, subspaces.SecondOrder, subspaces.PrincipalComponents)}  # fmt: skip
    assert by[subspaces.FirstOrder] < 0.25
    assert by[subspaces.SecondOrder] < 0.25
    assert by[subspaces.PrincipalComponents] > 0.5


def test_designs_that_cannot_be():
    for design, word in ({"links": "pairs", "responses": 4}, "responses"), ({"rows": (20,)}, "fewer rows"):
        with pytest.raises(UserError, match=word):
            subspaces.FirstOrder(INFO, **design)
    with pytest.raises(UserError, match="rate"):
        subspaces.subspace_exponent(answered(subspaces.FirstOrder, rows=(40,), problems=1), None, {}, None)
