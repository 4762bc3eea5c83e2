"""Closed forms against minimisation, conjugacy and torch's laws; networks against loops over rows and drawn weights."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.vib_half_bayes import half_bayes as hb
from latentbench.spec.loading import load_suite
from scipy.optimize import minimize
from torch.distributions import Normal, kl_divergence

from tests.evaluation.views import view_of
from tests.project import REPOSITORY

INFO = DataInfo((2, 3), "real", 50, columns={"y": ()})
X, Y = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 0, 1, 2, 2, 1, 0])


@pytest.fixture
def small(monkeypatch):
    regression = {"INPUTS": 3, "LABELLED": 9, "NEW": 50, "NOISE": 0.7, "SIGNAL": 1.6}
    for name, value in {"CLASSES": 4, "HIDDEN": (5, 8), "CODE": 6, "DRAWS": 9, **regression}.items():
        monkeypatch.setattr(hb, name, value)


def spelt_out(net, x, noise):
    """Logits and divergence of one row x (6,)."""
    parts, divergence = iter(noise.split(net.noisy)), torch.zeros(())
    for i, layer in enumerate(net.layers):
        out = layer.weight @ x + layer.bias
        if net.rule == "bayes":
            law = Normal(torch.cat([layer.weight, layer.bias[:, None]], 1), layer.log_std.exp())
            out = out + (law.variance @ torch.cat([x, torch.ones(1)]) ** 2).sqrt() * next(parts)
            divergence = divergence + kl_divergence(law, Normal(0.0, math.sqrt(2 / len(x)))).sum()
        if i == 2 and net.rule == "vib":
            law = Normal(out[:6], torch.log1p((out[6:] - 5.0).exp()))
            out, divergence = law.mean + law.stddev * next(parts), kl_divergence(law, Normal(0.0, 1.0)).sum()
        x = out.clamp(min=0) if i < 2 else out
    return x, divergence


@pytest.mark.parametrize(("rule", "width", "weight"), [("erm", 0, 0), ("vib", 6, 0.3), ("bayes", 23, 0.3 / 50)])
def test_losses_and_predictions(small, rule, width, weight):
    torch.manual_seed(3)
    model = hb.HalfBayesClassifier(INFO, rule=rule, beta=0.3)
    assert rule != "bayes" or all((layer.log_std == -5.0).all() for layer in model.layers)
    for p in model.parameters():
        p.data += 0.5 * torch.randn(p.shape)
    assert model.noise.shape == (9 if width else 1, 1, width)
    noise = torch.randn(7, width, generator=torch.Generator().manual_seed(5))
    each = [(*spelt_out(model, x.flatten(), e), y) for x, y, e in zip(X, Y, noise, strict=True)]
    total = sum(weight * divergence - logits.log_softmax(0)[y] for logits, divergence, y in each) / 7
    batch = Batch(X, 50, columns={"y": Y})
    found = model.loss(batch, torch.Generator().manual_seed(5))["loss"]
    torch.testing.assert_close(found, total, rtol=1e-4, atol=1e-4)
    slopes = (torch.autograd.grad(value, list(model.parameters())) for value in (found, total))
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-4)
    p = torch.stack([sum(spelt_out(model, x.flatten(), e)[0].softmax(0) for e in model.noise[:, 0]) for x in X])
    p = p / len(model.noise)
    torch.testing.assert_close(model.classify(X).exp(), p)
    torch.testing.assert_close(model.validation_loss(batch, torch.Generator()), -p[torch.arange(7), Y].log().mean())


def test_metrics_of_a_classifier():
    logits = np.random.default_rng(1).normal(0, 1.5, (300, 4)).astype("f")
    y = np.where(np.arange(300) % 2, logits.argmax(1), np.arange(300) % 4)  # bins too sure, and bins not enough so
    view, p = view_of(logits, columns={"y": y}), np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    known = SimpleNamespace(classify=lambda x: x)
    assert hb.label_nll(known, view, {}, None).value == pytest.approx(-np.log(p[np.arange(300), y]).mean(), rel=1e-5)
    sure, gap = p.max(1), (p.argmax(1) == y) - p.max(1)
    gaps = [abs(gap[(sure > k / 15) & (sure <= (k + 1) / 15)].sum()) for k in range(15)]
    assert hb.label_calibration_error(known, view, {}, None).value == pytest.approx(sum(gaps) / 300, rel=1e-5)


def test_vib_is_the_minimum_of_its_objective_and_half_of_the_g_prior(small):
    given = hb.GaussianRegression(INFO).problem(np.random.default_rng(1)).given
    x, y, beta = given["x"][:9], given["y"], 3 / 9

    def objective(free):  # linear means, and a variance of its own for each row
        mean, variance = x @ free[:3], np.exp(free[3:])
        divergence = (mean**2 + variance) / 1.6**2 - np.log(variance)  # twice, and up to a constant
        return (((y - mean) ** 2 + variance) / 0.7**2 + beta * divergence).sum()

    best = minimize(objective, np.zeros(12), tol=1e-12, options={"maxiter": 2000}).x
    mean, variance = hb.predictive("vib", given)
    np.testing.assert_allclose(mean, given["x"] @ best[:3], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(variance[0] - 0.7**2, np.exp(best[3:]), rtol=1e-3)
    precision = x.T @ x * (1 + beta * 0.7**2 / 1.6**2) / 0.7**2  # of the posterior under the g-prior
    np.testing.assert_allclose(mean, given["x"] @ np.linalg.solve(precision, x.T @ y) / 0.7**2)
    spread = np.diag(given["x"] @ np.linalg.inv(precision) @ given["x"].T)
    np.testing.assert_allclose(variance, 0.7**2 + spread[:9].mean())
    assert spread[9:].mean() > 1.1 * spread[:9].mean(), "which is what VIB does not know"


def test_problems_erm_and_bayes(small):
    one = hb.GaussianRegression(INFO)
    problem = one.problem(np.random.default_rng(2))
    x, y, f = problem.given["x"], problem.given["y"], problem.truth["f"]
    assert (x.shape, y.shape, f.shape) == ((59, 3), (9,), (59,))
    kernel = 1.6**2 / 3 * x @ x.T  # the same posterior as a Gaussian process
    gain = np.linalg.solve(kernel[:9, :9] + 0.7**2 * np.eye(9), kernel[:9]).T
    bayes = gain @ y, 0.7**2 + np.diag(kernel - gain @ kernel[:9])
    np.testing.assert_allclose(hb.predictive("bayes", problem.given), bayes)
    np.testing.assert_allclose(hb.predictive("erm", problem.given), (x @ np.linalg.pinv(x[:9]) @ y, np.full(59, 0.49)))
    many = [one.problem(np.random.default_rng(s)).truth for s in range(3000)]
    spreads = [np.std([m["y"] - m["f"][:9] for m in many]), *(np.std([m[of] for m in many]) for of in "fx")]
    np.testing.assert_allclose(spreads, [0.7, 1.6, 1.0], rtol=0.03)


def test_measurements(small):
    one, share = hb.GaussianRegression(INFO, problems=2), {}
    one.start(None, torch.Generator().manual_seed(4))
    while not one.done():
        one.advance(None, None)

    def gap(rule, part):
        laws = [(truth["f"], *hb.predictive(rule, truth)) for truth, _ in one.answered()]
        found = [kl_divergence(Normal(f, 0.7), Normal(m, v**0.5)) for f, m, v in torch.tensor(np.array(laws))]
        return float(torch.stack(found)[:, part].mean())

    for at, part in (("seen", slice(9)), ("new", slice(9, None))):
        erm, vib, bayes = (gap(rule, part) for rule in ("erm", "vib", "bayes"))
        assert hb.predictive_excess_nll(one, None, {"at": at}, None).value == pytest.approx(vib)
        share[at] = (erm - vib) / (erm - bayes)
    found = hb.label_risk_lead(one, None, {}, None)
    assert (found.details, found.value) == (pytest.approx(share), pytest.approx(share["seen"] - share["new"]))


def test_what_is_run_and_claimed():
    suite, betas = load_suite(REPOSITORY / "suites/vib-half-bayes/suite.yaml").suite, (0.001, 0.01, 0.1)
    methods = {f"vib-{b}": (b,) for b in betas} | {f"linear-{rule}": (rule,) for rule in ("erm", "vib", "bayes")}
    methods |= {"erm": ("erm",), "erm-early": ("erm", "best")}
    methods |= {"vib-early": (0.01, "best"), "bayes-cold": ("bayes", 0.1)}
    assert {k: (*m.params.values(), *m.training.values()) for k, m in suite.methods.items()} == methods
    assert (hb.INPUTS, hb.LABELLED, hb.NOISE, hb.SIGNAL, hb.CODE, hb.DRAWS) == (20, 40, 1, 2, 32, 32)
    training, rows = suite.training, suite.tiers["cpu"].limit
    found = training.batch_size, training.epochs, training.optimizer.lr, rows.train, rows.valid, rows.test
    assert found == (100, 150, 1e-3, 1000, 1000, 5000)
    measured = " ".join(m.settings.get("at", m.metric) for m in suite.metrics.values())
    assert measured == "label_nll label_calibration_error classification_error seen new label_risk_lead"
    pools = [(claim.sanity, getattr(claim, "pool", "")) for claim in suite.claims]
    assert pools == [(False, "all")] * 3 + [(False, ""), (False, ""), (True, "")]
    cells = [cell for claim in suite.claims for cell in getattr(claim, "cells", [claim])]
    orders = {(o.metric, o.better, o.worse, *(gate.at_most for gate in o.gate)) for o in cells if o.kind == "order"}
    wanted = {(metric, f"vib-{b}", "erm", 30.0) for b in betas for metric in ("nll", "ece")}
    wanted |= {("nll", "bayes-cold", f"vib-{b}", 30.0) for b in betas}
    assert orders == wanted | {("nll", "vib-early", "erm-early", 30.0), ("excess-new", "linear-bayes", "linear-vib")}
    lead = [(o.method, o.at_least, o.gate[0].metric, o.gate[0].better_than) for o in cells if o.metric == "lead"]
    assert lead == [("linear-vib", 0.0, "excess-new", "linear-erm")]


def test_bad_input():
    with pytest.raises(UserError, match="no column y"):
        hb.HalfBayesClassifier(DataInfo((2,), "real", 3))
    with pytest.raises(UserError, match="no Gaussian predictive"):
        hb.label_risk_lead(torch.nn.Linear(1, 1), None, {}, None)
