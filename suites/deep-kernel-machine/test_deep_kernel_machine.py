"""The optimum against a closed form, bounds and conditionals against inverses, chains against exact laws."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.deep_kernel_machine import grams, study
from latentbench.spec.loading import load_suite
from scipy import linalg, stats
from torch.distributions import MultivariateNormal as Normal
from torch.distributions import kl_divergence

from tests.project import REPOSITORY

INFO, rng, inv, t = DataInfo((3,), "real", 1), np.random.default_rng, np.linalg.inv, torch.from_numpy
AT = grams.Settings(*(torch.tensor(v).double() for v in ([0.1, -0.3, 0.4], [-0.2, 0.3], 0.7, -1.2)))


def started(one, n=40):
    x = np.column_stack([rng(0).standard_normal((n, 2)) * [1, 30], np.full(n, 7.0)])
    one.start(Batch(t(x), n, columns={"y": t(x[:, :1] + 5 + 0.1 * rng(1).standard_normal((n, 1)))}), torch.Generator())
    return one


def kernel(g):
    return np.exp(-0.5 * (np.diag(g)[:, None] + np.diag(g) - 2 * g))


def test_covariances_of_all_rows_by_inverses(monkeypatch):
    monkeypatch.setattr(grams, "JITTER", 0.0)
    x, a = rng(0).standard_normal((7, 3)), rng(1).standard_normal((2, 4, 5))
    out = grams.covariances(AT, t(x[:4]), t(a), t(x[4:]))
    z = x * np.exp([-0.1, 0.3, -0.4]) / np.sqrt(3)
    g = z @ z.T
    for factor, length, found in zip(a, (-0.2, 0.3), out.features, strict=True):
        k = kernel(g)
        root = np.linalg.cholesky(k[:4, :4])
        inner = root @ factor @ factor.T @ root.T
        np.testing.assert_allclose(found @ found.mT, inner)
        p = k[:, :4] @ inv(k[:4, :4])
        g = (k - p @ k[:4] + p @ inner @ p.T) * np.exp(-2 * length)
    np.testing.assert_allclose(out.k, np.exp(0.7) * kernel(g)[:, :4])
    np.testing.assert_allclose(out.variance, np.full(7, np.exp(0.7)))
    assert float(out.noise) == pytest.approx(1e-4 + np.exp(-1.2))
    first, wide = (grams.covariances(AT, t(x), f) for f in (None, torch.eye(7).double().expand(2, 7, 7)))
    np.testing.assert_allclose(first.k, wide.k)


def test_likelihood_bound_and_predictions_by_inverses():
    x, y = rng(2).standard_normal((9, 3)), rng(3).standard_normal(4)
    full = np.exp(0.7) * kernel(x @ x.T)
    noise, rows = 0.3, slice(3, 7)  # three inducing rows, four with targets, two new ones
    out = grams.Outputs(t(full[:, :3]), t(np.diag(full).copy()), torch.tensor(noise).double(), torch.empty(0))
    q = full[:, :3] @ inv(full[:3, :3]) @ full[:3]
    s = q[rows, rows] + noise * np.eye(4)
    bound, mean, variance = grams.sparse(out, t(y))
    expected = stats.multivariate_normal(cov=s).logpdf(y) - np.trace((full - q)[rows, rows]) / noise / 2
    assert float(bound) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(mean, q[7:, rows] @ inv(s) @ y, rtol=1e-4)
    cross = q[7:, rows] @ inv(s) @ q[rows, 7:]
    np.testing.assert_allclose(variance, np.diag(full[7:, 7:] - cross) + noise, rtol=1e-4)
    law = stats.multivariate_normal(cov=full[rows, rows] + noise * np.eye(4))
    assert float(grams.log_likelihood(out._replace(k=t(full[rows, rows])), t(y))) == pytest.approx(law.logpdf(y))


def test_limit_of_linear_layers_is_a_geodesic(monkeypatch):
    """Linear kernels and as many targets, without noise, as rows: G_l = K (K^-1 S)^(l / 3)."""
    x, s = rng(6).standard_normal((3, 3)), np.cov(rng(7).standard_normal((3, 9)))

    def likelihood(out, _):
        return -0.5 * (torch.logdet(out.k) + torch.trace(torch.linalg.solve(out.k, t(s))))

    monkeypatch.setattr(grams, "squared_exponential", lambda gram, _: gram)
    monkeypatch.setattr(grams, "log_likelihood", likelihood)
    at, k = study.settings(1, 0.1), x @ x.T / 3
    a = grams.limit(at, t(x), torch.zeros(3), steps=500)
    for layer, v in enumerate(grams.covariances(at, t(x), a).features, 1):
        expected = k @ linalg.fractional_matrix_power(inv(k) @ s, layer / 3)
        np.testing.assert_allclose(v @ v.mT, expected, rtol=1e-3, atol=1e-4)


def test_trainings_move_all_towards_a_higher_bound_less_divergences(monkeypatch):
    x = t(rng(8).standard_normal((30, 3)))
    y, raw = torch.sin(3 * x[:, 0]), t(0.3 * rng(9).standard_normal((2, 6, 6)))
    start = float(grams.sparse(grams.covariances(AT, x[:6], None, x), y)[0])
    for nu in (None, 0.5):
        found = grams.train(AT, x, y, x[:6], nu, steps=30)
        assert float(grams.sparse(grams.covariances(*found, x), y)[0]) > start
        assert all(not torch.equal(new, old) for new, old in zip([*found[0], found[1]], [*AT, x[:6]]))
        assert (found[2] is None) == (nu is None)
    seen = []
    monkeypatch.setattr(grams, "maximise", lambda objective, at, steps: seen.append(objective(*at[:-1], raw)) or at)
    *_, a = grams.train(AT, x, y, x[:6], 3.0, steps=1)
    np.testing.assert_array_equal(a, torch.eye(6).double().expand(2, 6, 6))
    factors, zero, root = grams.lower(raw), torch.zeros(6).double(), grams.lower(raw[0].flip(0))
    laws = [kl_divergence(Normal(zero, scale_tril=root @ a), Normal(zero, scale_tril=root)) for a in factors]
    bound = grams.sparse(grams.covariances(AT, x[:6], factors, x), y)[0]
    assert float(seen[0]) == pytest.approx(float(bound - 3 * sum(laws)))


@pytest.mark.parametrize(("width", "repeated"), [(2, True), (2, False), (5, True)])
def test_chains_follow_a_posterior_that_is_normal(monkeypatch, width, repeated):
    """A likelihood exp(-1.5 G_11) leaves first features N(0, 1 / 4) if repeated, else N(0, 1 / (1 + 3 / N))."""
    monkeypatch.setattr(study, "log_likelihood", lambda out, y: -1.5 * out.features[..., 0, 0, :].square().sum(-1))
    one = study.GramPosterior(INFO, width=width, repeated=repeated, moves=200)
    found = one.answer({"x": rng(10).standard_normal((3, 3)), "y": np.zeros(3)}, rng(0))["grams"]
    assert found.shape == (320, 2, 3, 3)
    assert float(found[:, 0, 0, 0].mean()) == pytest.approx(1 / 4 if repeated else 1 / (1 + 3 / width), rel=0.15)
    assert float(found[:, 1, 1, 1].mean()) == pytest.approx(1.0, rel=0.15)


def test_a_wide_process_is_near_its_limit_only_if_targets_are_repeated():
    found = {}
    for width, repeated in ((3, True), (40, True), (40, False), (0, True)):
        one = started(study.GramPosterior(INFO, width=width, repeated=repeated, moves=60))
        one.advance(None, None)
        found[width, repeated] = study.gram_distance(one, None, {}, None).value
    assert found[40, True] < 0.8 * min(found[3, True], found[40, False])
    assert found[0, True] == pytest.approx(found[40, False], abs=0.15)


def test_tables_are_split_and_standardised_by_training_rows():
    one = started(study.SparseKernelMachine(INFO))
    problem, order = one.problem(rng(3)), rng(3).permutation(40)
    given, train, test = problem.given, order[:36], order[36:]
    x, y = one.x, one.y[:, 0]
    for name, rows in (("x", train), ("x_new", test)):
        expected = (x[rows, :2] - x[train, :2].mean(0)) / x[train, :2].std(0)
        np.testing.assert_allclose(given[name], np.column_stack([expected, np.zeros(len(rows))]))
    for found, rows in ((given["y"], train), (problem.truth["y"], test)):
        np.testing.assert_allclose(found, (y[rows] - y[train].mean()) / y[train].std())
    with pytest.raises(UserError, match="no column"):
        one.start(Batch(t(x), 40), torch.Generator())


@pytest.mark.parametrize(("learned", "tries"), [(True, [3.0, 30.0, 300.0]), (False, [0.01, 0.1, 1.0])])
def test_answers_are_those_of_the_best_try(monkeypatch, learned, tries):
    seen = []

    def fake(start, x, y, inducing, nu, *, steps):
        noise = round(float(start.noise.exp()), 12)
        seen.append((nu if learned else noise, noise if learned else nu, len(start.inputs), len(x), len(inducing)))
        return start, inducing, None

    def law(out, y):  # the second try is nearest
        mean = torch.full((len(out.k) - 5 - len(y),), [9.0, 2.0, 4.0][tries.index(seen[-1][0])])
        return None, mean, torch.ones_like(mean)

    monkeypatch.setattr(study, "train", fake)
    monkeypatch.setattr(study, "sparse", law)
    given = {"x": rng(0).standard_normal((40, 3)), "y": np.zeros(40), "x_new": rng(1).standard_normal((6, 3))}
    one = study.SparseKernelMachine(INFO, learned=learned, lengths=not learned, inducing=5)
    assert one.answer(given, rng(0))["mean"].tolist() == [2.0] * 6
    rest = (0.1, 1) if learned else (None, 3)
    assert seen == [(value, *rest, 36, 5) for value in tries] + [(tries[1], *rest, 40, 5)]


def test_measures():
    g = np.stack([np.diag([1.0, 4.0, 2.0]), np.eye(3)])
    draws = np.stack([g, 3 * g, g * np.array([2.0, 1.0])[:, None, None]])

    law = {"mean": np.array([0.1, 1.0]), "variance": np.array([0.5, 3.0]), "grams": draws}
    one = SimpleNamespace(answered=lambda: [({"grams": g, "y": np.array([0.3, -2.0])}, law)])
    assert study.gram_distance(one, None, {}, None).value == pytest.approx((0 + 2 + 0.5) / 3)
    expected = 0.5 * np.mean([0.04 / 0.5 + np.log(np.pi), 9 / 3 + np.log(6 * np.pi)])
    assert study.kernel_machine_nll(one, None, {}, None).value == pytest.approx(expected)


def test_who_is_claimed_to_be_ahead():
    suite = load_suite(REPOSITORY / "suites/deep-kernel-machine/suite.yaml").suite
    near, once, *densities = suite.claims
    assert (near.metric, near.direction, near.methods) == ("distance", "falls", ["dgp-4", "dgp-16", "dgp-64"])
    assert (once.metric, once.better, once.worse, once.margin) == ("distance", "dgp-64", "dgp-64-once", 0.1)
    cells = [(c.metric, c.better, c.worse, c.dataset) for claim in densities for c in claim.cells]
    sets, rival, lengths = ("yacht", "boston", "energy"), {"learned": False}, {"lengths": True}
    assert cells == [("nll", f"dkm{end}", f"nngp{end}", d) for end in ("", "-lengths") for d in sets]
    wide = [{"width": width} for width in (4, 16, 64)] + [{"width": 64, "repeated": False}, {"width": 0}]
    assert [method.params for method in suite.methods.values()] == [*wide, {}, rival, lengths, rival | lengths]
