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
#: Figure 4 of the paper: X2 is part of a cover with L2 and, with X3, of one that has a collider as its child.
FIGURE_4 = "L1>X1 L2 X2 X3; L2 X2>X4 X5 X6; X2 X3>X7; X3>X8"
HIERARCHY = "L1>X1 X2 L2 L3; L2>X3 X4 X5; L3>X6 X7 X8"
TREE, GRAPHS = graphs.GRAPHS["tree"][0], [g for some in graphs.GRAPHS.values() for g in some]


def rng(seed=0):
    return np.random.default_rng(seed)


def population(graph, seed=0):
    """Skeleton, number of observed variables, and tests on their exact correlations, variables in a random order."""
    adjacency, p = graphs.directed(graph)
    order = np.append(rng(seed).permutation(p), np.arange(p, len(adjacency)))
    adjacency = adjacency[order][:, order]
    strengths = adjacency * rng(seed).uniform(1, 3, adjacency.shape) * rng(seed + 1).choice([-1, 1], adjacency.shape)
    total = np.linalg.inv(np.eye(len(adjacency)) - strengths)
    s = (total.T @ np.diag(rng(seed).uniform(0.5, 1, len(adjacency))) @ total)[:p, :p]
    return adjacency + adjacency.T, p, exact(s / np.sqrt(np.outer(s.diagonal(), s.diagonal())))


def exact(s):
    """Tests that see what is not zero in the population."""
    return search.Ranks(s, 1e9, 1e-4)


@pytest.mark.parametrize(("c", "x", "rank"), [([0, 3], [], 1), ([2, 6], [1], 1), ([0, 1, 5], [4], 2), ([5], [3, 6], 2)])
def test_ranks_by_canonical_correlations_of_the_whole_sets(c, x, rank):
    s = np.cov((rng(1).standard_normal((90, 7)) @ (np.eye(7) + 0.15 * rng(2).standard_normal((7, 7)))).T)
    rest = sorted(set(range(7)) - set(c) - set(x))
    a, b = c + x, rest + x
    root_a, root_b = (np.linalg.inv(np.linalg.cholesky(s[np.ix_(i, i)])) for i in (a, b))
    rho = np.linalg.svd(root_a @ s[np.ix_(a, b)] @ root_b.T)[1][rank:]
    statistic = -(90 - (len(a) + len(b) + 3) / 2) * np.log(1 - rho**2).sum()
    p = chi2.sf(statistic, (len(a) - rank) * (len(b) - rank))
    assert 1e-12 < p < 0.999
    for alpha, expected in [(0.99 * p, True), (1.001 * p, False)]:
        low = search.Ranks(s, 90, alpha).low(np.array([c, c[::-1]]), set(c + rest), x, rank)
        assert low.tolist() == [expected] * 2


def test_skeleton_without_hidden_variables():
    """It is that of the graph, for phase 1 and for the whole (corollary 1)."""
    adjacency = np.triu(rng(5).uniform(size=(7, 7)) < 0.45, 1)
    total = np.linalg.inv(np.eye(7) - adjacency * rng(6).uniform(0.5, 2, (7, 7)))
    found = search.ci_skeleton(exact(total.T @ total))
    assert {frozenset(e) for e in found.edges} == {frozenset(e) for e in np.argwhere(adjacency)}
    for graph in ("X1>X2; X2>X3", "X1>X3; X2>X3"):
        assert search.ci_skeleton(population(graph, 3)[2]).number_of_edges() == 2
    true, _, ranks = population("X1>X2 X3 X4 X5; X2>X3 X4 X5; X3>X4 X5; X4>X5; X5>X6", 1)
    np.testing.assert_array_equal(search.discover(ranks, search.ci_skeleton(ranks)), true)


def test_conditional_independence_is_a_test_of_rank():
    """Lemma 10."""
    s = np.corrcoef((rng(1).standard_normal((60, 6)) @ (np.eye(6) + 0.3 * rng(2).standard_normal((6, 6)))).T)
    for given in ([], [3], [2, 4], [1, 3, 4]):
        levels = np.logspace(-60, -0.001, 300)
        seen = [search.Ranks(s, 60, a).apart(0, 5, np.array([given, given[::-1]], int)).tolist() for a in levels]
        wanted = [search.Ranks(s, 60, a).low(np.array([[0]]), {0, 5}, given, len(given))[0] for a in levels]
        assert seen == [[w, w] for w in wanted]
        assert len(set(wanted)) == 2


def test_groups_of_cliques():
    """Appendix B.4, figure 3 (b)."""
    graph = nx.Graph([*combinations(range(1, 7), 2), (2, 7), (3, 7), (3, 8), (8, 9), *combinations(range(9, 13), 2)])
    graph.add_edges_from(combinations((9, 13, 14), 2))  # shares one variable
    assert sorted(search.groups(graph), key=sorted) == [set(range(1, 8)), set(range(9, 13)), {9, 13, 14}]


@pytest.mark.parametrize("graph", [*GRAPHS, FIGURE_4, HIERARCHY])
def test_graphs_are_found_exactly(graph):
    true, p, ranks = population(graph, 5)
    for skeleton in [None] if p > 15 and graph != TREE else [None, search.ci_skeleton(ranks)]:
        found = search.discover(ranks, skeleton)
        assert len(found) == len(true)
        assert graphs.skeleton_f1(true, found, p) == 1.0
    if p < 15:
        found = search.discover(ranks, causes=False)
        assert (graphs.skeleton_f1(true, found, p) == 1.0) == (graph == HIERARCHY), "corollary 1"


def test_no_more_of_a_cluster_than_its_parents_and_no_cycle():
    """Condition (i) of theorem 8, and appendix B.16."""
    one, two, three, four, five = (frozenset({v}) for v in range(5))
    clusters = search.ClusterSearch(exact(np.eye(5)), range(5), 5, True)
    clusters.children[frozenset({5})] = {one, two}
    covers = [one, two, three, four, five]
    assert not clusters.admissible(frozenset({one, two}), covers, frozenset(), 1)
    assert clusters.admissible(frozenset({one, three}), covers, frozenset(), 1)
    clusters.children = {one: {two}, two: {three}}
    assert not clusters.record([frozenset({one})], three, 1), "one is above three"
    assert clusters.record([frozenset({four})], three, 1)
    assert clusters.children[three] == {four}


def test_what_is_searched():
    """Appendix B.5: opened covers give way to their members and children; descendants of any member; algorithm 4."""
    one, two, three, mixed = (frozenset(v) for v in ({0}, {1}, {2}, {0, 6}))
    clusters = search.ClusterSearch(population("L1>X1 X2 X3 X4 X5 X6")[2], range(6), 6, True)
    within = frozenset(range(6))
    assert not clusters.collider(frozenset({one, two}), within, frozenset(), 1)
    assert clusters.collider(frozenset({one, two, three}), within, frozenset(), 2), "two of them have rank one"
    assert not clusters.clusters(clusters.atomic, frozenset(), 2)
    clusters.atomic.append(mixed)
    clusters.children[mixed] = {two, three}
    assert clusters.below(one) == {0, 1, 2}
    seen = []
    clusters.clusters = lambda covers, given, k: seen.append(set(covers)) or []
    assert not clusters.step(1)
    others = {frozenset({v}) for v in (3, 4, 5)}
    assert seen[0] == others | {one, two, three}
    assert seen[-1] == others | {mixed}


def brute_f1(true, found, p):
    """By sets of edges, with hidden variables added where too few were found, and chosen where too many."""
    m, wanted, best = len(true) - p, {frozenset(e) for e in np.argwhere(true)}, 0.0
    for names in permutations([*range(p, len(found)), *range(100, 100 + m)], m):
        new = {old: p + j for j, old in enumerate(names)} | {v: v for v in range(p)}
        edges = {frozenset((new[a], new[b])) for a, b in np.argwhere(found) if a in new and b in new}
        best = max(best, 2 * len(edges & wanted) / (len(edges) + len(wanted)))
    return best


@pytest.mark.parametrize(("m", "q"), [(2, 2), (3, 1), (2, 4), (0, 1), (2, 0)])
def test_f1_by_enumeration(m, q):
    for seed in range(5):
        true, found = (np.triu(rng(seed + 9 * n).uniform(size=(4 + n, 4 + n)) < 0.5, 1).astype(int) for n in (m, q))
        true, found = true + true.T, found + found.T
        assert graphs.skeleton_f1(true, found, 4) == pytest.approx(brute_f1(true, found, 4))


@pytest.mark.parametrize("kind", graphs.GRAPHS)
def test_problems(kind):
    study = search.Rlcd(INFO, kind=kind, rows=100_000)
    problem = study.problem(rng(3))
    x, p, a = problem.given["x"], problem.truth["observed"], problem.truth["strengths"]
    np.testing.assert_array_equal((a != 0) | (a.T != 0), problem.truth["skeleton"] == 1)
    assert 6 < np.abs(a).max() <= 10
    assert a.min() < -4 < 4 < a.max()
    known = [v for v in range(p) if a[:, v].any() and not a[p:, v].any()]  # all causes observed: what is left is noise
    left = [np.var(x[:, v] - x @ a[:p, v]) for v in known]
    assert 0.099 < min(left) < max(left) < 1.01
    truths = [study.problem(rng(i)).truth["skeleton"] for i in range(4)]
    assert len({t.tobytes() for t in truths}) == 4, "variables are shuffled"


def test_numbers_of_variables_and_edges():
    assert [(len(a), p, a.sum()) for a, p in map(graphs.directed, GRAPHS)] == [
        (22, 18, 21),
        (16, 12, 16),
        (10, 8, 10),
        (22, 17, 41),
        (20, 16, 32),
    ]


def test_rivals():
    study = search.Rlcd(INFO, kind="tree", rows=4000, skeleton_alpha=0.2, alpha=0.01)
    given = study.problem(rng(4)).given
    s = np.corrcoef(given["x"].T)
    skeleton = search.ci_skeleton(search.Ranks(s, 4000, 0.2))
    expected = search.discover(search.Ranks(s, 4000, 0.01), skeleton)
    np.testing.assert_array_equal(study.answer(given, rng())["skeleton"], expected)
    pc = rivals.PcSkeleton(INFO, rows=4000, alpha=0.2).answer(given, rng())["skeleton"]
    np.testing.assert_array_equal(pc, nx.to_numpy_array(skeleton, nodelist=range(18)))
    alone = rivals.HiddenCauses(INFO, rows=4000, alpha=0.01).answer(given, rng())["skeleton"]
    np.testing.assert_array_equal(alone, search.discover(search.Ranks(s, 4000, 0.01), causes=False))
    star = rivals.OneHidden(INFO).answer({"x": np.zeros((5, 4))}, rng())["skeleton"]
    assert star.sum() == 8
    np.testing.assert_array_equal(star[4], [1, 1, 1, 1, 0])


class Fixed(graphs.LatentGraphStudy):
    def answer(self, given, rng):
        p, i = given["x"].shape[1], len(self._answers)
        found = np.zeros((p + 1, p + 1), int)
        found[p, : i + 1] = found[: i + 1, p] = found[0, 1] = found[1, 0] = 1
        return {"skeleton": found}


def test_measurements():
    study = Fixed(INFO, kind="measurement", rows=5, problems=4)
    study.start(None, torch.Generator().manual_seed(1))
    while not study.done():
        study.advance(None, None)
    pairs = [(t["skeleton"], a["skeleton"], t["observed"]) for t, a in study.answered()]
    of_all = np.mean([brute_f1(t, a, p) for t, a, p in pairs])
    of_observed = np.mean([brute_f1(t[:p, :p], a[:p, :p], p) for t, a, p in pairs])
    assert graphs.matched_skeleton(study, None, {}, None).value == pytest.approx(of_all)
    assert graphs.observed_skeleton(study, None, {}, None).value == pytest.approx(of_observed)
