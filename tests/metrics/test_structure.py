from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.metrics import structure as sr
from sklearn.metrics import f1_score, ndcg_score, roc_auc_score

CHAIN = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])


def random_dag(n, seed, density=0.4):
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    upper = np.triu(rng.random((n, n)) < density, 1)
    return upper[np.ix_(order, order)]


def test_shd():
    assert sr.shd(CHAIN, CHAIN) == 0
    assert sr.shd(CHAIN.T, CHAIN) == 2
    assert sr.shd(CHAIN.T, CHAIN, reversal=2) == 4
    assert sr.shd(np.zeros((3, 3)), CHAIN) == 2
    added = CHAIN.copy()
    added[0, 2] = 5  # weights count as edges
    assert sr.shd(added, CHAIN) == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10_000))
def test_edge_scores_are_scikit_learn_s(n, seed):
    p, t = random_dag(n, seed), random_dag(n, seed + 1)
    off = ~np.eye(n, dtype=bool)
    if p.any() or t.any():
        assert sr.edge_f1(p, t).f1 == pytest.approx(f1_score(t[off], p[off], zero_division=0))
    scores = np.random.default_rng(seed).normal(size=(n, n))
    if t.any():
        assert sr.edge_auroc(scores, t).value == pytest.approx(roc_auc_score(t[off], scores[off]))
        assert sr.edge_average_precision(t.astype(float), t) == 1.0


def test_skeletons_ignore_direction():
    assert sr.edge_f1(CHAIN.T, CHAIN).f1 == 0.0
    assert sr.edge_f1(CHAIN.T, CHAIN, directed=False).f1 == 1.0
    assert sr.edge_f1(np.zeros((2, 2)), np.zeros((2, 2))).f1 == 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10_000))
def test_d_separation_is_networkx_s(n, seed):
    graph, rng = random_dag(n, seed), np.random.default_rng(seed)
    i, j = rng.choice(n, 2, replace=False)
    given_nodes = rng.random(n) < 0.4
    given_nodes[[i, j]] = False
    network = nx.from_numpy_array(graph, create_using=nx.DiGraph)
    theirs = nx.is_d_separator(network, {int(i)}, {int(j)}, set(np.flatnonzero(given_nodes).tolist()))
    assert sr.d_separated(graph, int(i), int(j), given_nodes) == theirs


def wrong_effects_by_regression(predicted, true, seed):
    """Pairs whose effect, estimated by adjustment in a random linear Gaussian model of the true graph, is wrong."""
    n, rng = len(true), np.random.default_rng(seed)
    weights = true * rng.uniform(0.5, 1.5, true.shape) * rng.choice([-1, 1], true.shape)
    total = np.linalg.inv(np.eye(n) - weights)  # total[i, j]: effect of i on j
    cov = total.T @ np.diag(rng.uniform(0.5, 2, n)) @ total
    wrong = 0
    for i in range(n):
        parents = np.flatnonzero(predicted[:, i])
        for j in range(n):
            if i == j:
                continue
            if j in parents:
                estimate = 0.0
            else:
                used = [i, *parents]
                estimate = np.linalg.solve(cov[np.ix_(used, used)], cov[used, j])[0]
            wrong += abs(estimate - total[i, j]) > 1e-8
    return wrong


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_sid_counts_the_effects_that_regression_gets_wrong(n, seed):
    predicted, true = random_dag(n, seed), random_dag(n, seed + 77_777)
    assert sr.sid(predicted, true) == wrong_effects_by_regression(predicted, true, seed)


def test_sid_of_known_graphs():
    assert sr.sid(CHAIN, CHAIN) == 0
    dense = np.triu(np.ones((3, 3)), 1)
    assert sr.sid(dense, CHAIN) == 0  # a supergraph with the same order adjusts for enough
    assert sr.sid(np.zeros((2, 2)), np.array([[0, 1], [0, 0]])) == 1
    assert sr.sid(np.array([[0, 0], [1, 0]]), np.array([[0, 1], [0, 0]])) == 2
    long = np.diag(np.ones(199), 1)
    long[199, 0] = 1
    with pytest.raises(UserError, match="cycle"):
        sr.sid(long, np.zeros((200, 200)))


def test_rankings():
    rng = np.random.default_rng(0)
    scores, relevance = rng.normal(size=(20, 15)), rng.integers(0, 4, size=(20, 15)).astype(float)
    for k in (3, 100):
        assert sr.ndcg(scores, relevance, k=k).value == pytest.approx(ndcg_score(relevance, scores, k=k))
    assert sr.ndcg(relevance, relevance).value == pytest.approx(1)
    r = np.array([[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    s = np.array([[4.0, 1, 3, 2], [1, 2, 3, 4], [1, 2, 3, 4]])
    assert sr.recall_at_k(s, r, k=1).value == 1.0
    assert sr.recall_at_k(s, r, k=2).value == 0.75
    assert sr.recall_at_k(s, r, k=2).n == 2  # the query without relevant items is not judged


def test_links():
    assert sr.link_prediction([3.0, 2], [1.0, 0]) == (1.0, 1.0)
    rng = np.random.default_rng(1)
    assert sr.link_prediction(rng.normal(size=2000), rng.normal(size=2000)).auroc == pytest.approx(0.5, abs=0.04)
    assert sr.rank_metrics([1, 2, 20]) == (pytest.approx((1 + 0.5 + 0.05) / 3), pytest.approx(2 / 3))
    # ties at the mean of the ranks that they share: 1 and 2, 10 and 11 (a miss at 10), all of 1 to 4
    assert sr.rank_metrics([1.5, 10.5, 2.5, 10.0]) == (
        pytest.approx((1 / 1.5 + 1 / 10.5 + 1 / 2.5 + 0.1) / 4),
        pytest.approx(0.75),
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sr.shd(CHAIN[:2], CHAIN), "square"),
        (lambda: sr.shd(np.eye(3), CHAIN), "itself"),
        (lambda: sr.shd(np.zeros((2, 2)), CHAIN), "shape"),
        (lambda: sr.shd(CHAIN, CHAIN, reversal=3), "reversal"),
        (lambda: sr.edge_auroc(np.zeros((3, 3)), np.zeros((3, 3))), "both 0 and 1"),
        (lambda: sr.ndcg([[1.0]], [[0.0]]), "relevance"),
        (lambda: sr.recall_at_k([[1.0]], [[1.0]], k=0), "k: is 0"),
        (lambda: sr.rank_metrics([0]), "start at 1"),
        (lambda: sr.rank_metrics([0.5]), "start at 1"),
        (lambda: sr.rank_metrics([1.0, 2.3]), "2.3 is no rank"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(UserError, match=says):
        call()
