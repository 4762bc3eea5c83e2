"""Sensitivities over neighbours, answers against plain recomputation, noise, descent by autograd, metrics by hand."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.dp_private_similarities import sums
from latentbench.papers.dp_private_similarities.structures import (
    Fourier,
    Grid,
    Histogram,
    Tree,
    Uniform,
    cells_of,
    fourier,
    interval,
    release,
)
from latentbench.spec.loading import load_suite
from scipy.spatial.distance import cdist

from tests.project import REPOSITORY

INFO = DataInfo((1,), "real", 1)
ENDS = np.stack(np.meshgrid(*[np.array([0.0, 0.13, 0.25, 0.5, 0.77, 1.0])] * 3), -1).reshape(-1, 3)
STRUCTURES = [Tree(3, 16, 0.3), Histogram(3, 5), Grid(3, 7), Fourier(None, np.zeros((3, 11)), np.zeros(11))]


def rng(seed=0):
    return np.random.default_rng(seed)


def points(n, seed=1):
    return rng(seed).uniform(size=(n, 3))


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: type(s).__name__)
def test_the_sensitivity_is_the_most_that_one_point_adds(structure):
    x = points(9)
    before = structure.statistics(x)
    added = [np.abs(structure.statistics(np.vstack([x, p])) - before).sum() for p in np.vstack([ENDS, x[:2]])]
    assert max(added) == pytest.approx(structure.sensitivity)


def test_features_add_no_more_than_they_say_and_nothing_else_is_released():
    structure = fourier(3, 40, 0.7, 2, rng())
    added = np.abs([structure.statistics(p[None]) for p in 9 * points(400)]).sum(1)
    assert added.max() <= structure.sensitivity == pytest.approx(40 * 2**0.5)
    assert Uniform(9).statistics(points(9)).size == Uniform(9).sensitivity == 0


def test_noise_is_laplace_of_scale_sensitivity_over_epsilon():
    structure, x = Grid(3, 20_000), points(2)
    noise = (release(structure, x, 2.5, rng()) - structure.statistics(x)) * 2.5 / structure.sensitivity
    assert (noise.mean(), np.abs(noise).mean(), noise.var()) == pytest.approx((0.0, 1.0, 2.0), abs=0.05)


def test_intervals_of_leaves():
    leaves, heap = rng(2).integers(9, size=16), np.zeros(32)
    heap[16:] = leaves
    for i in range(15, 0, -1):
        heap[i] = heap[2 * i] + heap[2 * i + 1]
    tree = Tree(2, 16, 0.3).statistics((np.repeat(np.arange(16), leaves)[:, None] + [0.5, 0.01]) / 16)
    np.testing.assert_array_equal(tree[:, 1:], np.tile(heap[1:], (2, 1)))
    left, right = np.triu_indices(17)
    np.testing.assert_array_equal(
        interval(heap, left, right), [leaves[a:b].sum() for a, b in zip(left, right, strict=True)]
    )
    used = interval(np.ones(32), left, right)
    assert (used.max(), interval(np.ones(32), np.array([0]), np.array([16]))) == (6, [1])


def test_trees_answer_within_alpha():
    x, y = points(300), points(40, 2)
    for alpha in 1e-9, 0.3:
        tree = Tree(3, 64, alpha)
        steps = np.abs(cells_of(x, 64)[:, None] - cells_of(y, 64))  # (n, m, d), in leaves
        answers, bounds = tree.answers(tree.statistics(x), y), tree.bounds()
        middle = {s: (a + b - 1) / 2 for a, b in pairwise(bounds) for s in range(a, b)} | {0: 0.0}
        np.testing.assert_allclose(answers, np.vectorize(middle.get)(steps).sum((0, 2)) / 64)
        assert np.abs(answers / (steps.sum((0, 2)) / 64) - 1).max() <= alpha
        assert all(b - 1 <= (1 + alpha) * a for a, b in pairwise(bounds))
    assert len(Tree(3, 64, 1e-9).bounds()) == 64 > len(bounds) + 30


def test_rivals_answer_what_they_can_exactly():
    y = points(30, 3)
    middles, places = (np.floor(5 * points(20)) + 0.5) / 5, np.round(6 * y) / 6
    histogram, grid = Histogram(3, 5), Grid(3, 7)
    np.testing.assert_allclose(
        histogram.answers(histogram.statistics(middles), y), cdist(y, middles, "cityblock").sum(1)
    )
    answers = grid.answers(grid.statistics(points(20)), np.vstack([places, (places[:1] + places[1:2]) / 2]))
    np.testing.assert_allclose(answers[:-1], cdist(places, points(20), "cityblock").sum(1))
    many = points(200_000)
    np.testing.assert_allclose(
        Uniform(len(many)).answers(np.zeros(0), y[:3]) / len(many), np.abs(many - y[:3, None]).sum(2).mean(1), rtol=0.01
    )
    line = Grid(1, 3)  # half way between places, half way between their sums
    assert line.answers(np.array([[4.0, 1.0, 2.0]]), np.array([[0.25], [0.75]])) == pytest.approx([2.5, 1.5])


def test_features_give_the_kernel_and_projected_ones_its_mean():
    x, y, width, k = points(3), points(2, 2), 0.8, 2
    squares = ((y[:, None] - x) ** 2).sum(2) / width**2
    plain = fourier(3, 200_000, width, 0, rng())
    np.testing.assert_allclose(plain.answers(plain.statistics(x), y), np.exp(-squares).sum(1), rtol=0.02)
    projected = [fourier(3, 50, width, k, rng(s)) for s in range(4000)]
    assert (projected[0].projection.shape, plain.projection) == ((3, k), None)
    mean = np.mean([f.answers(f.statistics(x), y) for f in projected], axis=0)
    np.testing.assert_allclose(mean, ((1 + 2 * squares / k) ** (-k / 2)).sum(1), rtol=0.02)


@pytest.mark.parametrize("rule", ["tree", "histogram", "grid", "fourier"])
def test_sums_with_a_large_budget(rule):
    settings = {"tree": {"alpha": 0.01}, "grid": {"cells": 512}, "fourier": {"features": 20_000, "width": 0.9}}
    study = sums.PrivateSums(INFO, rule=rule, dims=3, rows=300, queries=20, epsilon=1e9, **settings.get(rule, {}))
    problem = study.problem(rng(4))
    x, y = problem.given["x"], problem.given["y"]
    plain = np.exp(-cdist(y, x, "sqeuclidean") / 0.81) if rule == "fourier" else cdist(y, x, "cityblock")
    np.testing.assert_allclose(problem.truth["sums"], plain.sum(1))
    assert (x.shape, y.shape) == ((300, 3), (20, 3))
    np.testing.assert_allclose(study.answer(problem.given, rng())["sums"], plain.sum(1), rtol=0.03)


def test_laws_of_points():
    cube = sums.PrivateSums(INFO, rows=4000, dims=3).problem(rng(5)).given
    assert 0 <= cube["x"].min() < cube["x"].max() <= 1
    assert cube["y"].mean() == pytest.approx(0.5, abs=0.02)
    nearest = np.sort(cdist(cube["x"][:300], cube["x"]), axis=1)
    assert 0.05 < nearest[:, 500].mean() < 0.25  # a fifth of the points is about 0.1 sqrt(6) away
    given = sums.PrivateSums(INFO, rule="fourier", dims=400, rows=500, queries=50).problem(rng(5)).given
    far = cdist(given["y"], given["x"]).ravel()
    assert sorted([far[far < 0.9].mean(), far[far > 0.9].mean()]) == pytest.approx([0.71, 1.22], abs=0.06)


def test_descent_is_that_of_clipped_gradients():
    x, y = rng(6).standard_normal((8, 3)) * 2, np.arange(8)
    found = sums.descent(x, y, 2, 0.7, 1e18, 1e-5, rng())
    weights = torch.zeros(3, sums.CLASSES, dtype=torch.float64)
    for _ in range(2):
        total = torch.zeros_like(weights)
        for row, label in zip(torch.tensor(x), torch.tensor(y), strict=True):
            w = weights.clone().requires_grad_()
            g = torch.autograd.grad(torch.nn.functional.cross_entropy(row @ w, label), w)[0]
            total += g / max(1.0, float(g.norm()))
        weights = weights - 0.7 / 8 * total
    np.testing.assert_allclose(found, weights, atol=1e-6)


def test_noise_of_descent_is_what_its_privacy_asks():
    ones, epsilon, delta, steps = SimpleNamespace(standard_normal=np.ones), 1.7, 1e-4, 3
    moved = sums.descent(np.zeros((5, 2)), np.zeros(5, dtype=int), steps, 0.4, epsilon, delta, ones)
    sigma = -moved[0, 0] * 5 / 0.4 / steps
    rho = steps / (2 * sigma**2)
    assert rho + 2 * (rho * np.log(1 / delta)) ** 0.5 == pytest.approx(epsilon)


def classes(**settings):
    return sums.PrivateClasses(INFO, **{"rows": 600, "queries": 200, "dims": 40, "epsilon": 1e9, **settings})


def test_a_row_counts_in_one_class_and_with_the_whole_budget(monkeypatch):
    asked, study = [], classes(epsilon=1.3, features=9)
    monkeypatch.setattr(sums, "release", lambda s, x, e, r: asked.append((s, x, e)) or release(s, x, e, r))
    given = study.problem(rng(2)).given
    study.answer(given, rng())
    assert {(id(s), e) for s, _, e in asked} == {(id(asked[0][0]), 1.3)}
    for c, (_, x, _) in enumerate(asked):
        np.testing.assert_array_equal(x, given["x"][given["y"] == c])


def test_classes_are_found_where_they_are_plain():
    problem = classes(apart=3.0).problem(rng(3))
    np.testing.assert_allclose(np.linalg.norm(problem.given["new"], axis=1), 1.0)
    for settings in {"features": 2000}, {"rule": "descent", "steps": 60}:
        study = classes(apart=3.0, **settings)
        assert sums.wrong(problem.truth, study.answer(problem.given, rng())) < 0.03
        assert sums.wrong(problem.truth, classes(**{**settings, "epsilon": 1e-3}).answer(problem.given, rng())) > 0.6
    overlap = classes(apart=1.1, features=2000).problem(rng(3))
    assert 0.01 < sums.wrong(overlap.truth, classes(rule="descent", steps=60).answer(overlap.given, rng())) < 0.12


def metric(name, model):
    return getattr(sums, name)(model, None, {}, None)


def answered(study):
    study.start(None, torch.Generator().manual_seed(1))
    while not study.done():
        study.advance(None, None)
    return study


def test_measures_by_hand(monkeypatch):
    pair = (
        ({"sums": np.array([2.0, 4.0])}, {"sums": np.array([3.0, 3.0])}),
        ({"sums": np.ones(2)}, {"sums": np.ones(2)}),
    )
    assert metric("sums_relative_error", SimpleNamespace(answered=lambda: iter(pair))).value == pytest.approx(0.1875)
    study = answered(sums.PrivateSums(INFO, rows=30, queries=5, problems=2))
    monkeypatch.setattr(study, "microseconds", lambda i: 10.0 ** (1 + 2 * i))
    assert metric("query_decades", study).value == pytest.approx(2.0)
    mine, other = answered(classes(epsilon=0.3)), answered(classes(epsilon=0.3, rule="descent"))
    more = metric("misclassified", mine).value - metric("misclassified", other).value
    assert metric("misclassified_more", mine).value == pytest.approx(more) != 0
    monkeypatch.setattr(sums, "answer_ms", lambda *_: SimpleNamespace(value=1000.0))
    assert metric("answer_decades", mine).value == pytest.approx(3.0)


@pytest.mark.parametrize("name", ["query_decades", "misclassified", "misclassified_more", "answer_decades"])
def test_foreign_studies_are_refused(name):
    with pytest.raises(UserError, match="measure private-"):
        metric(name, SimpleNamespace())


def test_a_query_is_timed_after_the_release(monkeypatch):
    study, calls = answered(sums.PrivateSums(INFO, rows=30, queries=5, problems=1)), []
    clock = iter(np.arange(0, 100, 0.5))
    monkeypatch.setattr(sums.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(sums, "release", lambda *args: calls.append(next(clock)) or release(*args))
    assert study.microseconds(0) == pytest.approx(0.5e6 / 5)
    assert len(calls) == 1
    with pytest.raises(UserError, match="power of two"):
        sums.PrivateSums(INFO, cells=100)


def test_the_suite_says_who_is_set_how_and_what_is_claimed():
    suite = load_suite(REPOSITORY / "suites/dp-private-similarities/suite.yaml").suite
    assert {name: (one.params, one.baseline) for name, one in suite.methods.items()} == {
        "tree": ({"rule": "tree", "cells": 256, "alpha": 0.1}, False),
        "grid-256": ({"rule": "grid", "cells": 256}, True),
        "grid-16": ({"rule": "grid", "cells": 16}, True),
        "histogram": ({"rule": "histogram", "cells": 32}, True),
        "uniform": ({"rule": "uniform"}, True),
        "projected": ({"rule": "fourier", "features": 400, "project": 64}, False),
        "features": ({"rule": "fourier", "features": 400}, True),
        "features-few": ({"rule": "fourier", "features": 89}, True),
        "similarity": ({}, False),
        "descent": ({"rule": "descent"}, True),
    }
    assert round((1024 * 64 + 64 * 400) / 1024) == 89  # multiplications of a query
    assert all(data.params["epsilon"] == float(name.split("-")[1]) for name, data in suite.datasets.items())
    study = sums.PrivateClasses(INFO)
    assert (study.kernel, study.training, study.apart) == ((300, 1.0, 0), (10, 20.0), 1.1)
    claims = {c.id: [*(getattr(c, "cells", ()) or (c,))] for c in suite.claims}
    orders = {(k, o.better, o.worse, o.metric, o.margin) for k, cs in claims.items() for o in cs if o.kind == "order"}
    assert orders == {
        ("tree-over-plain-noise", "tree", "grid-256", "error", 0.0),
        *(("tree-over-coarse", "tree", worse, "error", 0.0) for worse in ("grid-16", "histogram")),
        ("projection-faster", "projected", "features", "query", 0.3),
        ("projection-at-equal-cost", "projected", "features-few", "error", 0.0),
        ("similarity-faster", "similarity", "descent", "time", 1.0),
        ("tree-over-uniform", "tree", "uniform", "error", 0.0),
    }
    assert {(c.metric, c.at_most, c.at_least) for c in claims["similarity-comparable"]} == {("more-wrong", 0.05, None)}
    gates = {k: {(g.metric, g.better_than, g.at_most) for c in cs for g in c.gate} for k, cs in claims.items()}
    assert gates == {
        **{k: {("error", "uniform", None)} for k in ("tree-over-plain-noise", "tree-over-coarse")},
        "projection-faster": {("error", None, 0.2)},
        "projection-at-equal-cost": {("error", None, 0.5)},
        **{k: {("wrong", None, 0.3)} for k in ("similarity-faster", "similarity-comparable")},
        "tree-over-uniform": set(),
    }
