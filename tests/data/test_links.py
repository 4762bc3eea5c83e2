"""Held-out links: nothing of them reaches training, and pairs are what they are called."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.data.links import held_out_links


def graph(nodes: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pairs = np.array([(i, j) for i in range(nodes) for j in range(i + 1, nodes)])
    return pairs[np.sort(rng.choice(len(pairs), len(pairs) // 3, replace=False))]


@given(st.integers(8, 25), st.floats(0.02, 0.3), st.floats(0.02, 0.3), st.integers(0, 5))
def test_edges_are_parted_and_pairs_are_none(nodes, valid, test, seed):
    edges = graph(nodes, seed)
    parts = held_out_links(edges, nodes, {"valid": valid, "test": test}, np.random.default_rng(seed))
    assert set(parts) == {"train", "valid", "test"}
    whole = {tuple(e) for e in edges.tolist()}
    seen = [tuple(e) for e in parts["train"]["edges"].tolist()]
    pairs: list[tuple[int, int]] = []
    for role, share in (("valid", valid), ("test", test)):
        part = parts[role]
        np.testing.assert_array_equal(part["edges"], parts["train"]["edges"])
        held = [tuple(e) for e in part["links"][part["linked"] == 1].tolist()]
        assert len(held) == max(1, int(share * len(edges)))
        assert (part["linked"] == 0).sum() == len(held)
        seen += held
        pairs += [tuple(p) for p in part["links"][part["linked"] == 0].tolist()]
    assert sorted(seen) == sorted(whole), "every edge has one place"
    assert len(set(pairs)) == len(pairs)
    assert not whole & set(pairs)
    assert all(low < high < nodes for low, high in pairs)


def test_pairs_without_an_edge_are_uniform():
    edges = np.array([[0, 1], [1, 2], [2, 3], [0, 4], [1, 4]])
    free = [(0, 2), (0, 3), (1, 3), (2, 4), (3, 4)]
    rng, counts = np.random.default_rng(0), dict.fromkeys(free, 0)
    for _ in range(2000):
        part = held_out_links(edges, 5, {"test": 0.3}, rng)["test"]
        counts[tuple(part["links"][1].tolist())] += 1
    assert max(abs(c - 400) for c in counts.values()) < 4 * (2000 * 0.2 * 0.8) ** 0.5


def test_more_than_there_is_is_refused():
    edges = graph(6, 0)
    with pytest.raises(ValueError, match="would be held out"):
        held_out_links(edges, 6, {"test": 1.0}, np.random.default_rng(0))
    full = np.array([(i, j) for i in range(5) for j in range(i + 1, 5)])
    with pytest.raises(ValueError, match="has fewer"):
        held_out_links(full, 5, {"test": 0.2}, np.random.default_rng(0))
