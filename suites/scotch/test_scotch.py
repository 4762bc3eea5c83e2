"""Systems against loops and slopes, the bound against plain densities, regressions in closed form, easy problems."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.metrics.structure import edge_auroc
from latentbench.papers.scotch import learners
from latentbench.papers.scotch.latent_sde import LatentSDE, PerVariable
from latentbench.spec.loading import load_suite, suite_files
from torch.distributions import Bernoulli, Laplace, Normal, kl_divergence

rng, draws = np.random.default_rng, torch.Generator().manual_seed  # one generator, which begins anew


def study(learner="sde", **settings):
    design = {"variables": 5, "paths": 6, "points": 15, "gap": 0.1, "steps": 3, **settings}
    return learners.DynamicsLearner(DataInfo((1,), "real", 1), learner=learner, **design)


def test_drift_and_graph():
    z = rng(2).uniform(0.1, 0.9, 7)
    by_hand = [(z[(i + 1) % 7] - z[i - 2]) * z[i - 1] - z[i] + 10 for i in range(7)]
    np.testing.assert_allclose(learners.drift(z), by_hand)
    moved = [learners.drift(z + 0.1 * unit) != learners.drift(z) for unit in np.eye(7)]  # cause, effect
    np.testing.assert_array_equal(learners.graph_of(7), np.array(moved) & ~np.eye(7, dtype=bool))


def test_simulation(monkeypatch):
    monkeypatch.setattr(learners, "drift", lambda z: -1.5 * z + 3.0)
    x = learners.simulate(rng(1), 7, 2000, 3, 0.3) - 2
    np.testing.assert_allclose(x[:, 0].mean(0), -2 * math.exp(-3), atol=0.03)
    assert (x[:, 2] * x[:, 1]).sum() / (x[:, 1] ** 2).sum() == pytest.approx(math.exp(-0.45), rel=0.02)
    left = (x[:, 2] - math.exp(-0.45) * x[:, 1]).var()
    assert left == pytest.approx(0.25 * (1 - math.exp(-0.9)) / 3, rel=0.06)


def test_problems():
    made, again = study(dropped=0.6, points=400).problem(rng(3)), rng(3)
    x, kept = learners.simulate(again, 5, 6, 400, 0.1), again.random(400) >= 0.6
    kept[:2], order = True, again.permutation(5)
    np.testing.assert_array_equal(made.given["times"], np.flatnonzero(kept))
    np.testing.assert_allclose(made.given["x"], ((x - x.mean((0, 1))) / x.std((0, 1)))[:, kept][:, :, order])
    np.testing.assert_array_equal(made.truth["graph"], [[learners.graph_of(5)[i, j] for j in order] for i in order])


def test_networks_see_parents_alone():
    net, graph = PerVariable(4, 6, draws(1)), (torch.rand(3, 4, 4, generator=draws(2)) < 0.5).float()
    z = torch.randn(3, 4, generator=draws(3))
    slopes = torch.autograd.functional.jacobian(lambda z: net(z, graph).sum(0), z)  # effect, row, cause
    np.testing.assert_array_equal(slopes.permute(1, 2, 0) != 0, graph.bool())


def test_draws_of_graphs():
    net = LatentSDE(3, 0.1, 1.0, draws(0))
    net.logits.data = torch.linspace(-2, 2, 9).view(3, 3)
    graph = net.graphs(20_000, draws(1))
    assert set(graph.detach().unique().round(decimals=4).tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(graph.detach().mean(0), net.logits.detach().sigmoid(), atol=0.015)
    u = torch.rand(20_000, 3, 3, generator=draws(1)).clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid(4 * (net.logits.detach() + torch.log(u / (1 - u))))
    (slope,) = torch.autograd.grad(graph.mean(0).sum(), net.logits)
    np.testing.assert_allclose(slope, (4 * soft * (1 - soft)).mean(0), rtol=1e-3)


def test_bound_is_that_of_plain_densities():
    """A row at a time, a step at a time, by torch.distributions; so are its gradients."""
    n, d, gap, noise, weight = 2, 3, 0.2, 0.3, 0.7
    net, times = LatentSDE(d, noise, 1.9, draws(1)), torch.tensor([0, 1, 4, 6])
    assert not net.posterior(torch.ones(d + 33)).any()  # a bridge at first, from the first observation
    assert not net.initial(torch.ones(32)).any()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draws(2))
    x, g = torch.randn(n, 4, d, generator=draws(3)), draws(4)
    graph = net.graphs(n, g)
    z0, noises = torch.randn(n, d, generator=g), [torch.randn(n, d, generator=g) for _ in range(6)]
    total, one = -Bernoulli(logits=net.logits).entropy().sum(), torch.eye(d)
    for row in range(n):
        seen = [net.encoder(x[row, i:].flip(0)[None])[0][0, -1] for i in range(4)]  # of this and later ones
        contexts = [net.context(torch.cat([h, graph[row].flatten()])) for h in seen]
        shift, log_std = net.initial(contexts[0]).chunk(2)
        start = Normal(x[row, 0] + shift, noise * log_std.exp())
        z = start.mean + start.stddev * z0[row]
        kl = kl_divergence(start, Normal(net.prior_mean, net.prior_log_std.exp())).sum()
        total = total - Laplace(z, noise).log_prob(x[row, 0]).sum()
        for step in range(6):
            i = next(k for k in (1, 2, 3) if times[k] > step)
            left = (times[i] - step)[None] * gap
            f = (x[row, i] - z) / left + net.posterior(torch.cat([z, contexts[i], left]))
            size = net.diffusion(z[None], (graph[row] * (1 - one) + one)[None])[0].sigmoid()
            drifts = (f, net.drift(z[None], graph[row][None])[0])
            after, before = (Normal(z + gap * drift, gap**0.5 * size) for drift in drifts)
            kl = kl + kl_divergence(after, before).sum()
            z = after.mean + after.stddev * noises[step][row]
            if step + 1 == times[i]:
                total = total - Laplace(z, noise).log_prob(x[row, i]).sum()
        total = total + weight * kl + 1.9 * graph[row].sum() / n
    found = net.negative_bound(x, times, gap, weight, draws(4))
    assert found.item() == pytest.approx(total.item(), rel=1e-5)
    for a, b in zip(*(torch.autograd.grad(bound, [*net.parameters()]) for bound in (found, total)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_steps(monkeypatch):
    """Weights, rates and proximal steps, one by one."""
    asked = []

    def bound(net, x, times, gap, weight, generator):
        return asked.append((net.noise, net.sparsity, gap, weight, times.tolist())) or net.logits.sum()

    monkeypatch.setattr(LatentSDE, "negative_bound", bound)
    monkeypatch.setattr(learners, "ahead", lambda net, x, times, gap: x[:, 1:] + 0.0 * net.first.sum())
    given = {"x": rng(1).standard_normal((2, 3, 4)), "times": np.array([0, 1, 5]), "gap": 0.3}
    settings = {"variables": 4, "noise": 0.2, "sparsity": 0.9, "steps": 8, "rate": 0.04}
    sde, ode, _ = (study(n, **settings).answer(given, rng(2))["scores"] for n in ("sde", "ode", "sde-even"))
    assert asked[:8] == [(0.2, 0.9, 0.3, w, [0, 1, 5]) for w in (0.5, *[1.0] * 7)]
    assert asked[8][2:] == (pytest.approx(0.75), 0.5, [0, 1, 2])
    np.testing.assert_allclose(sde, -0.18, atol=1e-6)  # logits fall by each rate, 0.04 at first
    start = PerVariable(4, 32, draws(int(rng(2).integers(2**62)))).first.detach().norm(dim=2).T
    shrunk = (0.1 * start - 0.9 * 0.18).clamp(min=0)
    assert 0 < int((shrunk > 0).sum()) < 16
    np.testing.assert_allclose(ode, shrunk, atol=1e-6)


def test_steps_ahead():
    x = torch.randn(2, 3, 3, generator=draws(2))
    found = learners.ahead(lambda z, graph: z * graph.mean(-1), x, torch.tensor([2, 3, 6]), 0.2)
    np.testing.assert_allclose(found, x[:, :2] * torch.tensor([1.2, 1.2**3])[:, None], rtol=1e-5)


def test_regressions():
    x, w = rng(1).standard_normal((4, 60, 3)), rng(3).uniform(0.2, 3.0, 60)
    y = np.stack([0.5 * x[..., 0] - 0.8 * x[..., 1], x[..., 1] * x[..., 2] + 1, x[..., 2] ** 2], 2)
    y += 0.1 * rng(2).standard_normal(y.shape)
    causes = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=bool)
    found = learners.granger(x, y, np.ones(60), 2)
    assert found[causes].min() > 1.0 > 0.1 > found[~causes].max()
    rows = np.column_stack([np.ones(240), x.reshape(-1, 3)])
    root = np.sqrt(np.tile(w, 4))[:, None]
    rss = [np.linalg.lstsq(root * a, root[:, 0] * y[..., 0].ravel())[1][0] for a in (rows[:, [0, 1, 3]], rows)]
    assert learners.granger(x, y, w, 1)[1, 0] == pytest.approx(math.log(rss[0] / rss[1]))


def test_what_regressions_are_given(monkeypatch):
    monkeypatch.setattr(learners, "granger", lambda *given: given)
    given = {"x": np.array([[[1.0], [2.0], [8.0]]]), "times": np.array([0, 1, 4]), "gap": 0.3}
    for learner, expected in (
        ("slopes", ([1, 2], [1 / 0.3, 6 / 0.9], [0.3, 0.9], 2)),
        ("var", ([1, 2, 4, 6], [2, 4, 6, 8], [1, 1, 1, 1], 1)),
    ):
        for got, wanted in zip(study(learner).answer(given, rng(0))["scores"], expected, strict=True):
            np.testing.assert_allclose(np.ravel(got), wanted)


@pytest.mark.parametrize(("learner", "sparsity"), [("sde", 10.0), ("ode", 1.0), ("slopes", 0.0), ("var", 0.0)])
def test_easy_problems_are_solved(learner, sparsity, monkeypatch):
    """Linear, of three edges: 0 -> 1 -> 3 and 2 -> 1."""
    w = np.array([[-1, 2, 0, 0], [0, -1, 0, -2], [0, -2, -1, 0], [0, 0, 0, -1]])
    monkeypatch.setattr(learners, "drift", lambda z: z @ w)
    monkeypatch.setattr(learners, "BURN", 0.0)
    monkeypatch.setattr(learners, "graph_of", lambda d: (w != 0) & ~np.eye(d, dtype=bool))
    small = {"variables": 4, "paths": 30, "points": 24, "dropped": 0.4, "steps": 100, "rate": 0.02}
    solver = study(learner, sparsity=sparsity, **small)
    made = solver.problem(rng(1))
    assert edge_auroc(solver.answer(made.given, rng(3))["scores"], made.truth["graph"]).value > 0.9


def test_suite():
    """What is claimed of whom, and settings of the tier."""
    suite = load_suite(suite_files()["scotch"]).suite
    orders = [o for c in suite.claims for o in getattr(c, "cells", ()) if o.kind == "order"]
    found = {(int(o.dataset[8:]), o.better, o.worse, o.gate[0].at_least) for o in orders}
    rivals = {"var": (0, 30, 60), "ode": (0, 30, 60), "slopes": (30, 60), "even": (30, 60)}
    assert found == {(p, "scotch", rival, 0.6) for rival, at in rivals.items() for p in at}
    assert all(data.params == {"dropped": int(name[8:]) / 100} for name, data in suite.datasets.items())
    params = [o.params for o in suite.tiers["cpu"].overrides]
    assert [(p.get("steps"), p.get("rate"), p["sparsity"]) for p in params] == [(400, 0.01, 30), (None, None, 1)]
