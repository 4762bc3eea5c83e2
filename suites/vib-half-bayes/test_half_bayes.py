"""Closed forms against minimisation, conjugacy and torch's laws; networks against loops over rows and drawn weights."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.vib_half_bayes import classifiers as c
from latentbench.papers.vib_half_bayes import regression as r
from latentbench.spec.loading import load_suite
from scipy.optimize import minimize
from torch.distributions import Normal, kl_divergence

from tests.evaluation.views import view_of
from tests.project import REPOSITORY

INFO = DataInfo((2, 3), "real", 50, columns={"y": ()})
X, Y = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 0, 1, 2, 2, 1, 0])
IN_ORDER = [("vib", "erm"), ("bayes", "vib"), ("many-labels", "erm")]
DESIGN = {"inputs": 3, "rows": 9, "noise": 0.7, "signal": 1.6, "problems": 2}


def spelt_out(net, x, noise):
    """Logits and divergence of one row x (6,)."""
    parts, divergence = iter(noise.split(net.noisy)), torch.zeros(())
    for i, layer in enumerate(net.layers):
        out = layer.weight @ x + layer.bias
        if net.rule == "bayes":
            laws = Normal(layer.weight, layer.log_std.exp()), Normal(layer.bias, layer.bias_log_std.exp())
            out = out + (laws[0].variance @ x**2 + laws[1].variance).sqrt() * next(parts)
            divergence = divergence + sum(kl_divergence(q, Normal(0.0, math.sqrt(2 / len(x)))).sum() for q in laws)
        if i == 2 and net.rule == "vib":
            law = Normal(out[:6], torch.log1p((out[6:] - 5.0).exp()))
            out, divergence = law.mean + law.stddev * next(parts), kl_divergence(law, Normal(0.0, 1.0)).sum()
        x = out.clamp(min=0) if i < 2 else out
    return x, divergence


@pytest.mark.parametrize(("rule", "width"), [("erm", 0), ("vib", 6), ("bayes", 5 + 8 + 6 + 4), ("ensemble", 0)])
def test_losses_predictions_and_their_metrics(rule, width):
    torch.manual_seed(3)
    model = c.HalfBayesClassifier(INFO, rule=rule, classes=4, hidden=(5, 8), code=6, beta=0.3, draws=9)
    for p in model.parameters():
        p.data += 0.5 * torch.randn(p.shape)
    draws, (nets, total, p) = torch.Generator().manual_seed(5), (model.members, 0.0, torch.zeros(7, 4))
    assert len(nets) == (9 if rule == "ensemble" else 1)
    assert model.noise.shape == (9 if width else 1, 1, width)
    weight = {"vib": 0.3, "bayes": 0.3 / 50}.get(rule, 0.0)
    for net in nets:
        noise = torch.randn(7, width, generator=draws)
        for x, y, e in zip(X, Y, noise, strict=True):
            logits, divergence = spelt_out(net, x.flatten(), e)
            total += (weight * divergence - logits.log_softmax(0)[y]) / 7
        for e in model.noise[:, 0]:
            p += torch.stack([spelt_out(net, x.flatten(), e)[0].softmax(0) for x in X]) / len(nets) / len(model.noise)
    batch = Batch(X, 50, columns={"y": Y})
    found = model.loss(batch, torch.Generator().manual_seed(5))["loss"]
    torch.testing.assert_close(found, total, rtol=1e-4, atol=1e-4)
    slopes = (torch.autograd.grad(value, list(model.parameters())) for value in (found, total))
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.classify(X).exp(), p)
    torch.testing.assert_close(model.validation_loss(batch, draws), -p[torch.arange(7), Y].log().mean())


def test_metrics_of_a_classifier():
    logits = np.random.default_rng(1).normal(0, 1.5, (300, 4)).astype("f")
    y = np.where(
        np.arange(300) % 2, logits.argmax(1), np.arange(300) % 4
    )  # too sure in some bins, not enough in others
    view, p = view_of(logits, columns={"y": y}), np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    known = SimpleNamespace(classify=lambda x: x)
    assert c.label_nll(known, view, {}, None).value == pytest.approx(-np.log(p[np.arange(300), y]).mean(), rel=1e-5)
    sure, gap = p.max(1), (p.argmax(1) == y) - p.max(1)
    gaps = [abs(gap[(sure > k / 15) & (sure <= (k + 1) / 15)].sum()) for k in range(15)]
    assert c.label_calibration_error(known, view, {}, None).value == pytest.approx(sum(gaps) / 300, rel=1e-5)


def test_activations_have_the_law_that_drawn_weights_give():
    torch.manual_seed(1)
    layer, x, n = c.GaussianLinear(3, 2), torch.tensor([0.5, -2.0, 1.5]), 200_000
    assert torch.equal(layer.log_std, torch.full((2, 3), -5.0))
    layer.log_std.data, layer.bias_log_std.data = torch.randn(2, 3) * 0.4 - 1, torch.tensor([-0.5, 0.3])
    bias = layer.bias + layer.bias_log_std.exp() * torch.randn(n, 2)
    plain = (layer.weight + layer.log_std.exp() * torch.randn(n, 2, 3)) @ x + bias
    local = layer.drawn(x, torch.randn(n, 2))
    torch.testing.assert_close(local.mean(0), plain.mean(0), atol=0.015, rtol=0)
    torch.testing.assert_close(local.std(0), plain.std(0), atol=0, rtol=0.015)


def test_vib_is_the_minimum_of_its_objective_and_half_of_the_g_prior():
    one = r.GaussianRegression(INFO, **DESIGN)
    given = one.problem(np.random.default_rng(1)).given
    x, y, beta = given["x"][:9], given["y"][:, 0], 3 / 9

    def objective(free):  # linear means, and a variance of its own for each row
        mean, variance = x @ free[:3], np.exp(free[3:])
        loss = ((y - mean) ** 2 + variance) / 0.7**2 + beta * ((mean**2 + variance) / 1.6**2 - np.log(variance))
        return loss.sum() / 2

    best = minimize(objective, np.zeros(12), tol=1e-12, options={"maxiter": 2000}).x
    mean, variance = one.predictive("vib", given)
    np.testing.assert_allclose(mean, given["x"] @ best[:3], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(variance[0] - 0.7**2, np.exp(best[3:]), rtol=1e-3)
    precision = x.T @ x * (1 + beta * 0.7**2 / 1.6**2) / 0.7**2  # of the posterior under the g-prior
    np.testing.assert_allclose(mean, given["x"] @ np.linalg.solve(precision, x.T @ y) / 0.7**2)
    spread = np.diag(given["x"] @ np.linalg.inv(precision) @ given["x"].T)
    np.testing.assert_allclose(variance, 0.7**2 + spread[:9].mean())
    assert spread[9:].mean() > 1.1 * spread[:9].mean(), "which is what VIB does not know"


def test_problems_erm_and_bayes():
    one = r.GaussianRegression(INFO, **DESIGN)
    problem = one.problem(np.random.default_rng(2))
    x, y, f = problem.given["x"], problem.given["y"], problem.truth["f"]
    assert (x.shape, y.shape, f.shape) == ((209, 3), (9, 10), (209,))
    kernel = 1.6**2 / 3 * x @ x.T  # the same posterior as a Gaussian process
    gain = np.linalg.solve(kernel[:9, :9] + 0.7**2 * np.eye(9), kernel[:9]).T
    mean, variance = one.predictive("bayes", problem.given)
    np.testing.assert_allclose(mean, gain @ y[:, 0])
    np.testing.assert_allclose(variance, 0.7**2 + np.diag(kernel - gain @ kernel[:9]))
    for rule, label in (("erm", y[:, 0]), ("many-labels", y.mean(1))):
        mean, variance = one.predictive(rule, problem.given)
        np.testing.assert_allclose(mean, x @ np.linalg.pinv(x[:9]) @ label)
        np.testing.assert_allclose(variance, 0.7**2)
    many = [one.problem(np.random.default_rng(s)) for s in range(3000)]
    residuals = np.stack([m.given["y"] - m.truth["f"][:9, None] for m in many])
    spreads = [residuals.std(), np.std([m.truth["f"] for m in many]), np.std([m.given["x"] for m in many])]
    np.testing.assert_allclose(spreads, [0.7, 1.6, 1.0], rtol=0.03)


def test_measurements():
    one, share = r.GaussianRegression(INFO, **DESIGN), {}
    one.start(None, torch.Generator().manual_seed(4))
    while not one.done():
        one.advance(None, None)
    pairs = list(one.answered())
    for at, part in (("seen", slice(9)), ("new", slice(9, None))):
        sums = []
        for rule in ("erm", "vib", "bayes"):
            found = [(t["f"], one.predictive(rule, t)) for t, _ in pairs]
            laws = [
                (Normal(torch.tensor(f), 0.7), Normal(torch.tensor(m), torch.tensor(v) ** 0.5)) for f, (m, v) in found
            ]
            sums.append(float(sum(kl_divergence(*both)[part].mean() for both in laws)) / 2)
        assert r.predictive_excess_nll(one, None, {"at": at}, None).value == pytest.approx(sums[1])
        share[at] = (sums[0] - sums[1]) / (sums[0] - sums[2])
    found = r.label_risk_lead(one, None, {}, None)
    assert found.details == pytest.approx(share)
    assert found.value == pytest.approx(share["seen"] - share["new"])


def test_what_is_run_and_claimed():
    suite, betas = load_suite(REPOSITORY / "suites/vib-half-bayes/suite.yaml").suite, (0.001, 0.01, 0.1)
    assert {k: (*m.params.values(), *m.training.values()) for k, m in suite.methods.items()} == {
        **{f"linear-{rule}": (rule,) for rule in ("erm", "many-labels", "vib", "bayes")},
        **{f"vib-{b}": (b,) for b in betas},
        "erm": ("erm",),
        "erm-early": ("erm", "best"),
        "vib-early": (0.01, "best"),
        "bayes": ("bayes",),
        "bayes-cold": ("bayes", 0.1),
        "ensemble": ("ensemble", 5),
    }
    training, limit = suite.training, suite.tiers["cpu"].limit
    assert (training.batch_size, training.epochs, training.optimizer.lr) == (100, 150, 1e-3)
    assert (limit.train, limit.valid, limit.test) == (1000, 1000, 5000)
    orders = [(c, o) for c in suite.claims for o in getattr(c, "cells", [c]) if o.kind == "order"]
    assert {(c.sanity, o.margin, o.metric, o.better, o.worse) for c, o in orders} == {
        *((False, 0.1, "nll", f"vib-{b}", "erm") for b in betas),
        *((False, 0.0, "ece", f"vib-{b}", "erm") for b in betas),
        *((False, 0.0, "nll", "bayes-cold", f"vib-{b}") for b in (*betas, "early")),
        *((False, 0.0, "nll", "vib-early", "erm-early"), (True, 0.0, "nll", "ensemble", "erm")),
        (True, 0.0, "nll", "bayes-cold", "bayes"),
        *((True, 0.0, f"excess-{at}", f"linear-{a}", f"linear-{b}") for at in ("seen", "new") for a, b in IN_ORDER),
    }
    assert [[(g.metric, g.at_most) for g in o.gate] for c, o in orders if not c.sanity] == [[("error", 30.0)]] * 11
    (lead,) = (c for c in suite.claims if c.kind == "bound")
    (gate,) = lead.gate
    assert (lead.metric, lead.method, lead.at_least, gate.better_than) == ("lead", "linear-vib", 0.05, "linear-erm")


def test_bad_input():
    with pytest.raises(UserError, match="no column y"):
        c.HalfBayesClassifier(DataInfo((2,), "real", 3))
    with pytest.raises(UserError, match="leave the weights"):
        r.GaussianRegression(INFO, inputs=4, rows=3)
    with pytest.raises(UserError, match="no Gaussian predictive"):
        r.label_risk_lead(torch.nn.Linear(1, 1), None, {}, None)
