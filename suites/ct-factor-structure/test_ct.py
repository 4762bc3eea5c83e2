"""Correlation thresholding: its cliques against the authors' examples, its fits against a general optimum."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from latentbench.core.types import DataInfo
from latentbench.papers.ct_factor_structure.factors import FactorStudy, support_overlap
from latentbench.papers.ct_factor_structure.rivals import ExploratoryFactors, VariableClusters, rows_of
from latentbench.papers.ct_factor_structure.thresholding import (
    CorrelationThresholding,
    bic,
    cliques_at,
    fit,
    structures,
)
from scipy.optimize import minimize
from sklearn.decomposition import FactorAnalysis

INFO = DataInfo((1,), "real", 1)


def model_of(children, between=0.3, loading=0.6):
    """(support, correlations) of factors with these children."""
    support = np.zeros((1 + max(map(max, children)), len(children)))
    for j, hit in enumerate(children):
        support[hit, j] = 1
    phi = between + (1 - between) * np.eye(len(children))
    s = loading**2 * support @ phi @ support.T
    np.fill_diagonal(s, 1.0)
    return support, s


def columns(support):
    return sorted(support.T.tolist())


class Given(FactorStudy):
    def answer(self, given, rng):
        return {"support": np.ones((given["x"].shape[1], 1))}


TWO = [[0, 1, 2, 3, 4, 5], [3, 4, 5, 6, 7, 8]]


def test_cliques_of_the_authors_example_from_whole_to_single():
    """Supports at four thresholds, derived by hand: all joined, two factors, pairs, shared children alone."""
    support, s = model_of(TWO)
    s[0, 7] = s[7, 0] = -s[0, 7]  # signs mean nothing
    assert columns(cliques_at(s, 0.05)) == [[1.0] * 9]
    assert columns(cliques_at(s, 0.2)) == columns(support)
    assert cliques_at(s, 0.4).shape == (9, 6)
    assert columns(cliques_at(s, 0.5)) == [[0, 0, 0, 1, 1, 1, 0, 0, 0]]
    assert cliques_at(s, 1.0).shape == (9, 0)


def test_a_threshold_is_not_passed_by_what_equals_it():
    s = np.array([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]])
    assert cliques_at(s, 0.5).shape == (3, 0)
    assert columns(cliques_at(s, 0.49)) == [[1, 1, 0]]


@pytest.mark.parametrize("seed", range(6))
def test_cliques_are_the_maximal_ones_that_have_a_member_to_themselves(seed):
    s = np.corrcoef(np.random.default_rng(seed).standard_normal((9, 8)).T)
    graph = nx.from_numpy_array((np.abs(s) > 0.3) & ~np.eye(8, dtype=bool))
    cliques = [set(c) for c in nx.find_cliques(graph) if len(c) > 1]
    own = [c for c in cliques if c - set().union(*([d for d in cliques if d != c] or [set()]))]
    found = [set(np.flatnonzero(c)) for c in cliques_at(s, 0.3).T]
    assert sorted(map(sorted, found)) == sorted(map(sorted, own))


def test_the_path_has_no_structure_of_more_factors_than_half_of_the_variables():
    path = structures(model_of(TWO)[1])
    assert {p.shape[1] for p in path} == {1, 2}
    assert sum(p.shape[1] == 1 for p in path) == 6 + 23  # 0 … 0.10, and of shared children 0.48 … 0.92
    assert any(columns(p) == columns(model_of(TWO)[0]) for p in path)


def test_a_fit_reaches_the_optimum_of_a_general_solver():
    support, s = model_of([[0, 1, 2, 3], [3, 4, 5, 6]])
    s = s + 0.03 * np.sin(np.arange(7)[:, None] * np.arange(7))  # so that no model is exact
    s = (s + s.T) / 2
    np.fill_diagonal(s, 1.0)
    free = support.astype(bool)

    def negative(v):
        loadings = np.zeros_like(support)
        loadings[free] = v[: free.sum()]
        r = np.tanh(v[-1])
        sigma = loadings @ np.array([[1, r], [r, 1]]) @ loadings.T + np.diag(np.exp(v[free.sum() : -1]))
        return 0.5 * (7 * np.log(2 * np.pi) + np.linalg.slogdet(sigma)[1] + np.trace(np.linalg.solve(sigma, s)))

    start = np.concatenate([np.full(free.sum(), 0.5), np.full(7, -0.5), [0.1]])
    best = minimize(negative, start, method="BFGS").fun
    assert fit(s, support, 3000) == pytest.approx(-best, abs=1e-6)
    values = [fit(s, support, k) for k in (1, 5, 20, 40)]
    assert values == sorted(values)
    assert values[-1] <= -best


def test_the_criterion_counts_what_is_free():
    support, s = model_of(TWO)
    free = 12 + 9 + 1
    assert bic(s, support, 100) == pytest.approx(-200 * fit(s, support) + free * np.log(100))


def test_problems_are_as_they_are_said_to_be():
    study = Given(INFO, factors=4, rows=200_000)
    problem = study.problem(np.random.default_rng(0))
    support = problem.truth["support"]
    assert support.shape == (20, 4)
    assert sorted(support.sum(axis=1)) == [1] * 16 + [2] * 4
    np.testing.assert_array_equal(support.sum(axis=0), 6)
    np.testing.assert_array_equal(np.diag(np.roll(support.T @ support, -1, axis=1)), 1)  # shared with the next
    np.testing.assert_allclose(problem.given["x"].var(axis=0), 1.0, atol=0.03)
    s = np.corrcoef(problem.given["x"].T)
    together = (support @ support.T > 0) & ~np.eye(20, dtype=bool)
    pure = support.sum(axis=1) == 1
    both = together[np.ix_(pure, pure)]
    assert s[np.ix_(pure, pure)][both].min() > 0.35
    assert s[np.ix_(pure, pure)][~both & ~np.eye(16, dtype=bool)].max() < 0.2 * 0.64 + 0.01


def test_violations_violate():
    def of(violation):
        return Given(INFO, violation=violation, rows=10).problem(np.random.default_rng(0)).truth["support"]

    pure = of("children")[of("children").sum(axis=1) == 1].sum(axis=0)
    assert sorted(pure) == [0, 4, 4, 4]
    assert of("thresholds").sum() == of("none").sum()
    assert Given(INFO, factors=1, rows=10).problem(np.random.default_rng(0)).truth["support"].tolist() == [[1.0]] * 5


def test_overlap_by_hand():
    truth = np.array([[1, 0], [1, 0], [0, 1], [0, 1.0]])
    assert support_overlap(truth, truth[:, ::-1]) == 1.0
    assert support_overlap(truth, np.ones((4, 1))) == pytest.approx(2 * 2 / (4 + 4))
    assert support_overlap(truth, np.eye(4)) == pytest.approx(2 * 2 / (4 + 4))
    assert support_overlap(truth, np.zeros((4, 1))) == 0.0
    assert support_overlap(truth, truth[:, :1]) == pytest.approx(2 * 2 / (4 + 2))
    assert support_overlap(truth, np.ones((4, 2))) == pytest.approx(2 * 4 / (4 + 8))


@pytest.mark.parametrize("choose", ["bic", "longest"])
def test_it_finds_clear_factors(choose):
    study = CorrelationThresholding(INFO, rows=3000, choose=choose)
    problem = study.problem(np.random.default_rng(1))
    answer = study.answer(problem.given, np.random.default_rng(0))
    assert support_overlap(problem.truth["support"], answer["support"]) == 1.0


def test_without_any_clique_all_is_one_factor():
    study = CorrelationThresholding(INFO)
    x = np.array([[1.0, 1, 1], [-1, -1, -1], [1, 1, 1], [-1, -1, -1]]) * [1, 1, 1]
    answer = study.answer({"x": x}, np.random.default_rng(0))
    assert answer["support"].tolist() == [[1.0]] * 3


def test_rivals_see_what_is_plain():
    study = ExploratoryFactors(INFO, rows=3000)
    problem = study.problem(np.random.default_rng(1))
    assert support_overlap(problem.truth["support"], study.answer(problem.given, None)["support"]) == 1.0
    clusters = VariableClusters(INFO).answer(problem.given, None)["support"]
    np.testing.assert_array_equal(clusters.sum(axis=1), 1)
    s = np.corrcoef(problem.given["x"].T)
    np.testing.assert_allclose(np.cov(rows_of(s).T, bias=True), s, atol=1e-9)
    z = (problem.given["x"] - problem.given["x"].mean(axis=0)) / problem.given["x"].std(axis=0)
    whole, short = (FactorAnalysis(2, svd_method="lapack", tol=1e-6).fit(x).score(x) for x in (z, rows_of(s)))
    assert whole == pytest.approx(short, abs=1e-6)
