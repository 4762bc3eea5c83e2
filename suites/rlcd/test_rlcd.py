"""Tests of rank by what defines them, graphs recovered from population covariances, F1 by enumeration."""

from __future__ import annotations

from itertools import combinations, permutations

import networkx as nx
import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.rlcd import graphs, rivals, search
from scipy.stats import chi2

INFO = DataInfo((1,), "real", 1)
ALL = [(kind, i) for kind, some in graphs.GRAPHS.items() for i in range(len(some))]
#: Figure 4 of the paper: X2 is part of a cover with L2 and, with X3, of one that has a collider as its child.
FIGURE_4 = "L1>X1 L2 X2 X3; L2 X2>X4 X5 X6; X2 X3>X7; X3>X8"


def rng(seed=0):
    return np.random.default_rng(seed)


def population(graph, seed=0):
    """Skeleton, number of observed variables, and their exact correlations, variables in a random order."""
    adjacency, p = graphs.directed(graph)
    order = np.append(rng(seed).permutation(p), np.arange(p, len(adjacency)))
    adjacency = adjacency[order][:, order]
    strengths = adjacency * rng(seed).uniform(1, 3, adjacency.shape) * rng(seed + 1).choice([-1, 1], adjacency.shape)
    total = np.linalg.inv(np.eye(len(adjacency)) - strengths)
    s = (total.T @ np.diag(rng(seed).uniform(0.5, 1, len(adjacency))) @ total)[:p, :p]
    return adjacency + adjacency.T, p, s / np.sqrt(np.outer(s.diagonal(), s.diagonal()))


def exact(s):
    """Tests that see what is not zero in the population."""
    return search.Ranks(s, 1e9, 1e-4)


class TestRanks:
    @pytest.mark.parametrize(("c", "given", "rank"), [([0, 3], [], 1), ([2, 6], [1], 1), ([0, 1, 5], [4], 2), ([5], [3, 6], 2)])
    def test_are_canonical_correlations_of_the_whole_sets(self, c, given, rank):
        x = rng(1).standard_normal((90, 7)) @ (np.eye(7) + 0.15 * rng(2).standard_normal((7, 7)))
        s = np.cov(x.T)
        rest = sorted(set(range(7)) - set(c) - set(given))
        a, b = c + given, rest + given
        root_a, root_b = (np.linalg.inv(np.linalg.cholesky(s[np.ix_(i, i)])) for i in (a, b))
        rho = np.linalg.svd(root_a @ s[np.ix_(a, b)] @ root_b.T)[1][rank:]
        statistic = -(90 - (len(a) + len(b) + 3) / 2) * np.log(1 - rho**2).sum()
        p = chi2.sf(statistic, (len(a) - rank) * (len(b) - rank))
        assert 1e-12 < p < 0.999
        for alpha, expected in [(0.99 * p, True), (1.001 * p, False)]:
            tests = search.Ranks(s, 90, alpha)
            sets = np.array([c, c[::-1]])
            assert tests.deficient(sets, set(c + rest), given, rank).tolist() == [expected] * 2

    def test_have_their_level(self):
        rejected = 0
        for seed in range(300):
            x = rng(seed).standard_normal((400, 1)) + rng(seed + 1000).standard_normal((400, 5))
            rejected += not search.Ranks(np.cov(x.T), 400, 0.1).deficient(np.array([[0, 2]]), range(5), (), 1)[0]
        assert rejected / 300 == pytest.approx(0.1, abs=0.05)


def test_skeleton_without_hidden_variables():
    """It is that of the graph (corollary 1)."""
    adjacency = np.triu(rng(5).uniform(size=(7, 7)) < 0.45, 1)
    total = np.linalg.inv(np.eye(7) - adjacency * rng(6).uniform(0.5, 2, (7, 7)))
    found = search.ci_skeleton(exact(total.T @ total), 5)
    assert {frozenset(e) for e in found.edges} == {frozenset(e) for e in zip(*np.nonzero(adjacency), strict=True)}
    empty = search.ci_skeleton(search.Ranks(np.corrcoef(rng(7).standard_normal((4, 3000))), 3000, 1e-4))
    assert not empty.edges
    assert search.ci_skeleton(search.Ranks(np.corrcoef(rng(7).standard_normal((4, 3000))), 3000, 0.999), 0).edges


@pytest.mark.parametrize("deepest", [0, 1])
def test_skeleton_takes_conditions_from_neighbours(deepest):
    s = population("X1>X2; X2>X3", 3)[2]
    chain = nx.to_numpy_array(search.ci_skeleton(exact(s), deepest), nodelist=range(3))
    assert chain.sum() == (4 if deepest else 6)


def test_groups_of_cliques():
    """Appendix B.4, figure 3 (b)."""
    graph = nx.Graph([*combinations(range(1, 7), 2), (2, 7), (3, 7), (3, 8), (8, 9), *combinations(range(9, 13), 2)])
    assert sorted(search.groups(graph), key=min) == [set(range(1, 8)), set(range(9, 13))]


@pytest.mark.parametrize(("kind", "i"), ALL)
def test_graphs_are_found_exactly(kind, i):
    true, p, s = population(graphs.GRAPHS[kind][i], i)
    found = search.discover(exact(s))
    assert len(found) == len(true)
    assert graphs.skeleton_f1(true, found, p) == 1.0


@pytest.mark.parametrize("graph", [FIGURE_4, graphs.GRAPHS["tree"][0], graphs.GRAPHS["measurement"][0]])
def test_graphs_are_found_exactly_by_groups(graph):
    true, p, s = population(graph, 4)
    found = search.discover(exact(s), search.ci_skeleton(exact(s), 6))
    assert len(found) == len(true)
    assert graphs.skeleton_f1(true, found, p) == 1.0


def test_largest_cover():
    true, p, s = population("L1 L2>X1 X2 X3 X4 X5 X6", 1)
    assert len(search.discover(exact(s), largest=1)) == p
    assert graphs.skeleton_f1(true, search.discover(exact(s), largest=2), p) == 1.0


def test_hidden_causes_alone():
    """Corollary 1: where observed variables are leaves it is enough; else it is not."""
    true, p, s = population("L1>X1 X2 L2 L3; L2>X3 X4 X5; L3>X6 X7 X8", 2)
    assert graphs.skeleton_f1(true, search.discover(exact(s), causes=False), p) == 1.0
    true, p, s = population(graphs.GRAPHS["tree"][0], 2)
    found = search.discover(exact(s), causes=False)
    assert not found[:p, :p].any()
    assert len(found) > len(true)


def brute_f1(true, found, p):
    """By sets of edges, with hidden variables added where too few were found, and chosen where too many."""
    m = len(true) - p
    wanted = {frozenset(e) for e in np.argwhere(true)}
    best = 0.0
    for names in permutations([*range(p, len(found)), *range(100, 100 + m)], m):
        new = {old: p + j for j, old in enumerate(names)} | {v: v for v in range(p)}
        edges = {frozenset((new[a], new[b])) for a, b in np.argwhere(found) if a in new and b in new}
        best = max(best, 2 * len(edges & wanted) / (len(edges) + len(wanted)))
    return best


@pytest.mark.parametrize(("m", "q"), [(2, 2), (3, 1), (2, 4), (0, 1), (2, 0)])
def test_f1_by_enumeration(m, q):
    for seed in range(5):
        true, found = (np.triu(rng(seed + n).uniform(size=(4 + n, 4 + n)) < 0.6, 1).astype(int) for n in (m, 10 * q // 10))
        true, found = true + true.T, found + found.T
        assert graphs.skeleton_f1(true, found, 4) == pytest.approx(brute_f1(true, found, 4))


def test_joined_tree_of_exact_distances():
    true, p, s = population(graphs.GRAPHS["tree"][0], 3)
    assert graphs.skeleton_f1(true, rivals.neighbour_joining(-np.log(np.abs(s)), 1e-6), p) == 1.0
    star = rivals.neighbour_joining(-np.log(np.abs(s)), 1e6)
    assert star.shape == (p, p), "all hidden variables are contracted into observed ones"


@pytest.mark.parametrize("kind", graphs.GRAPHS)
def test_problems(kind):
    study = search.Rlcd(INFO, kind=kind, rows=200_000)
    problem = study.problem(rng(3))
    p, a = problem.truth["observed"], problem.truth["strengths"]
    assert problem.given["x"].shape == (200_000, p)
    np.testing.assert_array_equal((a != 0) | (a.T != 0), problem.truth["skeleton"] == 1)
    assert 5 < np.abs(a).max() <= 10
    total = np.linalg.inv(np.eye(len(a)) - a)
    noise = np.linalg.lstsq(total[:, :p].T @ total[:, :p], np.cov(problem.given["x"].T), rcond=None)[0]
    assert noise.shape == (p, p)
    x = problem.given["x"]
    for v in range(p):
        parents = np.flatnonzero(a[:, v])
        if len(parents) and parents.max() < p:  # all observed: what is left is the noise
            left = x[:, v] - x[:, parents] @ a[parents, v]
            assert 0.099 < left.var() < 1.01
    truths = [study.problem(rng(i)).truth["skeleton"] for i in range(4)]
    assert len({t.tobytes() for t in truths}) == 4, "variables are shuffled"


def test_numbers_of_edges():
    sizes = [(len(a), p, a.sum()) for a, p in (graphs.directed(g) for some in graphs.GRAPHS.values() for g in some)]
    assert sizes == [(22, 18, 21), (16, 12, 16), (10, 8, 10), (22, 17, 41), (20, 16, 32)]


class Fixed(graphs.LatentGraphStudy):
    def answer(self, given, rng):
        p = given["x"].shape[1]
        found = np.zeros((p + 1, p + 1), int)
        found[p, : len(self._answers) + 1] = found[: len(self._answers) + 1, p] = 1
        found[0, 1] = found[1, 0] = 1
        return {"skeleton": found}


def test_measurements():
    study = Fixed(INFO, kind="measurement", rows=5, problems=3)
    study.start(None, torch.Generator().manual_seed(0))
    while not study.done():
        study.advance(None, None)
    of_all, of_observed = [], []
    for i, (truth, answer) in enumerate(study.answered()):
        p = truth["observed"]
        of_all.append(brute_f1(truth["skeleton"], answer["skeleton"], p))
        seen = truth["skeleton"][:p, :p]
        of_observed.append(2 * seen[0, 1] / (1 + seen.sum() / 2))
        assert answer["skeleton"].sum() == 2 * (i + 2)
    assert graphs.all_skeleton_f1(study, None, {}, None).value == pytest.approx(np.mean(of_all))
    assert graphs.observed_skeleton_f1(study, None, {}, None).value == pytest.approx(np.mean(of_observed))


def test_one_hidden():
    found = rivals.OneHidden(INFO).answer({"x": np.zeros((5, 4))}, rng())["skeleton"]
    np.testing.assert_array_equal(found[4], [1, 1, 1, 1, 0])
    assert found.sum() == 8
