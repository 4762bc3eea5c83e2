"""Privacy over neighbours, answers against plain recomputation, noise, metrics by hand, and what the suite says."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.dp_private_similarities import sums
from latentbench.papers.dp_private_similarities.sums import Fourier, Grid, Histogram, Tree, interval, release
from latentbench.spec.loading import load_suite
from scipy.spatial.distance import cdist

from tests.project import REPOSITORY

INFO = DataInfo((1,), "real", 1)
ENDS = np.stack(np.meshgrid(*[np.array([0.0, 0.13, 0.25, 0.5, 0.77, 1.0])] * 3), -1).reshape(-1, 3)
FLAT = Fourier(None, np.zeros((3, 11)), np.zeros(11))  # features of all points are as large as they can be


def rng(seed=0):
    return np.random.default_rng(seed)


def points(n, seed=1):
    return rng(seed).uniform(size=(n, 3))


@pytest.mark.parametrize("structure", [Tree(3, 16, 0.3), Histogram(3, 5), Grid(3, 7), FLAT], ids=lambda s: type(s))
def test_no_neighbour_costs_more_than_epsilon_and_one_costs_it(structure):
    """Log densities of two Laplace laws of scale b differ by |difference of means|_1 / b at most."""
    drawn = SimpleNamespace(laplace=lambda loc, scale, shape: loc + np.full(shape, scale))
    x = points(9)
    exact = structure.statistics(x)
    scales = release(structure, x, 1.7, drawn) - exact
    losses = [(np.abs(structure.statistics(np.vstack([x, p])) - exact) / scales).sum() for p in np.vstack([ENDS, x])]
    assert max(losses) == pytest.approx(1.7)
    if isinstance(structure, Tree):  # composition: each of three coordinates and five levels takes the same share
        np.testing.assert_allclose(scales, 15 / 1.7)
        np.testing.assert_array_equal(np.add.reduceat(exact, 2 ** np.arange(5), axis=1), 9)


def test_noise_is_laplace_of_scale_sensitivity_over_epsilon():
    structure, x = Grid(3, 20_000), points(2)
    noise = (release(structure, x, 2.5, rng()) - structure.statistics(x)) * 2.5 / structure.sensitivity
    assert (noise.mean(), np.abs(noise).mean(), noise.var()) == pytest.approx((0.0, 1.0, 2.0), abs=0.05)


def test_intervals_of_leaves():
    leaves = rng(2).integers(9, size=16)
    heap = Tree(1, 16, 0.3).statistics((np.repeat(np.arange(16), leaves)[:, None] + 0.5) / 16)[0]
    left, right = np.triu_indices(17)
    exact = [leaves[a:b].sum() for a, b in zip(left, right, strict=True)]
    np.testing.assert_array_equal(interval(heap, left, right), exact)
    used = interval(np.ones(32), left, right)  # how many nodes
    assert (used.max(), used[16]) == (6, 1)


def test_trees_answer_within_alpha():
    x, y = points(300), points(40, 2)
    for alpha in 1e-9, 0.3:
        tree = Tree(3, 64, alpha)
        steps = np.abs(sums.cells_of(x, 64)[:, None] - sums.cells_of(y, 64))  # (n, m, d), in leaves
        answers, bounds = tree.answers(tree.statistics(x), y), tree.bounds()
        middle = {s: (a + b - 1) / 2 for a, b in pairwise(bounds) for s in range(a, b)} | {0: 0.0}
        np.testing.assert_allclose(answers, np.vectorize(middle.get)(steps).sum((0, 2)) / 64)
        assert np.abs(answers / (steps.sum((0, 2)) / 64) - 1).max() <= alpha
        assert all(b - 1 <= (1 + alpha) * a for a, b in pairwise(bounds))
    assert len(Tree(3, 64, 1e-9).bounds()) == 64 > len(bounds) + 30


def test_rivals_answer_what_they_can_exactly():
    x, y = points(20), points(30, 3)
    middles, places = (np.floor(5 * x) + 0.5) / 5, np.round(6 * y) / 6
    for structure, at, to in (Histogram(3, 5), y, middles), (Grid(3, 7), places, x):
        np.testing.assert_allclose(structure.answers(structure.statistics(to), at), cdist(at, to, "cityblock").sum(1))
    line = Grid(1, 3)  # half way between places, half way between their sums
    assert line.answers(np.array([[4.0, 1.0, 2.0]]), np.array([[0.25], [0.75]])) == pytest.approx([2.5, 1.5])


def test_features_give_the_kernel_and_projected_ones_its_mean():
    x, y, k = points(3), points(2, 2), 2
    squares = ((y[:, None] - x) ** 2).sum(2)
    plain = Fourier.draw(3, 200_000, 0, rng())
    np.testing.assert_allclose(plain.answers(plain.statistics(x), y), np.exp(-squares).sum(1), rtol=0.02)
    projected = [Fourier.draw(3, 50, k, rng(s)) for s in range(4000)]
    assert (projected[0].projection.shape, plain.projection) == ((3, k), None)
    mean = np.mean([f.answers(f.statistics(x), y) for f in projected], axis=0)
    np.testing.assert_allclose(mean, ((1 + 2 * squares / k) ** (-k / 2)).sum(1), rtol=0.02)


@pytest.mark.parametrize("rule", ["tree", "histogram", "grid", "fourier"])
def test_sums_with_a_large_budget(rule):
    settings = {"tree": {"alpha": 0.01}, "grid": {"cells": 512}, "fourier": {"features": 20_000}}.get(rule, {})
    study = sums.PrivateSums(INFO, rule=rule, dims=3, rows=300, queries=20, epsilon=1e9, **settings)
    problem = study.problem(rng(4))
    x, y = problem.given["x"], problem.given["y"]
    plain = np.exp(-cdist(y, x, "sqeuclidean")) if rule == "fourier" else cdist(y, x, "cityblock")
    np.testing.assert_allclose(problem.truth["sums"], plain.sum(1))
    assert (x.shape, y.shape) == ((300, 3), (20, 3))
    np.testing.assert_allclose(study.answer(problem.given, rng())["sums"], plain.sum(1), rtol=0.03)
    study.epsilon = 1e-3
    assert np.abs(study.answer(problem.given, rng())["sums"] / plain.sum(1) - 1).mean() > 1


def test_laws_of_points():
    cube = sums.PrivateSums(INFO, rows=4000, dims=3).problem(rng(5)).given
    assert 0 <= cube["x"].min() < cube["x"].max() <= 1
    assert cube["y"].mean() == pytest.approx(0.5, abs=0.02)
    nearest = np.sort(cdist(cube["x"][:300], cube["x"]), axis=1)
    assert 0.05 < nearest[:, 500].mean() < 0.25  # a fifth of the points is about 0.1 sqrt(6) away
    given = sums.PrivateSums(INFO, rule="fourier", dims=400, rows=500, queries=50).problem(rng(5)).given
    far = cdist(given["y"], given["x"]).ravel()
    assert sorted([far[far < 0.9].mean(), far[far > 0.9].mean()]) == pytest.approx([0.71, 1.22], abs=0.06)


def test_measures_by_hand(monkeypatch):
    pairs = [[np.array([2.0, 4.0]), np.array([3.0, 3.0])], [np.ones(2), np.ones(2)]]
    answered = SimpleNamespace(answered=lambda: iter([[{"sums": one} for one in pair] for pair in pairs]))
    assert sums.sums_relative_error(answered, None, {}, None).value == pytest.approx(0.1875)
    study = sums.PrivateSums(INFO, problems=2)
    monkeypatch.setattr(study, "microseconds", lambda i: 10.0 ** (1 + 2 * i))
    assert sums.query_decades(study, None, {}, None).value == pytest.approx(2.0)
    with pytest.raises(UserError, match="measure private-sums"):
        sums.query_decades(answered, None, {}, None)


def test_a_query_is_timed_after_the_release(monkeypatch):
    study, calls = sums.PrivateSums(INFO, rows=30, queries=5, problems=1), []
    study.start(None, torch.Generator().manual_seed(1))
    clock = iter(np.arange(0, 100, 0.5))
    monkeypatch.setattr(sums.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(sums, "release", lambda *args: calls.append(next(clock)) or release(*args))
    assert study.microseconds(0) == pytest.approx(0.5e6 / 5)
    assert len(calls) == 1
    with pytest.raises(UserError, match="power of two"):
        sums.PrivateSums(INFO, cells=100)


def test_the_suite_says_who_is_set_how_and_what_is_claimed():
    suite = load_suite(REPOSITORY / "suites/dp-private-similarities/suite.yaml").suite
    assert {name: (*one.params.values(), one.baseline) for name, one in suite.methods.items()} == {
        "tree": ("tree", 256, 0.1, False),
        "grid-256": ("grid", 256, True),
        "grid-16": ("grid", 16, True),
        "histogram": ("histogram", 32, True),
        "one-cell": ("histogram", 1, True),
        "projected": ("fourier", 400, 64, False),
        "features": ("fourier", 400, True),
        "features-few": ("fourier", 110, True),
    }
    assert round(2048 * 110 / (2048 * 64 + 64 * 400), 1) == 1.4  # multiplications of a query
    for name, data in suite.datasets.items():
        sizes = {"dims": 4, "rows": 10000} if "l1" in name else {"dims": 2048, "rows": 5000, "queries": 200}
        assert data.params == {"epsilon": float(name.split("-")[1]), **sizes}
    assert {
        (
            c.id,
            getattr(c, "pool", None),
            o.better,
            o.worse,
            o.metric,
            o.margin,
            *((g.better_than, g.at_most) for g in o.gate),
        )
        for c in suite.claims
        for o in (getattr(c, "cells", ()) or (c,))
    } == {
        ("tree-over-plain-noise", "all", "tree", "grid-256", "error", 0.0, ("one-cell", None)),
        *(("tree-over-coarse", "all", "tree", w, "error", 0.0, ("one-cell", None)) for w in ("grid-16", "histogram")),
        ("projection-faster", None, "projected", "features", "query", 0.3, (None, 0.2)),
        ("projection-at-equal-cost", "mean", "projected", "features-few", "error", 0.0, (None, 0.3)),
    }
