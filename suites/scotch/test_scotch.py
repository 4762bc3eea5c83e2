"""Systems against loops and slopes, the bound against plain densities, regressions in closed form, easy problems."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.metrics.structure import edge_auroc
from latentbench.papers.scotch import learners, systems
from latentbench.papers.scotch.latent_sde import LatentSDE, PerVariable
from latentbench.spec.loading import load_suite
from torch.distributions import Bernoulli, Laplace, Normal, kl_divergence

INFO = DataInfo((1,), "real", 1)


def rng(seed=0):
    return np.random.default_rng(seed)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def study(learner="sde", **settings):
    design = {"variables": 5, "paths": 6, "points": 15, "gap": 0.1, "steps": 3, **settings}
    return learners.DynamicsLearner(INFO, learner=learner, **design)


def test_drift_and_graph():
    z = rng(2).uniform(0.1, 0.9, 7)
    by_hand = [(z[(i + 1) % 7] - z[i - 2]) * z[i - 1] - z[i] + 10 for i in range(7)]
    np.testing.assert_allclose(systems.drift(z), by_hand)
    slopes = torch.autograd.functional.jacobian(
        lambda z: (z.roll(-1) - z.roll(2)) * z.roll(1) - z, torch.from_numpy(z)
    ).T  # cause, effect
    np.testing.assert_array_equal(systems.graph_of(7), (slopes != 0).numpy() & ~np.eye(7, dtype=bool))


def test_simulation(monkeypatch):
    monkeypatch.setattr(systems, "drift", lambda z: -1.5 * z + 3.0)
    x = systems.simulate(rng(1), 7, 2000, 3, 0.3) - 2
    assert x.shape == (2000, 3, 7)
    np.testing.assert_allclose(x[:, 0].mean(0), -2 * math.exp(-3), atol=0.03)
    slope = (x[:, 2] * x[:, 1]).sum() / (x[:, 1] ** 2).sum()
    np.testing.assert_allclose(slope, math.exp(-0.45), rtol=0.02)
    noise = 0.25 * (1 - math.exp(-0.9)) / 3
    np.testing.assert_allclose((x[:, 2] - math.exp(-0.45) * x[:, 1]).var(), noise, rtol=0.06)


def test_problems():
    made, again = study(dropped=0.6, points=400).problem(rng(3)), rng(3)
    x, kept = systems.simulate(again, 5, 6, 400, 0.1), again.random(400) >= 0.6
    kept[:2], order = True, again.permutation(5)
    np.testing.assert_array_equal(made.given["times"], np.flatnonzero(kept))
    assert kept.mean() == pytest.approx(0.4, abs=0.08)
    np.testing.assert_allclose(made.given["x"], ((x - x.mean((0, 1))) / x.std((0, 1)))[:, kept][:, :, order])
    places = list(order)
    for i, j in np.argwhere(systems.graph_of(5)):
        assert made.truth["graph"][places.index(i), places.index(j)]
    for wrong in {"variables": 3}, {"dropped": 1.0}, {"points": 2}:
        with pytest.raises(UserError):
            study(**wrong)


def test_networks_see_parents_alone():
    net, graph = PerVariable(4, 6, draws(1)), (torch.rand(3, 4, 4, generator=draws(2)) < 0.5).float()
    z = torch.randn(3, 4, generator=draws(3))
    slopes = torch.autograd.functional.jacobian(lambda z: net(z, graph).sum(0), z)  # effect, row, cause
    np.testing.assert_array_equal(slopes.permute(1, 2, 0) != 0, graph.bool())
    both = net(torch.stack([z, 2 * z], 1), graph[:, None].expand(-1, 2, -1, -1))
    np.testing.assert_allclose(both[:, 1].detach(), net(2 * z, graph).detach(), atol=1e-6)


def test_draws_of_graphs():
    net = LatentSDE(3, 0.1, 1.0, draws())
    net.logits.data = torch.linspace(-2, 2, 9).view(3, 3)
    graph = net.graphs(20_000, draws(1))
    assert set(graph.detach().unique().round(decimals=4).tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(graph.detach().mean(0), net.logits.detach().sigmoid(), atol=0.015)
    u = torch.rand(20_000, 3, 3, generator=draws(1)).clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid(4 * (net.logits.detach() + torch.log(u / (1 - u))))
    (slope,) = torch.autograd.grad(graph.mean(0).sum(), net.logits)
    np.testing.assert_allclose(slope, (4 * soft * (1 - soft)).mean(0), rtol=1e-3)


@torch.no_grad()
def test_bound_is_that_of_plain_densities():
    """A row at a time, a step at a time, by torch.distributions."""
    n, d, gap, noise, weight = 2, 3, 0.2, 0.3, 0.7
    net, times = LatentSDE(d, noise, 1.9, draws(1)), torch.tensor([0, 1, 4, 6])
    for parameter in net.parameters():
        parameter += 0.1 * torch.randn(parameter.shape, generator=draws(2))
    x, g = torch.randn(n, 4, d, generator=draws(3)), draws(4)
    graph = net.graphs(n, g)
    z0, noises = torch.randn(n, d, generator=g), [torch.randn(n, d, generator=g) for _ in range(6)]
    total, one = 0.0, torch.eye(d)
    for row in range(n):
        contexts, state = {}, None
        for i in (3, 2, 1, 0):
            out, state = net.encoder(x[row, i][None, None], state)
            contexts[i] = net.context(torch.cat([out[0, 0], graph[row].flatten()]))
        shift, log_std = net.initial(contexts[0]).chunk(2)
        start = Normal(x[row, 0] + shift, noise * log_std.exp())
        z, kl = start.mean + start.stddev * z0[row], 0.0
        kl += kl_divergence(start, Normal(net.prior_mean, net.prior_log_std.exp())).sum()
        total -= Laplace(z, noise).log_prob(x[row, 0]).sum()
        for step in range(6):
            i = next(k for k in (1, 2, 3) if times[k] > step)
            left = (times[i] - step)[None] * gap
            f = (x[row, i] - z) / left + net.posterior(torch.cat([z, contexts[i], left]))
            h = net.drift(z[None], graph[row][None])[0]
            size = net.diffusion(z[None], (graph[row] * (1 - one) + one)[None])[0].sigmoid()
            after, before = (Normal(z + gap * mean, gap**0.5 * size) for mean in (f, h))
            kl += kl_divergence(after, before).sum()
            z = after.mean + after.stddev * noises[step][row]
            if step + 1 == times[i]:
                total -= Laplace(z, noise).log_prob(x[row, i]).sum()
        total += weight * kl + 1.9 * graph[row].sum() / n
    total -= Bernoulli(logits=net.logits).entropy().sum()
    assert 5 < total < 500  # no part is lost in it
    assert float(net.negative_bound(x, times, gap, weight, draws(4))) == pytest.approx(float(total), rel=1e-5)


def test_posterior_is_a_bridge_at_first():
    net, x = LatentSDE(3, 1e-3, 0.0, draws()), torch.randn(5, 3, 3, generator=draws(1))
    net.diffusion.biases[1].data -= 20.0  # next to no noise: paths meet observations
    with torch.no_grad():
        many = net.negative_bound(x, torch.tensor([0, 3, 5]), 0.1, 0.0, draws(2))
    per_value = (float(many) + 9 * math.log(2)) / 45  # entropy of nine edges
    assert per_value == pytest.approx(math.log(2e-3) + (2 / math.pi) ** 0.5 / 3, abs=0.2)  # normal starts


@pytest.mark.parametrize("learner", ["sde", "ode"])
def test_steps(learner, monkeypatch):
    """Weights, rates and proximal steps, one by one."""
    asked, rates = [], []

    def bound(net, x, times, gap, weight, generator):
        asked.append((net.noise, net.sparsity, gap, weight, times.tolist()))
        return net.logits.sum()

    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda a: rates.append(a.param_groups[0]["lr"]) or step(a))
    monkeypatch.setattr(LatentSDE, "negative_bound", bound)
    monkeypatch.setattr(learners, "ahead", lambda net, x, times, gap: x[:, 1:] + 0.0 * net.first.sum())
    given = {"x": rng(1).standard_normal((2, 3, 4)), "times": np.array([0, 1, 5]), "gap": 0.3}
    settings = {"variables": 4, "noise": 0.2, "sparsity": 0.9, "steps": 8, "rate": 0.04}
    scores = study(learner, **settings).answer(given, rng(2))["scores"]
    np.testing.assert_allclose(rates, 0.04 * np.arange(8, 0, -1) / 8)
    if learner == "sde":
        assert asked == [(0.2, 0.9, 0.3, w, [0, 1, 5]) for w in (0.5, *[1.0] * 7)]
        np.testing.assert_allclose(scores, -0.18, atol=1e-6)  # logits fall by each rate
        study("sde-even", **settings).answer(given, rng(2))
        assert asked[-1][2:] == (pytest.approx(0.75), 1.0, [0, 1, 2])
    else:
        start = PerVariable(4, learners.WIDTH, draws(int(rng(2).integers(2**62)))).first.detach().norm(dim=2).T
        shrunk = (learners.SMALL * start - 0.9 * 0.04 * 36 / 8).clamp(min=0)
        assert 0 < int((shrunk > 0).sum()) < 16
        np.testing.assert_allclose(scores, shrunk, atol=1e-6)


def test_steps_ahead():
    net, x, times = PerVariable(3, 4, draws(1)), torch.randn(2, 3, 3, generator=draws(2)), torch.tensor([2, 3, 6])
    with torch.no_grad():
        found, ones = learners.ahead(net, x, times, 0.2), torch.ones(2, 3, 3)
        for i, steps in ((0, 1), (1, 3)):
            z = x[:, i]
            for _ in range(steps):
                z = z + 0.2 * net(z, ones)
            np.testing.assert_allclose(found[:, i], z, atol=1e-6)


def test_regressions():
    x = rng(1).standard_normal((4, 60, 3))
    y = np.stack([0.5 * x[..., 0] - 0.8 * x[..., 1], x[..., 1] * x[..., 2] + 1, x[..., 2] ** 2], 2)
    y += 0.1 * rng(2).standard_normal(y.shape)
    causes = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=bool)
    found = learners.granger(x, y, np.ones(60), 2)
    assert found[causes].min() > 1.0 > 0.1 > found[~causes].max()
    assert learners.granger(x, y, np.ones(60), 1)[[1, 0], [0, 0]].min() > 0.5
    w = rng(3).uniform(0.2, 3.0, 60)
    rows, root = np.column_stack([np.ones(240), x.reshape(-1, 3)]), np.sqrt(np.tile(w, 4))
    rss = [
        ((root * (y[..., 0].ravel() - a @ np.linalg.lstsq(root[:, None] * a, root * y[..., 0].ravel())[0])) ** 2).sum()
        for a in (rows[:, [0, 1, 3]], rows)
    ]
    assert learners.granger(x, y, w, 1)[1, 0] == pytest.approx(math.log(rss[0] / rss[1]))
    line = learners.interpolated(np.array([[[1.0], [2.0], [8.0]]]), np.array([0, 1, 4]))
    np.testing.assert_allclose(line[0, :, 0], [1, 2, 4, 6, 8])
    given = {"x": np.cumsum(x, 1), "times": np.cumsum(rng(4).integers(1, 4, 60)), "gap": 0.3}
    lengths = 0.3 * np.diff(given["times"])
    slopes = learners.granger(given["x"][:, :-1], x[:, 1:] / lengths[:, None], lengths, 2)
    np.testing.assert_allclose(study("slopes").answer(given, rng())["scores"], slopes)
    whole = learners.interpolated(given["x"], given["times"])
    var = learners.granger(whole[:, :-1], whole[:, 1:], np.ones(whole.shape[1] - 1), 1)
    np.testing.assert_allclose(study("var").answer(given, rng())["scores"], var)


@pytest.mark.parametrize(("learner", "sparsity"), [("sde", 10.0), ("ode", 1.0), ("slopes", 0.0), ("var", 0.0)])
def test_easy_problems_are_solved(learner, sparsity):
    """Linear, of three edges: 0 -> 1 -> 3 and 2 -> 1, of which every second point or so is dropped."""
    w, z, seen = -np.eye(4), rng(1).standard_normal((30, 4)), []
    w[0, 1], w[1, 3], w[2, 1] = 2.0, -2.0, -2.0
    for k in range(120):
        seen += [z] if k % 10 in (0, 5) else []
        z = z + 0.02 * (z @ w) + 0.02**0.5 * 0.5 * rng(k + 2).standard_normal(z.shape)
    given = {"x": np.stack(seen, 1), "times": np.arange(24), "gap": 0.1}
    given["x"] = given["x"] / given["x"].std((0, 1))
    kept = [0, 1, 2, 5, 6, 8, 9, 10, 13, 15, 16, 18, 20, 21, 23]
    given |= {"x": given["x"][:, kept], "times": given["times"][kept]}
    found = study(learner, variables=4, steps=100, rate=0.02, sparsity=sparsity).answer(given, rng(3))["scores"]
    assert edge_auroc(found, (w != 0) & ~np.eye(4, dtype=bool)).value > 0.95
    assert not np.isnan(found).any()


def test_suite():
    """What is claimed of whom, and settings of the tier."""
    suite = load_suite(Path(learners.__file__).with_name("suite.yaml")).suite
    orders = [o for c in suite.claims for o in getattr(c, "cells", [c]) if o.kind == "order"]
    found = {(o.dataset[8:], o.better, o.worse, o.gate[0].at_least) for o in orders}
    rivals = [(p, r) for p in ("30", "60") for r in ("var", "ode", "slopes", "even")]
    assert found == {(p, "scotch", r, 0.6) for p, r in [*rivals, ("0", "var")]}
    assert {name: d.params for name, d in suite.datasets.items()} == {
        f"dropped-{p}": {"dropped": p / 100} for p in (0, 30, 60)
    }
    params = [o.params for o in suite.tiers["cpu"].overrides]
    assert [(p.get("steps"), p.get("rate"), p["sparsity"]) for p in params] == [(400, 0.01, 30), (None, None, 1)]
