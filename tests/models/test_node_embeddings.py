"""Walks on graphs and skip-gram vectors of their nodes."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.models.node_embeddings import adjacency, random_walks, skip_gram

EDGES = np.array([[0, 1], [1, 2], [0, 4], [3, 4]])
N = 6  # node 5 has no edge


def test_the_adjacency_has_each_edge_both_ways():
    graph = adjacency(EDGES, N).toarray()
    assert np.array_equal(graph, graph.T)
    assert graph.sum() == 2 * len(EDGES)
    assert all(graph[i, j] == 1 for i, j in EDGES)


def test_walks_follow_edges_from_every_node_and_choose_neighbours_alike():
    graph = adjacency(EDGES, N)
    walks = random_walks(graph, 600, 3, np.random.default_rng(0))
    assert np.bincount(walks[:, 0]).tolist() == [600] * N
    steps = np.concatenate([walks[:, :2], walks[:, 1:]])
    moved = steps[steps[:, 0] != 5]
    assert (graph.toarray()[moved[:, 0], moved[:, 1]] == 1).all()
    assert (steps[steps[:, 0] == 5] == 5).all()
    ahead = walks[walks[:, 0] == 0, 1]
    assert set(ahead.tolist()) == {1, 4}
    assert abs((ahead == 1).mean() - 0.5) < 4 * 0.5 / 600**0.5


@pytest.mark.parametrize("output", ["hierarchical", "negative"])
def test_nodes_that_meet_get_vectors_of_one_direction(output):
    pytest.importorskip("gensim", reason="needs gensim, of the extra `graphs`")
    cliques = np.array([[i + o, j + o] for o in (0, 8) for i in range(8) for j in range(i + 1, 8)] + [[0, 8]])
    walks = random_walks(adjacency(cliques, 16), 200, 20, np.random.default_rng(1))
    found = skip_gram(walks, dim=4, window=3, output=output, rng=np.random.default_rng(2))
    assert found.shape == (16, 4)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    alike = unit @ unit.T
    assert min(alike[1:8, 1:8].min(), alike[9:, 9:].min()) > alike[1:8, 9:].max()
    again = skip_gram(walks, dim=4, window=3, output=output, rng=np.random.default_rng(2))
    assert np.array_equal(found, again)
