"""Draws against loops, costs and bounds against plain recomputation, graphs against enumeration, easy problems."""

from __future__ import annotations

from itertools import product

import networkx as nx
import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.metrics.representation import ari
from latentbench.papers.dcd_latent_interventions import latent_interventions
from latentbench.papers.dcd_latent_interventions.latent_interventions import InterventionalMixture, World
from latentbench.papers.dcd_latent_interventions.mixture import (
    Ascent,
    best_graph,
    gaussian_cost,
    local,
    log_normal,
    sticks,
)
from scipy.stats import norm
from torch.distributions import Beta, kl_divergence

INFO = DataInfo((1,), "real", 1)
EDGE, TARGET = 3.7, 2.3


def rng(seed=0):
    return np.random.default_rng(seed)


def world(d=4, seed=3, degree=1.2, shift=2.0):
    return World(rng(seed), d, degree, shift)


def bits(sets, d):
    return (np.asarray(sets)[..., None] >> np.arange(d)) & 1


class TestWorld:
    @pytest.mark.parametrize("target", [None, 0, 1, 2, 3])
    def test_rows_are_made_variable_by_variable(self, target):
        w = world()
        assert w.graph.sum() > 2
        for row, e in zip(w.draw(rng(7), 5, target), rng(7).standard_normal((5, 4)), strict=True):
            for j, parents in enumerate(w.graph.T.astype(bool)):
                if j == target:
                    assert row[j] == pytest.approx(w.means[j] + 0.2 * e[j])
                else:
                    noise = w.scale[j] * e[j] + w.offset[j]
                    value = w.weights[parents, j] @ row[parents] + 0.2 * noise if parents.any() else noise
                    assert row[j] == pytest.approx(value)

    def test_sizes(self):
        worlds = [World(rng(s), 6, 1.5, 2.0) for s in range(200)]
        assert np.mean([w.graph.sum() for w in worlds]) == pytest.approx(9.0, abs=0.5)
        assert all(nx.is_directed_acyclic_graph(nx.DiGraph(w.graph)) for w in worlds)
        for name, low, high in ("weights", 0.25, 1.0), ("means", 2.0, 4.0), ("scale", 0.4, 0.56):
            values = np.concatenate([getattr(w, name)[getattr(w, name) != 0] for w in worlds])
            assert (np.abs(values).min(), np.abs(values).max()) == pytest.approx((low, high), rel=0.03)
            assert (values > 0).mean() == pytest.approx(1.0 if name == "scale" else 0.5, abs=0.06)


def test_variance_is_the_likeliest():
    errors = rng().standard_normal(7) * 2
    cost, variance = gaussian_cost(np.array(7.0), np.array((errors**2).sum()))

    def plain(v):  # one more row of a small squared error, whose constant is left out
        return -norm(0, v**0.5).logpdf(errors).sum() + 0.5 * (np.log(v) + 0.001 / v)

    assert cost == pytest.approx(plain(variance))
    assert log_normal(errors, 0.3, variance) == pytest.approx(norm(0.3, variance**0.5).logpdf(errors))
    assert plain(variance) < min(plain(variance * 1.05), plain(variance * 0.95))


def direct(x, q, j, parents, targets):
    """Cost of variable j by weighted least squares on rows."""
    phi = np.column_stack([np.ones(len(x)), x[:, parents]])
    w = q[:, ~targets].sum(1)
    root = np.sqrt(w)[:, None]
    errors = x[:, j] - phi @ np.linalg.lstsq(phi * root, x[:, j] * root[:, 0], rcond=None)[0]
    cost = gaussian_cost(w.sum(), (w * errors**2).sum())[0] + EDGE * len(parents)
    for k in np.flatnonzero(targets):
        mean = q[:, k] @ x[:, j] / q[:, k].sum()
        cost += gaussian_cost(q[:, k].sum(), q[:, k] @ (x[:, j] - mean) ** 2)[0] + TARGET
    return cost


def test_local_costs_are_the_least():
    w = world(d=3, seed=4)
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


def test_the_better_of_two_starts_counts():
    less = 0
    for seed in range(5, 12):
        w = world(d=3, seed=seed)
        x = np.concatenate([w.draw(rng(1 + k), 60, j) for k, j in enumerate((None, 0, 2))])
        phi, q = np.column_stack([np.ones(180), x]), np.eye(3)[np.repeat([0, 1, 2], 60)] * 0.94 + 0.02
        moments = np.einsum("nk,nf,ng->kfg", q, phi, phi)
        for j in range(3):
            both, one = (
                local(j, moments, EDGE, TARGET, start).costs for start in (np.arange(3) > 0, np.zeros(3, bool))
            )
            assert (both <= one).all()
            less += (both < one - 1e-6).any()
    assert less > 0


def test_best_graph_of_all():
    d, costs = 4, rng(5).random((4, 16)) + 0.05 * bits(np.arange(16), 4).sum(1)
    costs[bits(np.arange(16), d).T == 1] = np.inf
    least, best = np.inf, None
    for parents in product(range(16), repeat=d):
        cost = sum(costs[j, p] for j, p in enumerate(parents))
        if cost < least and nx.is_directed_acyclic_graph(nx.DiGraph(bits(parents, d).T)):
            least, best = cost, parents
    assert best_graph(costs).tolist() == list(best)


def test_sticks():
    counts, c = np.array([5.0, 0.3, 9.0, 2.0]), 2.5
    weights, kl = sticks(counts, c)
    a, b = torch.tensor(1 + counts[:-1]), torch.tensor([c + 11.3, c + 11.0, c + 2.0], dtype=torch.float64)
    assert kl == pytest.approx(float(kl_divergence(Beta(a, b), Beta(torch.ones_like(a), torch.full_like(a, c))).sum()))
    v = rng(1).beta(a.numpy(), b.numpy(), size=(200_000, 3))
    left = np.cumprod(1 - v, axis=1)
    pi = np.concatenate([v[:, :1], v[:, 1:] * left[:, :-1], left[:, -1:]], axis=1)
    np.testing.assert_allclose(pi.sum(1), 1.0)
    np.testing.assert_allclose(weights, np.log(pi).mean(0), atol=0.02)


def sample(shift=1.0, n=120, seed=8):
    w = World(rng(seed), 3, 1.0, shift)
    x = np.concatenate([w.draw(rng(1), n), *(w.draw(rng(2 + j), n, j) for j in range(3))])
    return w, latent_interventions.standardised(x), np.repeat(np.arange(4), n)


def ascent(x, **settings):
    return Ascent(x, **{"edge_cost": EDGE, "target_cost": TARGET, "concentration": 2.5, "steps": 40, **settings})


class TestAscent:
    def test_bound_is_what_it_says(self):
        _, x, labels = sample()
        q = np.eye(4)[labels] * 0.8 + 0.05
        end = ascent(x, steps=1).run(q, np.ones(len(x), dtype=bool))
        weights, kl = sticks(q.sum(0), 2.5)
        cost = sum(direct(x, q, j, np.flatnonzero(end.graph[:, j]), end.targets[:, j]) for j in range(3))
        plain = sum(p * (weights[k] - np.log(p)) for row in q for k, p in enumerate(row)) - kl - cost
        assert end.bounds[0] == pytest.approx(plain, rel=1e-6)

    def test_bound_rises_and_given_rows_stay(self):
        _, x, labels = sample(0.5)
        fixed, q = rng(4).random(len(x)) < 0.1, rng(5).dirichlet(np.ones(4), len(x))
        q[fixed] = np.eye(4)[labels[fixed]]
        end = ascent(x).run(q, fixed)
        assert len(end.bounds) > 5
        assert np.diff(end.bounds).min() > -1e-6
        np.testing.assert_array_equal(end.q[fixed], q[fixed])
        assert np.abs(end.q[~fixed] - q[~fixed]).max() > 0.3
        np.testing.assert_allclose(end.q.sum(1), 1.0)

    def test_the_observational_component_is_found(self):
        w, x, labels = sample(1.5)
        moved = np.eye(4)[(labels + 2) % 4]
        right = ascent(x, target_cost=20.0).placed(moved)
        np.testing.assert_array_equal(right[:, 0], labels == 0)
        assert right.sum(0).tolist() == [120.0] * 4
        end = ascent(x, target_cost=20.0).run(right, np.ones(len(x), dtype=bool))
        np.testing.assert_array_equal(end.graph, w.graph)


class TestStudy:
    DESIGN = {"variables": 3, "rows": 400, "degree": 0.9, "shift": 1.5}

    def test_problem(self):
        problem, again = InterventionalMixture(INFO, **self.DESIGN).problem(rng(2)), rng(2)
        x, labels, w = problem.given["x"], problem.truth["labels"], World(again, 3, 0.9, 1.5)
        plain = latent_interventions.standardised(np.concatenate([w.draw(again, 100, j) for j in (None, 0, 1, 2)]))
        np.testing.assert_allclose((plain.mean(0), plain.std(0)), (np.zeros(3), np.ones(3)), atol=1e-9)
        for k in range(4):
            np.testing.assert_allclose(np.sort(x[labels == k, 0]), np.sort(plain[100 * k : 100 * k + 100, 0]))
        np.testing.assert_array_equal(problem.truth["graph"], w.graph)
        np.testing.assert_array_equal(problem.given["labels"], labels)
        again.permutation(400)
        expected = latent_interventions.standardised(w.draw(again, 400))
        np.testing.assert_allclose(problem.given["observational"], expected)

    @pytest.mark.parametrize("components", ["latent", "tenth", "given", "kmeans", "gaussians"])
    def test_easy_problems_are_solved(self, components):
        study = InterventionalMixture(INFO, components=components, starts=3, **self.DESIGN)
        for seed in range(3):
            problem = study.problem(rng(seed))
            answer = study.answer(problem.given, rng(9))
            np.testing.assert_array_equal(answer["graph"], problem.truth["graph"])
            assert ari(answer["labels"], problem.truth["labels"]) > 0.8

    def test_rivals_see_what_they_should(self):
        given = InterventionalMixture(INFO, **self.DESIGN).problem(rng(1)).given
        changes = {"labels": rng(3).permutation(given["labels"]), "observational": rng(3).standard_normal((400, 3))}
        for components in "latent", "tenth", "kmeans", "none", "observational", "given":
            study = InterventionalMixture(INFO, components=components, starts=1, **self.DESIGN)
            before = study.answer(given, rng(4))
            for name, value in changes.items():
                after = study.answer({**given, name: value}, rng(4))
                reads = components in {"labels": ("tenth", "given"), "observational": ("observational",)}[name]
                assert any(before[a].tolist() != after[a].tolist() for a in before) == reads
