"""Constraints by brute force, laws in closed form, losses and choices recomputed."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.ncai_bnn_lv import latents, study
from latentbench.papers.ncai_bnn_lv.latents import HIDDEN, Posterior
from latentbench.papers.ncai_bnn_lv.study import RULES, NoiseInference
from latentbench.spec.loading import load_suite
from scipy.integrate import quad
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from tests.project import REPOSITORY

INFO, WEIGHTS = DataInfo((1,), "real", 1), (0.0, 7.0, 2.0)
rng = np.random.default_rng


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def wide(noise="fixed", spread=1.0, n=6, p=3):
    """A posterior far from where it begins."""
    x, y = torch.randn(n, p, generator=drawn(0)), torch.randn(n, generator=drawn(1))
    found = Posterior(x, y, drawn(2), WEIGHTS, noise, spread)
    with torch.no_grad():
        for i, q in enumerate(found.parameters()):
            q.add_(torch.randn(q.shape, generator=drawn(i)) * 0.4)
    return found


def outputs(w, x, z):
    """Of one network and one row, by its loops."""
    p, at = len(x), iter(w.tolist())
    inner = [[next(at) for _ in range(HIDDEN)] for _ in range(p + 2)]
    outer = [[next(at), next(at)] for _ in range(HIDDEN)]
    hidden = [max(2 * (sum(x[j] * inner[j][h] for j in range(p)) + z * inner[p][h] + inner[p + 1][h]), 0)
              for h in range(HIDDEN)]  # fmt: skip
    return [sum(hidden[h] * outer[h][o] for h in range(HIDDEN)) * 3 / HIDDEN**0.5 + next(at) for o in (0, 1)]


def test_violations():
    x, z = rng(0).standard_normal((7, 2)), rng(1).standard_normal((2, 7)) * 1.5 + 0.3
    pairs = lambda a, width: np.exp(-((a[:, None] - a[None]) ** 2).sum(-1) / (2 * width))  # noqa: E731
    h = np.eye(7) - 1 / 7
    depends, apart = latents.violations(latents.centred(torch.tensor(x)), torch.tensor(z))
    for i in (0, 1):
        ours, near = pairs(z[i][:, None], 1), lambda t, i=i: np.exp(-((z[i] - t) ** 2) / 2).mean()
        assert float(depends[i]) == pytest.approx(np.trace(pairs(x, 2) @ h @ ours @ h) / 49, rel=1e-5)
        cross = quad(lambda t: near(t) * norm.pdf(t), -9, 9)[0]  # noqa: B023
        prior = quad(lambda t: np.exp(-(t**2) / 2) * norm.pdf(t, 0, 2**0.5), -9, 9)[0]
        assert float(apart[i]) == pytest.approx(ours.mean() - 2 * cross + prior, abs=1e-6)
    grid = torch.tensor(norm.ppf((np.arange(2000) + 0.5) / 2000))
    rows = latents.centred(grid[:, None])
    assert max(map(float, latents.violations(rows, grid[torch.randperm(2000, generator=drawn(0))]))) < 3e-4
    assert float(latents.violations(rows, grid)[0]) > 0.05


def test_networks():
    found = wide()
    w, z = torch.randn(2, latents.size(3), generator=drawn(5)), torch.randn(2, 6, generator=drawn(6))
    both = latents.network(w, found.x, z)
    each = [[outputs(w[i], found.x[n].tolist(), float(z[i, n])) for n in range(6)] for i in (0, 1)]
    torch.testing.assert_close(torch.stack(both, -1), torch.tensor(each), rtol=1e-4, atol=1e-4)
    doubles = [a.double().requires_grad_() for a in (w, found.x, z)]
    assert torch.autograd.gradcheck(latents.network, doubles)


@pytest.mark.parametrize(("noise", "spread"), [("fixed", 1.0), ("fixed", 0.0), ("learned", 1.0), ("function", 1.0)])
def test_losses(noise, spread):
    found, latent = wide(noise, spread), noise == "fixed"
    found.weight = found.weight * latent
    found.draws = drawn(8)
    loss, start, total = found.loss(), found.start_loss(), 0.0
    a, b = (torch.randn(3, 2, m, generator=g) * spread for g in [drawn(8)] for m in (latents.size(3), 6))
    for k, weight in enumerate(WEIGHTS):
        q, q_z = Normal(found.mean[k], found.log_sd[k].exp()), Normal(found.z_mean[k], found.z_log_sd[k].exp())
        w, z = q.mean + q.scale * a[k], (q_z.mean + q_z.scale * b[k]) * latent
        mean, log_sd = latents.network(w, found.x, z)
        sd = log_sd.exp() if noise == "function" else found.log_noise[k].exp()
        elbo = Normal(mean, sd).log_prob(found.y).sum(1).mean() - kl_divergence(q, Normal(0.0, 1.0)).sum()
        elbo = elbo - kl_divergence(q_z, Normal(0.0, 1.0)).sum() * latent
        apart = weight * sum(latents.violations(latents.centred(found.x), z[0])) * latent
        total = total + apart - elbo / 6
        torch.testing.assert_close(loss[k], apart - elbo / 6, rtol=1e-4, atol=1e-4)
        error = found.y - latents.network(found.mean[k], found.x, torch.zeros(6))[0]
        torch.testing.assert_close(start[k], 0.5 * (error**2).mean())
    of = [found.mean, found.log_sd, *[found.z_mean, found.z_log_sd] * latent]
    ours, plain = (torch.autograd.grad(value, of, retain_graph=True) for value in (loss.sum(), total))
    torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3)
    assert found.log_noise.requires_grad == (noise == "learned")


def test_descent():
    x = torch.randn(40, 1, generator=drawn(0))
    fresh = Posterior(x, x[:, 0].sin() * 2, drawn(3), (0.0, 0.0))
    torch.testing.assert_close(fresh.mean[0], fresh.mean[1])
    latent = fresh.mean.detach()[:, HIDDEN : 2 * HIDDEN].clone()
    fresh.descend(300, 0)
    assert float(fresh.start_loss().max().detach()) < 0.02
    torch.testing.assert_close(fresh.mean[:, HIDDEN : 2 * HIDDEN], latent)
    assert not torch.cat([fresh.z_mean, fresh.z_log_sd]).any()
    assert torch.allclose(fresh.log_sd.exp(), torch.tensor(0.05))
    before, rates = fresh.mean.detach().clone(), []
    step, torch.optim.Adam.step = torch.optim.Adam.step, lambda self, *a: rates.append(self.param_groups[0]["lr"])
    try:
        fresh.descend(0, 4)
    finally:
        torch.optim.Adam.step = step
    np.testing.assert_allclose(rates, [0.01, 0.0085355, 0.005, 0.0014645], rtol=1e-3)
    torch.testing.assert_close(fresh.mean, before)


@pytest.mark.parametrize(("noise", "spread"), [("fixed", 1.0), ("fixed", 0.0), ("learned", 1.0)])
def test_predictions_of_a_law_in_closed_form(noise, spread, monkeypatch):
    monkeypatch.setattr(latents, "PREDICTIVE", 1000)
    found = Posterior(torch.zeros(5, 1), torch.zeros(5), drawn(0), (0.0, 0.0), noise, spread)
    with torch.no_grad():
        found.mean.zero_()
        found.log_sd.fill_(-30.0)
        found.log_noise.fill_(math.log(0.3))
        found.mean[1, HIDDEN], found.mean[1, HIDDEN + 1] = 1.0, -1.0  # the latent into two units: z = [z]+ - [-z]+
        found.mean[1, 3 * HIDDEN], found.mean[1, 3 * HIDDEN + 2] = (s * 0.7 * HIDDEN**0.5 / 6 for s in (1, -1))
        found.mean[1, -2], found.log_sd[1, -2] = 0.4, math.log(0.2)
    y = torch.linspace(-2, 3, 11)
    log_density, mean = found.predict(1, torch.zeros(11, 1), y)
    law = Normal(0.4, (0.7**2 * (noise == "fixed") + 0.3**2 + 0.2**2 * spread) ** 0.5)
    near = (y - 0.4).abs() < 3 * law.scale
    torch.testing.assert_close(log_density[near], law.log_prob(y)[near], atol=0.05, rtol=0.05)
    torch.testing.assert_close(mean, torch.full((11,), 0.4), atol=0.02, rtol=0)


def test_laws():
    at = np.array([0.25, 0.75])
    np.testing.assert_allclose(study.moments("goldberg", at), [[2, -2], [0.75, 1.25]])
    np.testing.assert_allclose(study.moments("yuan", at), [[2 * math.sin(math.pi / 16), 2 * (math.exp(-7.5)
        + math.sin(9 * math.pi / 16)) - 2], [math.exp(0.5), math.exp(-0.5)]])  # fmt: skip
    np.testing.assert_allclose(study.moments("depeweg", np.array([0.0, math.pi / 2])), [[0, 7], [3, 3 / 2**0.5]])
    x = study.inputs("depeweg", 60_000, rng(0))
    for i, sd in ((-4, 0.4), (0, 0.9), (4, 0.4)):
        part = x[np.abs(x - i) < (2.6 if i == 0 else 1.4)]
        np.testing.assert_allclose([len(part) / 60_000, part.mean(), part.std()], [1 / 3, i, sd], atol=0.03)
    x = study.inputs("yuan", 9000, rng(0))
    np.testing.assert_allclose([x.min(), x.mean(), x.max()], [0, 0.5, 1], atol=0.01)


@pytest.mark.parametrize("design", ["goldberg", "depeweg"])
def test_problems(design):
    problem, draws = NoiseInference(INFO, design=design, rows=60).problem(rng(4)), rng(4)
    x = study.inputs(design, 380, draws)
    mean, sd = study.moments(design, x)
    y = mean + sd * draws.standard_normal(380)
    for name, raw in (("x", x), ("y", y)):
        parts = [problem.given[name + part] for part in ("", "_held", "_new")]
        assert [len(part) for part in parts] == [60, 20, 300]
        np.testing.assert_allclose(np.concatenate(parts).ravel(), (raw - raw[:60].mean()) / raw[:60].std())
    np.testing.assert_allclose(problem.truth["mean"] * y[:60].std() + y[:60].mean(), mean[80:])
    np.testing.assert_allclose(problem.truth["log_density"], (norm.logpdf(y, mean, sd) + np.log(y[:60].std()))[80:])
    np.testing.assert_array_equal(problem.truth["x"], problem.given["x"])


def test_answers(monkeypatch):
    calls = []

    def descend(self, warm, steps):
        calls.append((self, warm, steps))
        torch.nn.init.constant_(self.z_mean, 2.0)

    def predict(self, k, x, y):
        assert self.x.shape == (60, 1)
        return torch.full((len(y),), -1.0 - 10 * (k != 1) * (len(y) == 20) - k), y + k

    monkeypatch.setattr(Posterior, "descend", descend)
    monkeypatch.setattr(Posterior, "predict", predict)
    for rule in RULES:
        one = NoiseInference(INFO, rule=rule, rows=60, steps=40)
        one.start(None, drawn(5))
        one.advance(None, None)
        ((_, answer),) = one.answered()
        assert set(answer["log_density"]) == {-2.0}  # of the one that is best on held rows
        assert float(answer["rate"]) == pytest.approx(2.0)
        assert answer["z"].shape == (10, 60)
        assert answer["z"].std() == pytest.approx(RULES[rule][2], abs=0.1)
    assert [c[1:] for c in calls] == [(0, 50) if rule == "cold" else (10, 40) for rule in RULES]
    for found, _, _ in calls:
        torch.testing.assert_close(found.mean, calls[0][0].mean)  # one start for all
    kinds = [(found.weight.tolist(), found.noise, found.spread) for found, *_ in calls]
    plain = [0.0] * 4
    weights = [1, 10, 30, 100]
    latent = [(weights, "fixed", 1), (plain, "fixed", 1), (plain, "fixed", 1), (plain, "fixed", 0)]
    assert kinds == [*latent, (weights, "fixed", 0), (plain, "learned", 1), (plain, "function", 1)]


def test_metrics():
    x, noise = rng(0).standard_normal(3000), rng(1).standard_normal((10, 3000))
    truth = {"x": x[:, None], "mean": np.zeros(2), "log_density": np.array([-1.0, -2.0])}
    answer = {"mean": np.array([3.0, 4.0]), "log_density": np.array([-4.0, -8.0]), "rate": 0.7}
    answer["z"] = 0.8 * x + 0.6 * noise
    model = SimpleNamespace(answered=lambda: [(truth, answer)])
    names = ("excess", "function_error", "latent_rate", "latent_information")
    values = [getattr(study, "noise_" + name)(model, None, {}, None).value for name in names]
    assert values[:3] == pytest.approx([4.5, 12.5**0.5, 0.7])
    assert values[3] == pytest.approx(-0.5 * math.log(1 - 0.8**2), abs=0.03)
    with pytest.raises(UserError, match="has no"):
        study.noise_excess(SimpleNamespace(answered=lambda: [({}, answer)]), None, {}, None)


def test_the_suite():
    suite, laws = load_suite(REPOSITORY / "suites/ncai-bnn-lv/suite.yaml").suite, ["goldberg", "yuan", "depeweg"]
    assert [d.params["design"] for d in suite.datasets.values()] == list(suite.datasets) == laws
    assert [m.params.get("rule", "ncai") for m in suite.methods.values()] == list(suite.methods) == list(RULES)
    pairs = [[(c.better, c.worse, c.metric, c.dataset) for c in claim.cells] for claim in suite.claims]
    told = [("excess", ("bnn-lv",)), ("excess", ("cold",)), ("excess", ("bnn", "variance"))]
    told += [("function-error", ("bnn-lv",)), ("information", ("bnn-lv",))]
    assert pairs[:5] == [[("ncai", o, metric, law) for law in laws for o in rivals] for metric, rivals in told]
    others = [("ncai-mode", "excess"), ("ncai-mode", "information"), ("bnn-lv", "excess")]
    assert pairs[5:] == [[(better, "mode", metric, law) for law in laws] for better, metric in others]
    assert [(c.sanity, c.pool) for c in suite.claims] == [(False, "mean")] * 7 + [(True, "all")]
    gates = [{(g.metric, g.at_least, g.at_most) for g in claim.cells[0].gate} for claim in suite.claims]
    assert {c.margin for c in suite.claims[5].cells} == {0.2}
    found = ("function-error", None, 0.5)
    assert gates == [{("rate", 0.1, None), found}] * 5 + [{found}] * 2 + [set()]
    assert len(suite.tiers["cpu"].seeds) == 6
    assert (NoiseInference(INFO).rows, NoiseInference(INFO).steps) == (200, 2000)
