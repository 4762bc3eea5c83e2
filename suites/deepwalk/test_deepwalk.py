"""What is exact in DeepWalk's experiment: who is labelled, what is chosen, F1, eigenvectors, votes, the classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, Part
from latentbench.models.node_embeddings import adjacency
from latentbench.papers.deepwalk.groups import Groups, f1, groups_macro, groups_micro, most_likely
from latentbench.papers.deepwalk.methods import DeepWalk, Laplacian, Majority, Modularity, WeightedVote
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

N, L = 40, 5
EDGES = np.array([[i, j] for i in range(N - 1) for j in range(i + 1, N - 1) if (i % 4 == j % 4) == ((i + j) % 7 > 1)])


def info(n=N):
    return DataInfo((L,), "binary", n, parts={"edges": Part((2,), "discrete", role="edges", whole=True)})


def labels(seed=0) -> np.ndarray:
    """One to three groups each, of which the last has no members."""
    rng = np.random.default_rng(seed)
    out = np.zeros((N, L), np.float32)
    for i in range(N):
        out[i, [i % 4, *rng.integers(0, 4, i % 3)]] = 1
    return out


def batch():
    return Batch(torch.from_numpy(labels()), N, columns={"edges": torch.from_numpy(EDGES)})


def answered(study: Groups, seed=1) -> Groups:
    draws = torch.Generator().manual_seed(seed)
    study.start(batch(), draws)
    while not study.done():
        study.advance(batch(), draws)
    return study


class Told(Groups):
    """Keeps what it is asked, and answers by a fixed table."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.asked = []
        self.table = np.random.default_rng(5).random((N, L))

    def scores(self, graph, known, groups, rest):
        self.asked.append((known, groups, rest))
        return self.table[rest]


def test_a_share_of_the_nodes_is_labelled_and_f1_is_that_of_the_rest():
    study = answered(Told(info(), percents=[10, 55], problems=3))
    assert [len(known) for known, _, _ in study.asked] == [4, 22] * 3
    first, second = study.asked[0], study.asked[1]
    assert np.array_equal(first[0], second[0][:4])
    assert not np.array_equal(first[0], study.asked[2][0])
    micro, macro = [], []
    for known, groups, rest in study.asked:
        assert sorted([*known, *rest]) == list(range(N))
        assert np.array_equal(groups, labels()[known] > 0)
        truth = labels()[rest].astype(int)
        chosen = np.zeros_like(truth)
        for row, (scores, k) in enumerate(zip(study.table[rest], truth.sum(1), strict=True)):
            chosen[row, sorted(range(L), key=lambda g: -scores[g])[:k]] = 1
        micro.append(100 * f1_score(truth, chosen, average="micro", zero_division=0))
        macro.append(100 * f1_score(truth, chosen, average="macro", zero_division=0))
    for percent, start in ((10, 0), (55, 1)):
        settings = {"percent": percent}
        assert groups_micro(study, None, settings, None).value == pytest.approx(np.mean(micro[start::2]))
        assert groups_macro(study, None, settings, None).value == pytest.approx(np.mean(macro[start::2]))
    with pytest.raises(UserError, match="50 per cent"):
        groups_micro(study, None, {"percent": 50}, None)


def test_f1_of_a_group_that_nobody_has_is_nothing():
    assert f1(np.array([[2, 0, 0], [3, 4, 0], [4, 0, 0]])).tolist() == pytest.approx([4 / 7, 0, 0])


def test_as_many_are_chosen_as_there_are():
    chosen = most_likely(np.array([[0.1, 0.9, 0.9], [3.0, 2.0, 1.0], [0.0, 0.0, 0.0]]), np.array([1, 2, 0]))
    assert chosen.tolist() == [[False, True, False], [True, True, False], [False] * 3]


@pytest.mark.parametrize("percents", [[2], [100], [0, 50]])
def test_some_nodes_are_on_either_side(percents):
    with pytest.raises(UserError, match="percents"):
        Majority(info(), percents=percents)


def test_data_without_a_graph_are_refused():
    with pytest.raises(UserError, match="one graph"):
        Majority(DataInfo((L,), "binary", N))


def spans_alike(a, b):
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-6)


def test_spectral_vectors_are_those_of_dense_matrices():
    graph = adjacency(EDGES, N)
    a = graph.toarray()
    degree = a.sum(1)
    assert degree.min() == 0
    root = np.diag(np.maximum(degree, 1) ** -0.5)
    laplacian = np.diag((degree > 0).astype(float)) - root @ a @ root
    laplacian[degree == 0, degree == 0] = 1  # as of I - D^-1/2 A D^-1/2
    values, vectors = np.linalg.eigh(laplacian)
    assert values[4] - values[3] > 1e-3
    spans_alike(Laplacian(info(), dim=4).embed(graph, np.random.default_rng(0)), vectors[:, :4])
    values, vectors = np.linalg.eigh(a - np.outer(degree, degree) / degree.sum())
    assert values[-3] - values[-4] > 1e-3
    spans_alike(Modularity(info(), dim=3).embed(graph, np.random.default_rng(0)), vectors[:, -3:])


@pytest.mark.parametrize("scaled", [False, True])
def test_vectors_are_classified_group_by_group(scaled):
    model = Laplacian(info(), dim=4, c=3.0, scaled=scaled)
    graph = adjacency(EDGES, N)
    model.look(graph, np.random.default_rng(3))
    vectors = Laplacian(info(), dim=4).embed(graph, np.random.default_rng(3))
    if scaled:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    known, rest = np.arange(0, 30), np.arange(30, N)
    groups = labels()[known] > 0
    groups[:, 3] = True
    found = model.scores(graph, known, groups, rest)
    for g in range(3):
        one = LogisticRegression(C=3.0, solver="liblinear").fit(vectors[known], groups[:, g])
        np.testing.assert_allclose(found[:, g], one.decision_function(vectors[rest]), rtol=1e-4)
    assert np.isposinf(found[:, 3]).all()
    assert np.isneginf(found[:, 4]).all()


def test_votes_are_means_over_neighbours_with_falling_weight():
    graph = adjacency(EDGES, N)
    a, known = graph.toarray(), np.arange(1, N, 3)
    rest = np.setdiff1d(np.arange(N), known)[::-1].copy()
    groups = labels()[known] > 0
    found = WeightedVote(info(), rounds=3, decay=0.5).scores(graph, known, groups, rest)
    state = {int(i): groups[k].astype(float) for k, i in enumerate(known)}
    state |= {int(i): groups.mean(0) for i in rest}
    for weight in (1.0, 0.5, 0.25):
        before = dict(state)
        for i in rest:
            around = np.flatnonzero(a[i])
            if len(around):
                state[int(i)] = weight * np.mean([before[int(j)] for j in around], 0) + (1 - weight) * before[int(i)]
    np.testing.assert_allclose(found, [state[int(i)] for i in rest], rtol=1e-10)
    assert N - 1 in rest
    np.testing.assert_allclose(found[list(rest).index(N - 1)], groups.mean(0))


def test_the_majority_is_the_same_for_all():
    known, rest = np.arange(10), np.arange(10, N)
    found = Majority(info()).scores(adjacency(EDGES, N), known, labels()[known] > 0, rest)
    assert np.array_equal(found, np.tile(labels()[:10].sum(0), (30, 1)))


def test_deepwalk_finds_groups_that_the_graph_shows():
    pytest.importorskip("gensim", reason="needs gensim, of the extra `graphs`")
    blocks = np.array(
        [[i, j] for i in range(N) for j in range(i + 1, N) if i % 4 == j % 4] + [[i, i + 1] for i in range(3)]
    )

    def run(model):
        rows = Batch(torch.eye(4)[torch.arange(N) % 4], N, columns={"edges": torch.from_numpy(blocks)})
        draws = torch.Generator().manual_seed(2)
        model.start(rows, draws)
        while not model.done():
            model.advance(rows, draws)
        return groups_micro(model, None, {"percent": 50}, None).value

    of = DataInfo((4,), "binary", N, parts=info().parts)
    assert run(DeepWalk(of, dim=6, walks=60, length=20, window=3, percents=[50], problems=2, c=10.0)) > 95
    assert run(Majority(of, percents=[50], problems=2)) < 60
