"""What rank-based discovery is held against: clusters without observed causes, PC, and a latent tree."""

from __future__ import annotations

import networkx as nx
import numpy as np
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models.study import Arrays
from pydantic import PositiveFloat, PositiveInt

from .graphs import Kind, LatentGraphStudy
from .search import Ranks, ci_skeleton, discover

SMALL = (Example("real-vector", {"problems": 2, "kind": "measurement"}),)


@model("hierarchical-ranks", "Iterative Study", examples=SMALL)
class HierarchicalRanks(LatentGraphStudy):
    """The same search with hidden causes alone, after Huang et al. (2022): observed variables are leaves."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        ranks = Ranks(np.corrcoef(given["x"].T), self.rows, self.alpha)
        return {"skeleton": discover(ranks, causes=False)}


@model("pc-skeleton", "Iterative Study", examples=SMALL)
class PcSkeleton(LatentGraphStudy):
    """First stage of PC on the observed variables, which is phase 1 alone."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        graph = ci_skeleton(Ranks(np.corrcoef(given["x"].T), self.rows, self.alpha))
        return {"skeleton": nx.to_numpy_array(graph, nodelist=range(len(graph)), dtype=int)}


@model("one-hidden", "Iterative Study", examples=SMALL)
class OneHidden(LatentGraphStudy):
    """One hidden cause of all observed variables, whatever the data."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        return {"skeleton": nx.to_numpy_array(nx.star_graph(range(given["x"].shape[1], -1, -1)), dtype=int)[::-1, ::-1]}


def neighbour_joining(d: np.ndarray, shortest: float) -> np.ndarray:
    """(p + m, p + m) tree of distances (p, p) by neighbour joining (Saitou & Nei 1987), short edges contracted.

    An edge shorter than `shortest` makes one variable of two, unless both are observed (Choi et al. 2011, section 5).
    """
    p, edges, nodes = len(d), [], list(range(len(d)))
    while len(nodes) > 2:
        n, total = len(nodes), d.sum(0)
        q = (n - 2) * d - total - total[:, None]
        np.fill_diagonal(q, np.inf)
        i, j = np.unravel_index(q.argmin(), q.shape)
        first = d[i, j] / 2 + (total[i] - total[j]) / (2 * (n - 2))
        new = 2 * p - n
        edges += [(first, nodes[i], new), (d[i, j] - first, nodes[j], new)]
        keep = [k for k in range(n) if k not in (i, j)]
        far = (d[i] + d[j] - d[i, j])[keep] / 2
        d = np.block([[d[np.ix_(keep, keep)], far[:, None]], [far, np.zeros(1)]])
        nodes = [nodes[k] for k in keep] + [new]
    edges.append((d[0, 1], *nodes))
    label = np.arange(2 * p - 2)
    for length, a, b in sorted(edges):
        low, high = sorted((label[a], label[b]))
        if length < shortest and high >= p:
            label[label == high] = low
    graph = nx.empty_graph(p)
    graph.add_edges_from((label[a], label[b]) for _, a, b in edges if label[a] != label[b])
    return nx.to_numpy_array(graph, nodelist=sorted(graph), dtype=int)


@model("joined-tree", "Iterative Study", examples=SMALL)
class JoinedTree(LatentGraphStudy):
    """Neighbour joining with -log |correlation|, which is additive along the edges of a tree.

    Args:
        info, kind, rows, alpha, problems: as in `LatentGraphStudy`; there are no tests.
        shortest: edges that are shorter are contracted.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        kind: Kind = "tree",
        rows: PositiveInt = 2000,
        alpha: PositiveFloat = 0.005,
        problems: PositiveInt = 10,
        shortest: PositiveFloat = 0.001,
    ) -> None:
        super().__init__(info, kind=kind, rows=rows, alpha=alpha, problems=problems)
        self.shortest = shortest

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        correlations = np.abs(np.corrcoef(given["x"].T))
        return {"skeleton": neighbour_joining(-np.log(np.clip(correlations, 1e-6, 1.0)), self.shortest)}
