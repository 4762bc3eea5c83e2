"""SMC against a Kalman filter, losses and samplers against conjugate posteriors, the crescent against a grid."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.feynman_kac_pbnn import study as s
from latentbench.papers.feynman_kac_pbnn import training as t
from latentbench.spec.loading import load_suite
from scipy.special import logsumexp
from scipy.stats import bernoulli, multivariate_normal, norm
from torch.distributions import MultivariateNormal, kl_divergence

from tests.project import REPOSITORY

INFO, RNG = DataInfo((3,), "real", 60, columns={"y": (1,)}), np.random.default_rng
X = torch.tensor([[1.0, 0.2], [-0.5, 1.0], [0.3, -1.2], [2.0, 0.4], [-0.7, -0.6], [0.1, 0.9]])
Y, PRIOR = torch.tensor([1.2, 0.4, -1.0, 2.5, -0.2, 1.9]), torch.diag(torch.tensor([0.49, 2.25]))
OF = t.Settings(batch=2, epochs=3, walk=0.3, particles=100_000)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Linear:
    """y = psi (x phi) + noise, phi ~ N(0, PRIOR)."""

    phi, psi, scale = torch.tensor([0.3, -0.4]), torch.tensor([1.3]), torch.tensor([0.7, 1.5])

    def log_density(self, phi, psi, x, y):
        return -0.5 * (y - psi * phi @ x.T).square() - 0.5 * math.log(2 * math.pi)


def posterior(mean, covariance, x, y):
    new = torch.linalg.inv(torch.linalg.inv(covariance) + 1.69 * x.T @ x)
    return new @ (torch.linalg.solve(covariance, mean) + 1.3 * x.T @ y), new


def assert_law(draws, mean, covariance, atol=0.03):
    torch.testing.assert_close(draws.mean(0), mean, atol=atol, rtol=0)
    torch.testing.assert_close(draws.T.cov(), covariance, atol=atol, rtol=0)


def test_particles_are_a_kalman_filter_and_ascend_its_evidence():
    rule, mean, covariance = t.OpenHorizon(Linear(), OF, seeded()), torch.zeros(2), PRIOR
    for x, y in zip(X.split(2), Y.split(2), strict=True):
        psi, covariance = torch.tensor(1.3, requires_grad=True), covariance + 0.3 * torch.eye(2)
        evidence = MultivariateNormal(psi * x @ mean, torch.eye(2) + psi**2 * x @ covariance @ x.T).log_prob(y)
        mean, covariance = posterior(mean, covariance, x, y)
        before, state, rule.psi.grad = rule.phi, rule.draws.get_state(), None
        assert rule.advance((x, y)) == pytest.approx(float(evidence.detach()), abs=0.02)
        assert_law(rule.sample(), mean, covariance)
        rule.phi = before
        rule.draws.set_state(state)
        rule.loss((x, y), 1.5).backward()
        assert float(rule.psi.grad) == pytest.approx(-1.5 * float(torch.autograd.grad(evidence, psi)[0]), abs=0.03)


def test_losses_of_rivals():
    logs, prior = norm.logpdf(Y, 1.3 * X @ Linear.phi).sum(), MultivariateNormal(torch.zeros(2), PRIOR)
    peak = float(prior.log_prob(torch.zeros(2)))
    point = t.Point(Linear(), OF, seeded())
    assert float(point.loss((X, Y), 2.5).detach()) == pytest.approx(
        -2.5 * logs - float(prior.log_prob(Linear.phi)) + peak, 1e-5
    )
    field = t.MeanField(Linear(), replace(OF, log_var=-0.8), seeded())
    q = MultivariateNormal(Linear.phi, math.exp(-0.8) * torch.eye(2))
    fit = logs - 0.5 * 1.69 * math.exp(-0.8) * float(X.square().sum())
    want = -2.5 * fit + float(kl_divergence(q, prior)) + peak + float(q.entropy()) + 0.8
    assert np.mean([float(field.loss((X, Y), 2.5)) for _ in range(900)]) == pytest.approx(want, rel=0.01)
    assert_law(field.sample(100_000).detach(), q.mean, q.covariance_matrix)
    assert [len(r.parameters) for r in (point, field)] == [2, 3]


def test_hmc_has_the_posterior(monkeypatch):
    monkeypatch.setattr(t, "CHAINS", 400)
    monkeypatch.setattr(t, "DRAWS", 40_000)
    calls, model, density = [], Linear(), Linear().log_density
    model.log_density = lambda phi, *a: calls.append(len(phi)) or density(phi, *a)
    draws = t.hmc(model, torch.tensor([[5.0, 5.0]]), model.psi, (X, Y), replace(OF, epochs=50), seeded(4))
    assert draws.shape == (40_000, 2)
    assert_law(draws, *posterior(torch.zeros(2), PRIOR, X, Y))
    assert calls == [400] * (40_000 * 50 // (400 * 20)) * 21  # 20 steps and a start


def test_select_is_stratified():
    phi, logs = torch.arange(7.0)[:, None], torch.tensor([0.0, 2.0, 1.0, -900.0, 1.5, 0.5, -1.0])
    counts = torch.stack([t.select(phi, logs, seeded(k))[:, 0].long().bincount(minlength=7) for k in range(3000)])
    assert ((counts - 7 * logs.softmax(0)).abs() < 2).all()
    torch.testing.assert_close(counts.double().mean(0), 7 * logs.double().softmax(0), atol=0.04, rtol=0)


@pytest.mark.parametrize("binary", [True, False])
def test_network_is_plain_layers(binary):
    net, x = t.Network((3, 7, 4, 2, 1), seeded(), binary=binary), torch.randn(5, 3, generator=seeded(1))
    assert (len(net.phi), len(net.psi), net.phi[8:].tolist()) == (10, 63, [0, 0])
    assert net.psi[:21].std() == pytest.approx(math.sqrt(0.2), rel=0.3)
    phi, psi = torch.randn(6, 10, generator=seeded(2)), net.psi + 0.3 * torch.randn(63, generator=seeded(3))
    y, gelu = torch.tensor([0.0, 1, 1, 0, 1]), torch.nn.functional.gelu
    h = gelu(gelu(x @ psi[:21].reshape(3, 7) + psi[21:28]) @ psi[28:56].reshape(7, 4) + psi[56:60])
    out = torch.stack([gelu(h @ a[:8].reshape(4, 2) + a[8:]) @ psi[60:62] + psi[62] for a in phi]).numpy()
    want = bernoulli(1 / (1 + np.exp(-out))).logpmf(y) if binary else norm(out).logpdf(y)
    np.testing.assert_allclose(net.log_density(phi, psi, x, y), want, rtol=1e-4)
    np.testing.assert_allclose(t.nll(net, phi, psi, (x, y)), -np.log(np.exp(want).mean(0)), rtol=1e-4)


def test_epochs_of_adam(monkeypatch):
    seen, rates, rule, real = [], [], t.Point(Linear(), OF, seeded()), torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda a, *b: rates.append(a.param_groups[0]["lr"]) or real(a, *b))
    rule.loss = lambda rows, ratio: seen.append((rows[1].tolist(), ratio)) or sum(p.sum() for p in rule.parameters)
    phi, psi = list(islice(t.epochs(rule, (X, Y), replace(OF, batch=4, lr=0.1, decay=0.5), seeded()), 3))[-1]
    assert [(len(set(a)), b) for a, b in seen] == [(4, 1.5)] * 3
    assert len({tuple(sorted(a)) for a, _ in seen}) > 1
    assert rates == [0.1, 0.05, 0.025]
    torch.testing.assert_close((phi, psi), (Linear.phi[None] - 0.175, Linear.psi - 0.175))


def test_the_best_epoch_is_kept(monkeypatch):
    path = [(torch.tensor([[a, 0.1]]), torch.tensor([1.0])) for a in (9.0, 1.0, 4.0, 1.0)]
    monkeypatch.setattr(t, "epochs", lambda *_: iter(path))
    rule, held = t.Point(Linear(), OF, seeded()), (torch.eye(2), torch.tensor([0.9, 0.1]))
    assert t.fit(rule, (X, Y), held, OF, seeded())[0] is path[1][0]
    assert t.fit(rule, (X, Y), None, OF, seeded())[0] is path[2][0]
    assert t.fit(rule, (X, Y), held, replace(OF, epochs=0), seeded())[1] == Linear.psi


@pytest.mark.parametrize(("drift", "n"), [([1, 0], 20), ([0, -4], 4)])
def test_swag_is_a_gaussian_about_the_better_mean(monkeypatch, drift, n):
    monkeypatch.setattr(t, "DRAWS", 100_000)
    monkeypatch.setattr(t, "RANK", 6)
    noise = RNG(0).standard_normal((20, 2)) @ [[0.3, 0.2], [0, 0.1]] + [1, 0.5]
    phi, psi = torch.Tensor(noise + np.repeat(drift, [4, 16])[:, None]), torch.linspace(0.9, 1.1, 20)[:, None]
    monkeypatch.setattr(t, "epochs", lambda *_: iter(zip(phi[:, None], psi, strict=True)))
    held = (X, psi[:n].mean() * X @ phi[:n].mean(0))
    draws, found = t.swag(t.Point(Linear(), OF, seeded()), (X, Y), held, replace(OF, epochs=20), seeded(1))
    gaps = (phi[:n] - phi[:n].mean(0))[-6:]
    covariance = torch.diag(phi[:n].var(0, correction=0)) + gaps.T @ gaps / (len(gaps) - 1)
    assert_law(draws, phi[:n].mean(0), covariance / 2, 0.006)
    torch.testing.assert_close(found, psi[:n].mean(0))


def test_crescent():
    y, grid = RNG(1).standard_normal(30) + 0.7, np.linspace(-6, 6, 241)
    phi = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    prior, logs = multivariate_normal([0, 0], [2, 1]).logpdf(phi), {}
    psi, draws = s.crescent_posterior(y, 40_000, RNG(2))
    for a in (0.7, 1.0, 1.4, psi):
        each = norm((phi[:, 1] / a + (phi[:, 0] ** 2 + a**2) / 2)[:, None]).logpdf(y)
        found = s.Crescent().log_density(torch.Tensor(phi), torch.tensor([a]), torch.zeros(30, 1), torch.Tensor(y))
        np.testing.assert_allclose(found, each, rtol=1e-4)
        logs[a] = prior + each.sum(1)
    evidence, ours = ([logsumexp(f(a)) for a in logs] for f in (logs.get, lambda a: s.crescent_log_weights(y, a)))
    np.testing.assert_allclose(np.subtract(ours, ours[0]), np.subtract(evidence, evidence[0]), atol=1e-3)
    assert evidence[-1] == max(evidence)
    weights = np.exp(logs[psi] - evidence[-1])
    for f in (lambda a: a[:, 1], lambda a: a[:, 0] ** 2, lambda a: a[:, 1] ** 2, lambda a: a[:, 1] * a[:, 0] ** 2):
        assert f(draws).mean() == pytest.approx(weights @ f(phi), rel=0.04)


def test_made_rows():
    x, y, target = s.made("moons", 20_000, RNG(0))
    for label, centre, side in ((0, [0, 0], 1), (1, [1, 0.5], -1)):
        gap = x[y == label] - centre  # on a half circle, plus noise
        assert np.square(gap).sum(1).mean() == pytest.approx(1 + 2 * 0.09, abs=0.03)
        np.testing.assert_allclose(gap.mean(0), [0, side * 2 / np.pi], atol=0.02)
    x, y, target = s.made("wave", 9000, RNG(0))
    assert (np.abs(x).max(), (y - target).var()) == (pytest.approx(6, abs=0.01), pytest.approx(1, abs=0.05))
    np.testing.assert_allclose(target, (x * np.sin(x * np.tanh(x)))[:, 0])


def study(**params):
    x = torch.randn(60, 3, generator=seeded(5), dtype=torch.float64) * 3 + 1
    found = s.PartialBNN(INFO, **{"epochs": 1, "particles": 30, **params})
    found.start(Batch(x, 60, columns={"y": x[:, :1] * 2 + 5}), seeded(6))
    return found


def test_tables_are_split_and_scaled_by_training_rows():
    given = (problem := study(design="table").problem(RNG(3))).given
    assert [len(given["y" + part]) for part in ("", "_held", "_new")] == [36, 18, 6]
    np.testing.assert_allclose([given["y"].mean(), given["y"].std()], [0, 1], atol=1e-9)
    np.testing.assert_allclose(given["x_new"][:, 0], given["y_new"])
    np.testing.assert_allclose(problem.truth["target"], given["y_new"])


@pytest.mark.parametrize("rule", ["ohsmc", "map", "map-hmc", "vi", "swag"])
def test_answers_are_those_of_the_rule(rule, monkeypatch):
    made, called, draws, asked = study(rule=rule, design="moons"), [], torch.randn(9, 105, generator=seeded(7)), []
    given = made.problem(RNG(0)).given

    def fit(rule, rows, held, *_):
        called.append(type(rule))
        for found, part in ((rows, ""), (held, "_held")):
            torch.testing.assert_close(found, (torch.Tensor(given["x" + part]), torch.Tensor(given["y" + part])))
        return draws, rule.psi.detach()

    monkeypatch.setattr(s, "fit", fit)
    monkeypatch.setattr(s, "swag", lambda rule, *_: called.append("swag") or (draws, rule.psi.detach()))
    monkeypatch.setattr(s, "hmc", lambda *_: called.append("hmc") or draws)
    monkeypatch.setattr(s, "nll", lambda net, phi, psi, rows: asked.append((net, psi)) or t.nll(net, phi, psi, rows))
    answer = made.answer(given, RNG(1))
    first = {"ohsmc": t.OpenHorizon, "vi": t.MeanField}.get(rule, t.Point)
    assert called == [first, *{"swag": ["swag"], "map-hmc": ["hmc"]}.get(rule, [])]
    (net, psi), ones = asked[0], torch.ones(1000)
    density = net.log_density(draws, psi, torch.Tensor(given["x_new"]), ones).exp().mean(0)
    np.testing.assert_allclose(answer["mean"], density, rtol=1e-4)
    np.testing.assert_allclose(np.exp(-answer["nll"]), np.where(given["y_new"] > 0, density, 1 - density), rtol=1e-3)


def test_measures():
    made = study(design="moons")
    made.advance(None, None)
    target = torch.tensor(next(made.answered())[0]["target"])
    made._answers[0] = {"mean": (torch.arange(1000) < 250) * (1 - 2 * target) + target, "nll": torch.full((9,), 0.3)}
    assert s.pbnn_misclassified(made, None, {}, None).value == 0.25
    assert (s.pbnn_rmse(made, None, {}, None).value, s.pbnn_nll(made, None, {}, None).value) == (
        0.5,
        pytest.approx(0.3),
    )
    crescent = study(design="crescent")
    crescent.advance(None, None)
    truth = next(crescent.answered())[0]
    crescent._answers[0] = {"phi": torch.tensor(truth["phi"] * [1, -1]), "psi": torch.tensor(-truth["psi"])}
    assert s.crescent_energy(crescent, None, {}, None).value == 0
    for one, other in ((s.pbnn_nll, crescent), (s.pbnn_rmse, crescent), (s.crescent_energy, made)):
        with pytest.raises(UserError, match="answered"):
            one(other, None, {}, None)
    with pytest.raises(UserError, match="SWAG"):
        s.PartialBNN(INFO, rule="swag")
    with pytest.raises(UserError, match="target"):
        s.PartialBNN(INFO, design="table").start(Batch(torch.rand(9, 3), 9), seeded())


def test_suite_is_the_authors_protocol():
    suite = load_suite(REPOSITORY / "suites/feynman-kac-pbnn/suite.yaml").suite
    found = {}
    for method, data in (("ohsmc", "crescent"), ("vi", "moons"), ("vi-narrow", "wave"), ("swag", "boston")):
        made = s.PartialBNN(INFO, **{**suite.datasets[data].params, **suite.methods[method].params})
        of = made.settings
        found[method] = (made.design, of.batch, of.epochs, of.lr, of.walk, of.log_var, of.particles)
    assert found == {
        "ohsmc": ("crescent", 10, 200, 0.1, 1e-3, 0.0, 1000),
        "vi": ("moons", 20, 100, 0.01, 0.01, 1.0, 1000),
        "vi-narrow": ("wave", 20, 200, 0.01, 0.01, -5.0, 1000),
        "swag": ("table", 50, 200, 0.01, 0.01, 1.0, 1000),
    }
    assert s.SETTINGS["crescent"].decay ** 10 == pytest.approx(0.96)
    rules = {k: k for k in ("ohsmc", "map", "map-hmc", "vi", "swag")} | {"vi-narrow": "vi", "untrained": "ohsmc"}
    assert {k: m.params.get("rule", "ohsmc") for k, m in suite.methods.items()} == rules
    assert suite.methods["untrained"].params["epochs"] == 0
    claims = {c.id: c for c in suite.claims}
    for rival in ("map", "map-hmc", "swag", "vi-narrow", "vi"):
        cells = {(c.better, c.worse, c.metric, c.dataset) for c in claims.pop(f"over-{rival}").cells}
        assert cells == {("ohsmc", rival, "nll", d) for d in ("moons", "wave", "boston")}
    both = [(c.better, c.worse, c.metric, c.sanity) for c in claims.values()]
    assert both == [("ohsmc", "vi", "energy", False), ("map-hmc", "untrained", "energy", True)]
