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


def table(n=40, seed=0):
    g = rng(seed)
    x = np.column_stack([g.standard_normal((n, 2)) * [1, 30], np.full(n, 7.0)])
    return Batch(t(x), n, columns={"y": t(x[:, :1] + 5 + 0.1 * g.standard_normal((n, 1)))})


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
    out = grams.Outputs(t(full[:, :3]), t(np.diag(full).copy()), torch.tensor(noise).double(), [])
    q = full[:, :3] @ inv(full[:3, :3]) @ full[:3]
    s = q[rows, rows] + noise * np.eye(4)
    expected = stats.multivariate_normal(cov=s).logpdf(y) - np.trace((full - q)[rows, rows]) / noise / 2
    before = grams.Outputs(out.k[:7], out.variance[:7], out.noise, [])
    assert float(grams.sparse(before, t(y))[0]) == pytest.approx(expected, rel=1e-4)
    mean, variance = grams.predict(out, t(y))
    np.testing.assert_allclose(mean, q[7:, rows] @ inv(s) @ y, rtol=1e-4)
    cross = q[7:, rows] @ inv(s) @ q[rows, 7:]
    np.testing.assert_allclose(variance, np.diag(full[7:, 7:] - cross) + noise, rtol=1e-4)
    exact = grams.Outputs(t(full[rows, rows]), out.variance[rows], out.noise, [])
    law = stats.multivariate_normal(cov=full[rows, rows] + noise * np.eye(4))
    assert float(grams.log_likelihood(exact, t(y))) == pytest.approx(law.logpdf(y))


def test_divergence_is_that_of_normal_laws():
    raw, root = t(rng(4).standard_normal((2, 3, 3))), grams.lower(t(rng(5).standard_normal((3, 3))))
    laws = [Normal(torch.zeros(3).double(), scale_tril=root @ a) for a in grams.lower(raw)]
    expected = sum(kl_divergence(law, Normal(torch.zeros(3).double(), scale_tril=root)) for law in laws)
    assert float(grams.divergence(raw)) == pytest.approx(float(expected))


@pytest.mark.parametrize("nu", [1.0, 3.0])
def test_optimum_of_linear_layers_is_a_geodesic(monkeypatch, nu):
    """Linear kernels and as many targets, without noise, as rows: G_l = K (K^-1 S)^(l / 3) where nu is 1."""
    x, s = rng(6).standard_normal((3, 3)), np.cov(rng(7).standard_normal((3, 9)))

    def likelihood(out, _):
        return -0.5 * nu * (torch.logdet(out.k) + torch.trace(torch.linalg.solve(out.k, t(s))))

    monkeypatch.setattr(grams, "squared_exponential", lambda gram, _: gram)
    monkeypatch.setattr(grams, "log_likelihood", likelihood)
    at = study.settings(1, 2, 0.1)
    same, held, a = grams.optimum(at, t(x), torch.zeros(3), nu, steps=500)
    assert held.tolist() == x.tolist()
    assert same is at
    k = x @ x.T / 3
    for layer, v in enumerate(grams.covariances(at, held, a).features, 1):
        expected = k @ linalg.fractional_matrix_power(inv(k) @ s, layer / 3)
        np.testing.assert_allclose(v @ v.mT, expected, rtol=1e-3, atol=1e-4)


def test_trainings_raise_the_bound_and_learn_gram_matrices_less_where_they_cost_more():
    x = t(rng(8).standard_normal((30, 3)))
    y = torch.sin(3 * x[:, 0])
    found = {nu: grams.optimum(AT, x, y, nu, steps=60, inducing=x[:6]) for nu in (0.5, 5.0, 1e6, None)}
    bound = {nu: float(grams.sparse(grams.covariances(*f, x), y)[0]) for nu, f in found.items()}
    start = float(grams.sparse(grams.covariances(AT, x[:6], None, x), y)[0])
    assert bound[0.5] > bound[5.0] > bound[None] > start
    assert float((found[1e6][2] - torch.eye(6)).abs().max()) < 0.01
    assert all(not torch.equal(new, old) for new, old in zip([*found[None][0], found[None][1]], [*AT, x[:6]]))
    assert bound[1e6] == pytest.approx(bound[None], abs=0.5)


@pytest.mark.parametrize(("width", "repeated"), [(2, True), (2, False), (5, True)])
def test_chains_follow_a_posterior_that_is_normal(monkeypatch, width, repeated):
    """A likelihood exp(-1.5 G_11) leaves first features N(0, 1 / 4) if repeated, else N(0, 1 / (1 + 3 / N))."""
    monkeypatch.setattr(study, "log_likelihood", lambda out, y: -1.5 * out.features[0][..., 0, :].square().sum(-1))
    one = study.GramPosterior(INFO, width=width, repeated=repeated, rows=3, burn_in=200, draws=600)
    x = rng(10).standard_normal((3, 3))
    answer = one.answer({"x": x, "y": np.zeros(3)}, rng(0))
    variance = 1 / 4 if repeated else 1 / (1 + 3 / width)
    assert answer["grams"].shape == (960, 2, 3, 3)
    assert answer["features"].shape == (2, 960 * min(width, 4), 3)
    assert float(answer["grams"][:, 0, 0, 0].mean()) == pytest.approx(variance, rel=0.15)
    assert float(answer["features"][0, :, 0].square().mean()) == pytest.approx(variance, rel=0.15)
    assert float(answer["features"][1, :, 1].square().mean()) == pytest.approx(1.0, rel=0.15)
    wide = study.GramPosterior(INFO, width=0, rows=3).answer({"x": x, "y": np.zeros(3)}, rng(0))
    np.testing.assert_allclose(wide["grams"][0, 0], kernel(x @ x.T / 3) + 1e-6 * np.eye(3))
    np.testing.assert_allclose(np.cov(wide["features"][1].T), wide["grams"][0, 1], atol=0.1)


def test_problems():
    assert study.fold(308, 0)[1][:2].tolist() == [121, 115]
    assert study.fold(308, 3)[1][:2].tolist() == [170, 179]
    assert [len(part) for part in study.fold(506, 19)] == [455, 51]
    one, other = (study.SparseKernelMachine(INFO) for _ in range(2))
    one.start(table(), torch.Generator().manual_seed(0))
    other.load_state_dict(one.state_dict())
    problem = other.problem(rng(3))
    given, (train, test) = problem.given, study.fold(40, int(rng(3).integers(20)))
    x, y = one.x, one.y[:, 0]
    np.testing.assert_allclose(
        given["x_new"][:, :2], ((x - x[train].mean(0))[test] / (x[train].std(0) + (x[0] == 7)))[:, :2]
    )
    np.testing.assert_allclose(problem.truth["y"], (y[test] - y[train].mean()) / y[train].std())
    np.testing.assert_allclose(np.sort(given["y"]), np.sort((y[train] - y[train].mean()) / y[train].std()))
    assert np.corrcoef(given["y"], given["x"][:, 0])[0, 1] > 0.9
    assert not given["x"][:, 2].any()
    with pytest.raises(UserError, match="no column"):
        one.start(Batch(t(x), 40), torch.Generator().manual_seed(0))


def test_answers_are_those_of_the_best_try(monkeypatch):
    seen = []

    def fake(start, x, y, nu, *, steps, inducing):
        seen.append((nu, float(start.noise.exp()), len(start.inputs), len(start.lengths), len(x), len(inducing)))
        return start, inducing, None

    monkeypatch.setattr(study, "optimum", fake)
    law = {1.0: 9.0, 10.0: 2.0, 100.0: 4.0}  # the second is nearest
    monkeypatch.setattr(
        study, "predict", lambda out, y: (out.k[len(y) + 5 :, 0] * 0 + law[seen[-1][0] / 3], out.variance[len(y) + 5 :])
    )
    given = {"x": rng(0).standard_normal((40, 3)), "y": np.zeros(40), "x_new": rng(1).standard_normal((6, 3))}
    answer = study.SparseKernelMachine(INFO, inducing=5).answer(given, rng(0))
    assert (answer["chosen"], set(answer["mean"]), len(answer["variance"])) == (1, {2.0}, 6)
    assert [call[0] for call in seen] == [3.0, 30.0, 300.0, 30.0]
    assert {(round(call[1], 12), *call[2:4]) for call in seen} == {(0.1, 1, 2)}
    assert [call[4:] for call in seen] == [(36, 5)] * 3 + [(40, 5)]
    monkeypatch.undo()
    monkeypatch.setattr(study, "optimum", fake)
    rival = study.SparseKernelMachine(INFO, learned=False, layers=0, lengths=True, tries=(0.5,), inducing=7)
    mean = rival.answer(given, rng(0))["mean"]
    assert mean.shape == (6,)
    assert seen[4:] == [(None, pytest.approx(0.5), 3, 0, 40, 7)]


def test_measures(monkeypatch):
    g = np.stack([np.diag([1.0, 4.0, 2.0]), np.eye(3)])
    root = np.sqrt(g)
    features = (root[:, None] @ rng(0).standard_normal((2, 4000, 3, 1)))[..., 0]
    draws = np.stack([g, 3 * g, g * np.array([2.0, 1.0])[:, None, None]])

    def of(metric, truth, answer):
        return metric(SimpleNamespace(answered=lambda: [(truth, answer)]), None, {}, None).value

    assert of(study.gram_distance, {"grams": g}, {"grams": draws}) == pytest.approx((0 + 2 + 0.5) / 3)
    assert of(study.feature_ks, {"grams": g}, {"features": features}) < 0.03
    for scale, more in ((1.5, 0.2), (0.7, 0.2)):
        assert of(study.feature_ks, {"grams": g}, {"features": scale * features}) > more
    y, law = np.array([0.3, -2.0]), {"mean": np.array([0.1, 1.0]), "variance": np.array([0.5, 3.0])}
    expected = -stats.norm.logpdf(y, law["mean"], np.sqrt(law["variance"])).mean()
    assert of(study.kernel_machine_nll, {"y": y}, law) == pytest.approx(expected)
    assert of(study.kernel_machine_rmse, {"y": y}, law) == pytest.approx(np.sqrt((0.04 + 9) / 2))


def test_a_wide_process_is_near_its_limit_only_if_targets_are_repeated():
    found = {}
    for width, repeated in ((3, True), (40, True), (40, False), (0, True)):
        one = study.GramPosterior(INFO, width=width, repeated=repeated, rows=4, burn_in=100, draws=60)
        one.start(table(seed=11), torch.Generator().manual_seed(2))
        one.advance(None, None)
        found[width, repeated] = study.gram_distance(one, None, {}, None).value
    assert found[40, True] < 0.6 * found[3, True]
    assert found[40, True] < 0.8 * found[40, False]
    assert found[0, True] == pytest.approx(found[40, False], abs=0.15)


def test_who_is_claimed_to_be_ahead():
    suite = load_suite(REPOSITORY / "suites/deep-kernel-machine/suite.yaml").suite
    near, normal, once, *densities = suite.claims
    assert [(c.metric, c.direction, c.methods) for c in (near, normal)] == [
        (metric, "falls", ["dgp-4", "dgp-16", "dgp-64"]) for metric in ("distance", "ks")
    ]
    assert (once.metric, once.better, once.worse, once.margin) == ("distance", "dgp-64", "dgp-64-once", 0.1)
    cells = [(c.metric, c.better, c.worse, c.dataset) for claim in densities for c in claim.cells]
    assert cells == [("nll", "dkm", o, d) for o in ("nngp", "gp-lengths", "gp") for d in ("yacht", "boston", "energy")]
    params = {name: method.params for name, method in suite.methods.items()}
    assert [params[f"dgp-{w}"] for w in (4, 16, 64)] == [{"width": w} for w in (4, 16, 64)]
    assert (params["dgp-64-once"], params["dkm"]) == ({"width": 64, "repeated": False}, {})
    rival = {"learned": False, "tries": [0.01, 0.1, 1.0]}
    assert [params[name] for name in ("nngp", "gp", "gp-lengths")] == [
        rival,
        {"layers": 0, **rival},
        {"layers": 0, "lengths": True, **rival},
    ]
