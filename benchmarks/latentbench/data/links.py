"""Held-out links of one large graph: which edges training may see, and pairs to be told apart afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np


def held_out_links(
    edges: np.ndarray, nodes: int, shares: Mapping[str, float], rng: np.random.Generator
) -> dict[str, dict[str, np.ndarray]]:
    """Part the edges of a graph among training, validation and test.

    Args:
        edges: (E, 2) integers, each undirected edge once, without self-loops.
        nodes: number of nodes.
        shares: of the edges that validation and test hold out, in (0, 1); rounded down, at least one edge each.
        rng: draws edges and pairs.

    Returns:
        For ``train``: `edges`, those that are left. For each role of `shares`: `edges`, the same training graph;
        `links` (2 M, 2) int64, first the M edges that the role holds out, then M pairs that are no edge of the whole
        graph, all distinct over the roles; `linked` (2 M,) int64, 1 for an edge.

    Raises:
        ValueError: no edge would be left for training, or the graph has too few pairs without an edge.
    """
    order = rng.permutation(len(edges))
    counts = {role: max(1, math.floor(share * len(edges))) for role, share in shares.items()}
    wanted = sum(counts.values())
    if wanted >= len(edges):
        raise ValueError(f"{wanted} of {len(edges)} edges would be held out")
    if 2 * (len(edges) + wanted) > nodes * (nodes - 1):
        raise ValueError(f"{wanted} pairs without an edge are asked of a graph that has fewer")
    pairs = _pairs_without_edge(edges, nodes, wanted, rng)
    kept = edges[np.sort(order[wanted:])]
    parts: dict[str, dict[str, np.ndarray]] = {"train": {"edges": kept}}
    start = 0
    for role, count in counts.items():
        true, false = edges[order[start : start + count]], pairs[start : start + count]
        links = np.concatenate([true, false]).astype(np.int64)
        parts[role] = {"edges": kept, "links": links, "linked": np.repeat(np.array([1, 0]), count)}
        start += count
    return parts


def _pairs_without_edge(edges: np.ndarray, nodes: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 2) distinct pairs of different nodes that no edge joins, uniform among all of them, lower node first."""
    taken = {int(code) for code in edges.min(1).astype(np.int64) * nodes + edges.max(1)}
    found: list[tuple[int, int]] = []
    while len(found) < count:
        for one, other in rng.integers(0, nodes, (2 * (count - len(found)), 2)):
            low, high = int(min(one, other)), int(max(one, other))
            if low != high and low * nodes + high not in taken and len(found) < count:
                taken.add(low * nodes + high)
                found.append((low, high))
    return np.array(found, np.int64)
