"""SMC against a Kalman filter, losses and samplers against conjugate posteriors, networks against plain layers."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.feynman_kac_pbnn import pbnn as t
from latentbench.planning.plan import plan
from latentbench.spec.loading import load_suite
from scipy.stats import bernoulli, norm
from torch.distributions import MultivariateNormal, kl_divergence

from tests.project import REPOSITORY

INFO, RNG = DataInfo((3,), "real", 60), np.random.default_rng
X = torch.tensor([[1.0, 0.2], [-0.5, 1.0], [0.3, -1.2], [2.0, 0.4], [-0.7, -0.6], [0.1, 0.9]])
Y, ONE = torch.tensor([1.2, 0.4, -1.0, 2.5, -0.2, 1.9]), torch.eye(2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Linear:
    """y = psi (x phi) + noise."""

    phi, psi = torch.tensor([0.3, -0.4]), torch.tensor([1.3])

    def log_density(self, phi, psi, x, y):
        return -0.5 * (y - psi * phi @ x.T).square() - 0.5 * math.log(2 * math.pi)


def posterior(mean, covariance, x, y):
    new = torch.linalg.inv(torch.linalg.inv(covariance) + 1.69 * x.T @ x)
    return new @ (torch.linalg.solve(covariance, mean) + 1.3 * x.T @ y), new


def assert_law(draws, mean, covariance, atol=0.03):
    torch.testing.assert_close(draws.mean(0), mean, atol=atol, rtol=0)
    torch.testing.assert_close(draws.T.cov(), covariance, atol=atol, rtol=0)


def test_particles_are_a_kalman_filter_and_ascend_its_evidence(monkeypatch):
    monkeypatch.setattr(t, "DRAWS", 100_000)
    monkeypatch.setattr(t, "WALK", 0.3)
    rule, mean, covariance = t.OpenHorizon(Linear(), seeded()), torch.zeros(2), ONE
    for x, y in zip(X.split(2), Y.split(2), strict=True):
        psi, covariance = torch.tensor(1.3, requires_grad=True), covariance + 0.3 * ONE
        evidence = MultivariateNormal(psi * x @ mean, ONE + psi**2 * x @ covariance @ x.T).log_prob(y)
        mean, covariance = posterior(mean, covariance, x, y)
        (slope,) = torch.autograd.grad(rule.loss((x, y), 1.5), rule.parameters)
        assert float(slope) == pytest.approx(-1.5 * float(torch.autograd.grad(evidence, psi)[0]), abs=0.03)
        assert_law(rule.sample(), mean, covariance)


def test_losses_of_rivals():
    logs, prior = norm.logpdf(Y, 1.3 * X @ Linear.phi).sum(), MultivariateNormal(torch.zeros(2), ONE)
    peak, point = float(prior.log_prob(torch.zeros(2))), t.Point(Linear(), seeded())
    assert point.loss((X, Y), 2.5).item() == pytest.approx(-2.5 * logs - float(prior.log_prob(Linear.phi)) + peak, 1e-5)
    field, q = t.MeanField(Linear(), seeded(), -0.8), MultivariateNormal(Linear.phi, math.exp(-0.8) * ONE)
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
    draws = t.hmc(model, torch.tensor([[5.0, 5.0]]), model.psi, (X, Y), 50, seeded(4))
    assert_law(draws, *posterior(torch.zeros(2), ONE, X, Y))
    assert (len(draws), calls) == (40_000, [400] * (40_000 * 50 // (400 * 20)) * 21)  # 20 steps and a start


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
    monkeypatch.setattr(t, "BATCH", 2)
    seen, rule = [], t.Point(Linear(), seeded())
    rule.loss = lambda rows, ratio: seen.append((rows[1].tolist(), ratio)) or sum(p.sum() for p in rule.parameters)
    phi, psi = list(islice(t.epochs(rule, (X, Y)), 2))[-1]
    assert [sorted(y for batch, _ in seen[i : i + 3] for y in batch) for i in (0, 3)] == [sorted(Y.tolist())] * 2
    assert seen[0][0] != seen[3][0]
    assert {ratio for _, ratio in seen} == {3.0}
    torch.testing.assert_close((phi, psi), (Linear.phi[None] - 0.06, Linear.psi - 0.06))  # six steps of a rate


def test_the_best_epoch_is_kept(monkeypatch):
    path = [(torch.tensor([[a, 0.1]]), torch.tensor([1.0])) for a in (9.0, 1.2, 1.0, 4.0, 0.9)]
    monkeypatch.setattr(t, "epochs", lambda *_: iter(path))
    assert t.fit(t.Point(Linear(), seeded()), (X, Y), (ONE, torch.tensor([0.9, 0.1])), 4) is path[2]


@pytest.mark.parametrize(("drift", "n"), [([1, 0], 20), ([0, -4], 4)])
def test_swag_is_a_gaussian_about_the_better_mean(monkeypatch, drift, n):
    monkeypatch.setattr(t, "DRAWS", 100_000)
    monkeypatch.setattr(t, "RANK", 6)
    noise = RNG(0).standard_normal((20, 2)) @ [[0.3, 0.2], [0, 0.1]] + [1, 0.5]
    phi, psi = torch.Tensor(noise + np.repeat(drift, [4, 16])[:, None]), torch.linspace(0.9, 1.1, 20)[:, None]
    monkeypatch.setattr(t, "epochs", lambda *_: iter(zip(phi[:, None], psi, strict=True)))
    held = (X, psi[:n].mean() * X @ phi[:n].mean(0))
    draws, found = t.swag(t.Point(Linear(), seeded()), (X, Y), held, 20)
    gaps = (phi[:n] - phi[:n].mean(0))[-6:]
    covariance = torch.diag(phi[:n].var(0, correction=0)) + gaps.T @ gaps / (len(gaps) - 1)
    assert_law(draws, phi[:n].mean(0), covariance / 2, 0.006)
    torch.testing.assert_close(found, psi[:n].mean(0))


def test_made_rows():
    x, y = t.made("moons", 20_000, RNG(0))
    for label, centre, side in ((0, [0, 0], 1), (1, [1, 0.5], -1)):
        gap = x[y == label] - centre  # on a half circle, plus noise
        assert np.square(gap).sum(1).mean() == pytest.approx(1 + 2 * 0.09, abs=0.03)
        np.testing.assert_allclose(gap.mean(0), [0, side * 2 / np.pi], atol=0.02)
    x, y = t.made("wave", 9000, RNG(0))
    assert np.abs(x).max() == pytest.approx(6, abs=0.01)
    assert (y - (x * np.sin(x * np.tanh(x)))[:, 0]).std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("rule", ["ohsmc", "map", "map-hmc", "vi", "swag"])
def test_answers_are_those_of_the_rule(rule, monkeypatch):
    design, called = "wave" if rule in ("map", "vi") else "moons", []
    study = t.PartialBNN(INFO, rule=rule, design=design, epochs=7, log_var=-2.0)
    given, draws = study.problem(RNG(0)).given, torch.randn(9, 210, generator=seeded(7))
    train, held, new = zip(*(torch.Tensor(given[name]).split([100, 100, 1000]) for name in "xy"), strict=True)

    def fit(of, rows, chosen, n):
        torch.testing.assert_close((*rows, *chosen, n), (*train, *held, 7))
        assert rule != "vi" or (of.log_var == -2).all()
        assert not called or torch.equal(of.phi, draws + 1)
        called.append(type(of))
        return draws + len(called), of.psi.detach()

    def hmc(net, phi, psi, rows, n, generator):
        torch.testing.assert_close((*rows, n), (*train, 7))
        return phi + 2

    def nll(net, phi, psi, rows):
        assert net.binary == (design == "moons")
        torch.testing.assert_close(rows, new)
        return phi.mean(1)

    for name, function in (("fit", fit), ("swag", fit), ("hmc", hmc), ("nll", nll)):
        monkeypatch.setattr(t, name, function)
    shift = {"map-hmc": 3, "swag": 2}.get(rule, 1)
    np.testing.assert_allclose(study.answer(given, RNG(1))["nll"], draws.mean(1) + shift, rtol=1e-5)
    assert set(called) == {{"ohsmc": t.OpenHorizon, "vi": t.MeanField}.get(rule, t.Point)}


def test_nll_is_a_mean_over_new_rows():
    study = t.PartialBNN(INFO)
    study._answers = [{"nll": torch.tensor([0.3, 0.7])}]
    assert t.pbnn_nll(study, None, {}, None).value == pytest.approx(0.5)


def test_suite_is_the_authors_protocol():
    loaded = load_suite(REPOSITORY / "suites/feynman-kac-pbnn/suite.yaml")
    runs = {(r.method, r.dataset): {"rule": "ohsmc", "log_var": 1.0, **r.params} for r in plan(loaded, "cpu")}
    rules = {"ohsmc": "ohsmc", "map": "map", "map-hmc": "map-hmc", "vi": "vi", "vi-narrow": "vi", "swag": "swag"}
    assert {k: (p["rule"], p.get("design", "moons"), p.get("epochs", 100), p["log_var"]) for k, p in runs.items()} == {
        (name, design): (rule, design, n, -5.0 if name == "vi-narrow" else 1.0)
        for name, rule in rules.items()
        for design, n in (("moons", 100), ("wave", 200))
    }
    assert (t.BATCH, t.RATE, t.WALK, t.DRAWS, t.VI_DRAWS, t.RANK) == (20, 0.01, 0.01, 1000, 100, 100)
    claims = {c.id: {(x.better, x.worse, x.metric, x.dataset) for x in c.cells} for c in loaded.suite.claims}
    assert claims == {f"over-{r}": {("ohsmc", r, "nll", d) for d in ("moons", "wave")} for r in rules if r != "ohsmc"}
    gates = [(g.dataset, g.at_most) for g in next(iter(loaded.suite.claims)).cells[0].gate]
    assert gates == [("moons", 0.33), ("wave", 2.0)]
