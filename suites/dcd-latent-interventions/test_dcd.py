"""Draws against loops, costs and bounds against plain recomputation, graphs against enumeration, easy problems."""

from __future__ import annotations

from itertools import product

import networkx as nx
import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.metrics.representation import ari
from latentbench.papers.dcd_latent_interventions import latent_interventions as li
from latentbench.papers.dcd_latent_interventions.mixture import Ascent, best_graph, local, sticks
from scipy.stats import norm
from torch.distributions import Beta, kl_divergence

EDGE, TARGET = 3.7, 2.3


def rng(seed=0):
    return np.random.default_rng(seed)


def study(components="latent", **settings):
    design = {"variables": 3, "rows": 400, "degree": 0.9, "shift": 1.5, "starts": 3, **settings}
    return li.InterventionalMixture(DataInfo((1,), "real", 1), components=components, **design)


def bits(sets, d):
    return (np.asarray(sets)[..., None] >> np.arange(d)) & 1


@pytest.mark.parametrize("target", [None, 0, 1, 2, 3])
def test_rows_are_made_variable_by_variable(target):
    w = li.World(rng(3), 4, 1.2, 2.0)
    assert w.graph.sum() > 2
    for row, e in zip(w.draw(rng(7), 5, target), rng(7).standard_normal((5, 4)), strict=True):
        for j, parents in enumerate(w.graph.T.astype(bool)):
            noise = w.scale[j] * e[j] + w.offset[j]
            value = w.weights[parents, j] @ row[parents] + 0.2 * noise if parents.any() else noise
            assert row[j] == pytest.approx(w.means[j] + 0.2 * e[j] if j == target else value)


def test_ranges_of_worlds():
    worlds = [li.World(rng(s), 6, 1.5, 2.0) for s in range(200)]
    assert all(nx.is_directed_acyclic_graph(nx.DiGraph(w.graph)) for w in worlds)
    assert np.mean([w.graph.sum() for w in worlds]) == pytest.approx(9.0, abs=0.5)
    assert np.std([w.offset for w in worlds]) == pytest.approx(0.3, rel=0.1)
    for name, low, high in ("weights", 0.25, 1.0), ("means", 2.0, 4.0), ("scale", 0.4, 0.56):
        values = np.concatenate([getattr(w, name)[getattr(w, name) != 0] for w in worlds])
        assert (np.abs(values).min(), np.abs(values).max()) == pytest.approx((low, high), rel=0.03)
        assert (values > 0).mean() == pytest.approx(1.0 if name == "scale" else 0.5, abs=0.06)


def normal_cost(errors, w):
    """At the best variance, with one more row of a small squared error, whose constant is left out."""
    v = (w @ errors**2 + 0.001) / (w.sum() + 1)
    return -w @ norm(0, v**0.5).logpdf(errors) + 0.5 * (np.log(v) + 0.001 / v)


def direct(x, q, j, parents, targets):
    """Cost of variable j by weighted least squares on rows."""
    phi, w = np.column_stack([np.ones(len(x)), x[:, parents]]), q[:, ~targets].sum(1)
    fit = np.linalg.lstsq(phi * np.sqrt(w)[:, None], x[:, j] * np.sqrt(w), rcond=None)[0]
    under = [normal_cost(x[:, j] - np.average(x[:, j], weights=q[:, k]), q[:, k]) for k in np.flatnonzero(targets)]
    return normal_cost(x[:, j] - phi @ fit, w) + EDGE * len(parents) + sum(under) + TARGET * len(under)


def test_local_costs_are_the_least():
    w = li.World(rng(4), 3, 1.2, 2.0)
    x = np.concatenate([w.draw(rng(1), 60), w.draw(rng(2), 60, 0), w.draw(rng(3), 60, 2)])
    q = np.eye(3)[np.repeat([0, 1, 2], 60)] * 0.94 + 0.02
    phi = np.column_stack([np.ones(180), x])
    moments = np.einsum("nk,nf,ng->kfg", q, phi, phi)
    for j in range(3):
        found = local(j, moments, EDGE, TARGET, np.arange(3) > 0)
        for s, parents in enumerate(bits(np.arange(8), 3)):
            if parents[j]:
                assert found.costs[s] == np.inf
                continue
            ways = [np.array((False, *t)) for t in product([False, True], repeat=2)]
            every = {t.tobytes(): direct(x, q, j, np.flatnonzero(parents), t) for t in ways}
            assert found.costs[s] == pytest.approx(every[found.targets[s].tobytes()], rel=1e-4)
            assert found.costs[s] == pytest.approx(min(every.values()), rel=1e-4)  # here; it is an ascent by turns
    assert not local(0, moments[[1, 0, 2]], EDGE, TARGET, np.zeros(3, dtype=bool)).targets[:, 0].any()


def test_best_graph_of_all():
    d, costs = 4, rng(5).random((4, 16)) + 0.05 * bits(np.arange(16), 4).sum(1)
    costs[bits(np.arange(16), d).T == 1] = np.inf
    every = product(*([s for s in range(16) if not s >> j & 1] for j in range(d)))
    acyclic = [p for p in every if nx.is_directed_acyclic_graph(nx.DiGraph(bits(p, d).T))]
    assert best_graph(costs).tolist() == list(min(acyclic, key=lambda parents: costs[np.arange(d), parents].sum()))


def test_sticks():
    counts, c = np.array([5.0, 0.3, 9.0, 2.0]), 2.5
    weights, kl = sticks(counts, c)
    a, b = torch.tensor(1 + counts[:-1]), torch.tensor([c + 11.3, c + 11.0, c + 2.0], dtype=torch.float64)
    assert kl == pytest.approx(float(kl_divergence(Beta(a, b), Beta(torch.ones_like(a), torch.full_like(a, c))).sum()))
    v = rng(1).beta(a.numpy(), b.numpy(), size=(200_000, 3))
    left = np.cumprod(1 - v, axis=1)
    pi = np.concatenate([v[:, :1], v[:, 1:] * left[:, :-1], left[:, -1:]], axis=1)
    np.testing.assert_allclose(weights, np.log(pi).mean(0), atol=0.02)


def sample(shift):
    w = li.World(rng(8), 3, 1.0, shift)
    x = np.concatenate([w.draw(rng(1), 120), *(w.draw(rng(2 + j), 120, j) for j in range(3))])
    return w, li.standardised(x), np.repeat(np.arange(4), 120)


class TestAscent:
    def test_bound_is_what_it_says(self):
        _, x, labels = sample(1.0)
        q = np.eye(4)[labels] * 0.8 + 0.05
        end = Ascent(x, EDGE, TARGET, 2.5, 1).run(q, np.ones(len(x), dtype=bool))
        weights, kl = sticks(q.sum(0), 2.5)
        cost = sum(direct(x, q, j, np.flatnonzero(end.graph[:, j]), end.targets[:, j]) for j in range(3))
        plain = sum(p * (weights[k] - np.log(p)) for row in q for k, p in enumerate(row)) - kl - cost
        assert end.bounds[0] == pytest.approx(plain, rel=1e-6)

    def test_bound_rises_and_given_rows_stay(self):
        _, x, labels = sample(0.5)
        fixed, q = rng(4).random(len(x)) < 0.1, rng(5).dirichlet(np.ones(4), len(x))
        q[fixed] = np.eye(4)[labels[fixed]]
        end = Ascent(x, EDGE, TARGET, 2.5, 40).run(q, fixed)
        assert (len(end.bounds) > 5, np.diff(end.bounds).min() > -1e-6) == (True, True)
        np.testing.assert_array_equal(end.q[fixed], q[fixed])
        np.testing.assert_allclose(end.q.sum(1), 1.0)

    def test_the_observational_component_is_found(self):
        w, x, labels = sample(1.5)
        ascent = Ascent(x, EDGE, 20.0, 2.5, 40)
        right = ascent.placed(np.eye(4)[(labels + 2) % 4])
        np.testing.assert_array_equal(right[:, 0], labels == 0)
        np.testing.assert_array_equal(ascent.run(right, np.ones(len(x), dtype=bool)).graph, w.graph)


def test_starts_keep_known_rows():
    x, labels = sample(4.0)[1:]
    known = np.where(rng(1).random(len(x)) < 0.1, labels, -1)
    for seed in range(3):
        found = li.start(x, known, rng(seed))
        np.testing.assert_array_equal(found[known >= 0], known[known >= 0])
        assert (found == labels).mean() > 0.9
    assert set(li.start(x, np.full(len(x), -1), rng(2))) == {0, 1, 2, 3}


def test_problem():
    problem, again = study().problem(rng(2)), rng(2)
    x, labels, w = problem.given["x"], problem.truth["labels"], li.World(again, 3, 0.9, 1.5)
    plain = li.standardised(np.concatenate([w.draw(again, 100, j) for j in (None, 0, 1, 2)]))
    np.testing.assert_allclose((x.mean(0), x.std(0)), (np.zeros(3), np.ones(3)), atol=1e-9)
    for k in range(4):
        np.testing.assert_allclose(np.sort(x[labels == k, 0]), np.sort(plain[100 * k : 100 * k + 100, 0]))
    np.testing.assert_array_equal(problem.truth["graph"], w.graph)
    again.permutation(400)
    np.testing.assert_allclose(problem.given["observational"], li.standardised(w.draw(again, 400)))


@pytest.mark.parametrize("components", ["latent", "tenth", "given", "kmeans", "gaussians"])
def test_easy_problems_are_solved(components):
    for seed in 1, 3, 5:
        problem = study().problem(rng(seed))
        answer = study(components).answer(problem.given, rng(9))
        np.testing.assert_array_equal(answer["graph"], problem.truth["graph"])
        assert ari(answer["labels"], problem.truth["labels"]) > 0.75


def test_rivals_see_what_they_should():
    given = study().problem(rng(1)).given
    changes = {"labels": rng(3).permutation(given["labels"]), "observational": rng(3).standard_normal((400, 3))}
    for components in "latent", "tenth", "kmeans", "gaussians", "none", "observational", "given":
        before = study(components, starts=1).answer(given, rng(4))
        for name, value in changes.items():
            after = study(components, starts=1).answer({**given, name: value}, rng(4))
            reads = components in {"labels": ("tenth", "given"), "observational": ("observational",)}[name]
            assert any(before[a].tolist() != after[a].tolist() for a in before) == reads


def test_costs_are_those_of_a_row(monkeypatch):
    asked, given = [], study().problem(rng(1)).given
    monkeypatch.setattr(li, "Ascent", lambda *args: asked.append(args[1:]) or Ascent(*args))
    study("given", edge_cost=0.1, target_cost=0.2, concentration=3.0, steps=7).answer(given, rng(4))
    assert asked == [(pytest.approx(40.0), pytest.approx(80.0), 3.0, 7)]
    assert not study("empty").answer(given, rng(4))["graph"].any()
