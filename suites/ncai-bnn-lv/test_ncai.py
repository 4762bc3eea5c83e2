"""Constraints by brute force, laws in closed form, losses and choices recomputed."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.ncai_bnn_lv import ncai
from latentbench.papers.ncai_bnn_lv.ncai import HIDDEN, RULES, NoiseInference, Posterior
from latentbench.spec.loading import load_suite
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from tests.project import REPOSITORY

INFO, WEIGHTS, LAWS = DataInfo((1,), "real", 1), (0.0, 7.0, 2.0), ["goldberg", "yuan", "depeweg"]
rng = np.random.default_rng


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def test_violations():
    x, z = rng(0).standard_normal((7, 2)), rng(1).standard_normal((2, 7)) * 1.5 + 0.3
    h, prior = np.eye(7) - 1 / 7, norm.ppf((np.arange(2000) + 0.5) / 2000)[:, None]
    near = lambda a, b, width: np.exp(-((a[:, None] - b) ** 2).sum(-1) / (2 * width))  # noqa: E731
    depends, apart = ncai.violations(ncai.centred(torch.tensor(x)), torch.tensor(z))
    for row, ours, far in zip(z[..., None], depends, apart, strict=True):
        assert float(ours) == pytest.approx(np.trace(near(x, x, 2) @ h @ near(row, row, 1) @ h) / 49, rel=1e-5)
        mmd = near(row, row, 1).mean() - 2 * near(row, prior, 1).mean() + near(prior, prior, 1).mean()
        assert float(far) == pytest.approx(mmd, abs=5e-4)


def test_networks():
    w, x, z = (torch.randn(s, generator=drawn(0)).double() for s in [(2, 7 * HIDDEN + 2), (6, 3), (2, 6)])
    mean, log_sd = ncai.network(w, x, z)
    for i, n in np.ndindex(2, 6):  # weights of three inputs, latent and shift, by units; of units, by outputs; biases
        units = 2 * torch.cat([x[n], z[i, n, None], torch.ones(1)]) @ w[i, :100].reshape(5, 20)
        both = units.clamp(0) @ w[i, 100:140].reshape(20, 2) * 3 / 20**0.5 + w[i, 140:]
        torch.testing.assert_close(torch.stack([mean[i, n], log_sd[i, n]]), both)
    assert torch.autograd.gradcheck(ncai.network, [a.requires_grad_() for a in (w, x, z)])


@pytest.mark.parametrize(("noise", "spread"), [("fixed", 1.0), ("fixed", 0.0), ("learned", 1.0), ("function", 1.0)])
def test_losses(noise, spread):
    x, y, latent = torch.randn(6, 3, generator=drawn(0)), torch.randn(6, generator=drawn(1)), noise == "fixed"
    found = Posterior(x, y, drawn(2), [weight * latent for weight in WEIGHTS], noise, spread)
    with torch.no_grad():
        for i, q in enumerate(found.parameters()):
            q.add_(torch.randn(q.shape, generator=drawn(i)) * 0.4)
    found.draws = drawn(8)
    loss, losses = found.loss(), []
    a, b = (torch.randn(3, 2, m, generator=g) * spread for g in [drawn(8)] for m in (7 * HIDDEN + 2, 6))
    for k, weight in enumerate(WEIGHTS):
        q, q_z = Normal(found.mean[k], found.log_sd[k].exp()), Normal(found.z_mean[k], found.z_log_sd[k].exp())
        w, z = q.mean + q.scale * a[k], (q_z.mean + q_z.scale * b[k]) * latent
        mean, log_sd = ncai.network(w, x, z)
        sd = log_sd.exp() if noise == "function" else found.log_noise[k].exp()
        elbo = Normal(mean, sd).log_prob(y).sum(1).mean() - kl_divergence(q, Normal(0.0, 1.0)).sum()
        elbo = elbo - kl_divergence(q_z, Normal(0.0, 1.0)).sum()
        losses.append(weight * sum(ncai.violations(ncai.centred(x), z[0])) * latent - elbo / 6)
    torch.testing.assert_close(loss, torch.stack(losses), rtol=1e-4, atol=1e-4)
    of = [found.mean, found.log_sd, found.z_mean, found.z_log_sd]
    ours, plain = (torch.autograd.grad(value, of, retain_graph=True) for value in (loss.sum(), sum(losses)))
    torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3)
    assert found.log_noise.requires_grad == (noise == "learned")


def test_descent(monkeypatch):
    x, rates = torch.randn(40, 1, generator=drawn(0)), []
    fresh = Posterior(x, x[:, 0].sin() * 2, drawn(3), (0.0, 0.0), "fixed", 1.0)
    latent = fresh.mean.detach()[:1, HIDDEN : 2 * HIDDEN].clone()
    fresh.descend(300, 0)
    assert float(fresh.start_loss().max().detach()) < 0.02
    torch.testing.assert_close(fresh.mean[:, HIDDEN : 2 * HIDDEN], latent.repeat(2, 1))
    assert not torch.cat([fresh.z_mean, fresh.z_log_sd]).any()
    torch.testing.assert_close(fresh.log_sd.exp(), torch.full_like(fresh.mean, 0.05))
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: rates.append(self.param_groups[0]["lr"]))
    fresh.descend(0, 4)
    np.testing.assert_allclose(rates, [0.01, 0.0085355, 0.005, 0.0014645], rtol=1e-3)
    assert fresh.z_log_sd.grad.any()  # of the loss, no longer of the start's


@pytest.mark.parametrize(("noise", "spread"), [("fixed", 1.0), ("fixed", 0.0), ("learned", 1.0), ("function", 1.0)])
def test_predictions_of_a_law_in_closed_form(noise, spread, monkeypatch):
    monkeypatch.setattr(ncai, "PREDICTIVE", 1000)
    found = Posterior(torch.zeros(5, 1), torch.zeros(5), drawn(0), (0.0, 0.0), noise, spread)
    with torch.no_grad():
        found.mean.zero_()
        found.log_sd.fill_(-30.0)
        (found.mean[1, -1] if noise == "function" else found.log_noise).fill_(math.log(0.3))
        found.mean[1, HIDDEN], found.mean[1, HIDDEN + 1] = 1.0, -1.0  # the latent into two units: z = [z]+ - [-z]+
        found.mean[1, 3 * HIDDEN], found.mean[1, 3 * HIDDEN + 2] = (s * 0.7 * HIDDEN**0.5 / 6 for s in (1, -1))
        found.mean[1, -2], found.log_sd[1, -2] = 0.4, math.log(0.2)
    law = Normal(0.4, (0.7**2 * (noise == "fixed") + 0.3**2 + 0.2**2 * spread) ** 0.5)
    y = 0.4 + torch.linspace(-3, 3, 11) * law.scale
    log_density, mean = found.predict(1, torch.zeros(11, 1), y)
    torch.testing.assert_close(log_density, law.log_prob(y), atol=0.05, rtol=0.05)
    torch.testing.assert_close(mean, torch.full((11,), 0.4), atol=0.02, rtol=0)


def test_laws_and_problems():
    e, sin, at = math.exp, math.sin, np.array([0.25, 0.75])
    bump = [2 * sin(math.pi / 16), 2 * (e(-7.5) + sin(9 * math.pi / 16)) - 2]
    told = {"goldberg": [[2, -2], [0.75, 1.25]], "yuan": [bump, [e(0.5), e(-0.5)]]}
    np.testing.assert_allclose([ncai.moments(law, at) for law in told], list(told.values()))
    np.testing.assert_allclose(ncai.moments("depeweg", at * 2 * math.pi), [[7, -7], [3 / 2**0.5] * 2])
    x = ncai.inputs("depeweg", 60_000, rng(0))
    near = [(np.abs(x - i) < sd).mean() for i, sd in ((-4, 0.4), (0, 0.9), (4, 0.4))]
    assert near == pytest.approx([0.6827 / 3] * 3, abs=0.007)
    problem, draws = NoiseInference(INFO, rows=60).problem(rng(4)), rng(4)
    x = draws.uniform(0, 1, 380)
    mean, sd = ncai.moments("goldberg", x)
    y = mean + sd * draws.standard_normal(380)
    for given, raw in ((problem.given["x"][:, 0], x), (problem.given["y"], y)):
        np.testing.assert_allclose(given, (raw - raw[:60].mean()) / raw[:60].std())
    np.testing.assert_allclose(problem.truth["mean"] * y[:60].std() + y[:60].mean(), mean[80:])
    np.testing.assert_allclose(problem.truth["log_density"], (norm.logpdf(y, mean, sd) + np.log(y[:60].std()))[80:])
    np.testing.assert_array_equal(problem.truth["x"], problem.given["x"][:60])
    with pytest.raises(UserError, match="rows is 9"):
        NoiseInference(INFO, rows=9)


def test_answers(monkeypatch):
    calls = []

    def descend(self, *steps):
        calls.append((self.weight.tolist(), self.latent, self.function, self.spread, steps, self.mean[0].tolist()))
        torch.nn.init.constant_(self.z_mean, 2.0)

    def predict(self, k, x, y):  # on held rows the last but one setting is best, on new ones the first
        return torch.full((len(y),), -1.0 - k - 10 * (k != max(len(self.weight) - 2, 0)) * (len(y) == 20)), y + k

    monkeypatch.setattr(Posterior, "descend", descend)
    monkeypatch.setattr(Posterior, "predict", predict)
    for rule in RULES:
        one = NoiseInference(INFO, rule=rule, design="depeweg", rows=60, steps=40)
        one.start(None, drawn(5))
        one.advance(None, None)
        ((_, answer),) = one.answered()
        assert set(answer["log_density"]) == {-1.0 if rule == "mode" else -3.0}
        assert (float(answer["rate"]), answer["z"].shape) == (pytest.approx(2.0), (10, 60))
        assert answer["z"].std() == pytest.approx(RULES[rule][2], abs=0.1)
    weights, *kinds, steps, starts = zip(*calls, strict=True)
    assert weights == ([1, 10, 30, 100], [0] * 4, [0], [0] * 4, [0] * 4)
    assert kinds == [(True,) * 3 + (False,) * 2, (False,) * 4 + (True,), (1, 1, 0, 1, 1)]
    assert (steps, starts) == (((10, 40),) * 5, (starts[0],) * 5)


def test_metrics():
    x, noise = rng(0).standard_normal(3000), rng(1).standard_normal((10, 3000))
    truth = {"x": x[:, None], "mean": np.zeros(2), "log_density": np.array([-1.0, -2.0])}
    answer = {"mean": np.array([3, 4]), "log_density": np.array([-4, -8]), "rate": 0.7, "z": 0.8 * x + 0.6 * noise}
    model = SimpleNamespace(answered=lambda: [(truth, answer)])
    names = ("excess", "function_error", "latent_rate", "latent_information")
    values = [getattr(ncai, "noise_" + name)(model, None, {}, None).value for name in names]
    assert values == pytest.approx([4.5, 12.5**0.5, 0.7, -0.5 * math.log(1 - 0.8**2)], abs=0.03)
    with pytest.raises(UserError, match="has no"):
        ncai.noise_excess(SimpleNamespace(answered=lambda: [({}, answer)]), None, {}, None)


def test_the_suite():
    suite = load_suite(REPOSITORY / "suites/ncai-bnn-lv/suite.yaml").suite
    assert [d.params["design"] for d in suite.datasets.values()] == list(suite.datasets) == LAWS
    assert [m.params.get("rule", "ncai") for m in suite.methods.values()] == list(suite.methods) == list(RULES)
    used, found = ["rate", None, 0.1, None], lambda of=None, most=0.5: ["function-error", of, None, most]
    told = [("ncai", ["bnn-lv"], metric, used, found()) for metric in ("excess", "function-error", "information")]
    told += [("ncai", ["bnn", "variance"], "excess", used, found())]
    told += [("bnn-lv", ["mode"], "excess", used, found(["bnn-lv"]), found(["mode"], 0.8))]
    for claim, (better, rivals, metric, *gates) in zip(suite.claims, told, strict=True):
        pairs = [(better, worse, metric, law) for law in LAWS for worse in rivals]
        assert [(c.better, c.worse, c.metric, c.dataset) for c in claim.cells] == pairs
        assert [[g.metric, g.methods, g.at_least, g.at_most] for g in claim.cells[0].gate] == gates
        assert (claim.sanity, claim.pool) == (False, "mean")
    of = NoiseInference(INFO)
    assert (suite.analogue, len(suite.tiers["cpu"].seeds), of.rows, of.steps) == (True, 6, 200, 2000)
