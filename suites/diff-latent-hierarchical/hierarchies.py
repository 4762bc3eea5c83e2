"""Two layers of latents above measured variables: problems, what was found of their graph, and what rivals find.

A graph is ``upper`` (k, l), 1 for an edge from a root to a latent of the lower layer, and ``lower`` (l, n), 1 for an
edge from such a latent to a measured variable: the parts of the mask that the code of Prashant et al. (arXiv
2411.19556) leaves. The names and the order of latents mean nothing; one without edges is none.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise, permutations
from typing import Any, Literal

import networkx as nx  # type: ignore[import-untyped]  # a requirement of torch
import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Arrays, Problem, Study
from pydantic import PositiveFloat, PositiveInt
from scipy.optimize import linear_sum_assignment
from scipy.stats import chi2
from torch import Generator

SMALL = (Example("real-vector", {"problems": 2, "rows": 100}),)
Graph = tuple[np.ndarray, np.ndarray]


def sizes(n: int) -> tuple[int, int]:
    """Roots and lower latents of `n` measured variables, as the authors' code has them."""
    return n // 4, n // 2


class HierarchyStudy(Study):
    """Problems of `graphs` data sets, of variables v = g(sum of w_i parent_i + noise), parents with deviation 1.

    Each root has two pure children, and each latent of the lower layer two; noise is uniform in [-1, 1]. Measured
    variables are shuffled and standardised. ``x`` is (graphs, rows, n); ``upper`` and ``lower`` have `graphs` first.

    Args:
        info: not used.
        roots: their number r; they are independent.
        collider: ``none``, 4 r measured variables; ``measured``, one more, with all lower latents as its parents;
            ``latent``, one more lower latent, with all roots as its parents and two measured children.
        mechanism: g, ``tanh`` or ``leaky``: t above zero and 0.2 t below.
        strength: smallest size of a weight w, of either sign; the largest is twice as large.
        rows: of a data set.
        graphs: data sets of a problem, which a procedure may answer side by side.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        roots: PositiveInt = 1,
        collider: Literal["none", "measured", "latent"] = "none",
        mechanism: Literal["tanh", "leaky"] = "tanh",
        strength: PositiveFloat = 1.0,
        rows: PositiveInt = 500,
        graphs: PositiveInt = 1,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.roots, self.collider, self.mechanism = roots, collider, mechanism
        self.strength, self.rows, self.graphs = strength, rows, graphs

    def problem(self, rng: np.random.Generator) -> Problem:
        x, upper, lower = map(np.stack, zip(*(self.one(rng) for _ in range(self.graphs)), strict=True))
        return Problem({"x": x}, {"upper": upper, "lower": lower})

    def one(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A data set (rows, n), and its graph."""
        upper = np.repeat(np.eye(self.roots, dtype=int), 2, axis=1)
        if self.collider == "latent":
            upper = np.append(upper, np.ones((self.roots, 1), int), axis=1)
        lower = np.repeat(np.eye(upper.shape[1], dtype=int), 2, axis=1)
        if self.collider == "measured":
            lower = np.append(lower, np.ones((len(lower), 1), int), axis=1)
        lower = lower[:, rng.permutation(lower.shape[1])]
        roots = np.sqrt(3) * rng.uniform(-1, 1, (self.rows, self.roots))
        return self.children(rng, self.children(rng, roots, upper), lower), upper, lower

    def children(self, rng: np.random.Generator, parents: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """(rows, q) standardised children of (rows, p) parents, by edges (p, q)."""
        weights = edges * self.strength * rng.uniform(1, 2, edges.shape) * rng.choice([-1, 1], edges.shape)
        t = parents @ weights + rng.uniform(-1, 1, (len(parents), edges.shape[1]))
        v = np.tanh(t) if self.mechanism == "tanh" else np.where(t > 0, t, 0.2 * t)
        return (v - v.mean(0)) / v.std(0)

    def answer(self, given: Arrays, rng: np.random.Generator) -> dict[str, np.ndarray]:
        upper, lower = map(np.stack, zip(*(self.found(x, rng) for x in given["x"]), strict=True))
        return {"upper": upper, "lower": lower}

    def found(self, x: np.ndarray, rng: np.random.Generator) -> Graph:
        """What the procedure finds of one data set (rows, n), as many latents as `sizes` says."""
        raise NotImplementedError


def common_edges(truth: Graph, found: Graph) -> int:
    """Edges in common, latents of each layer matched so that these are the most: lower ones for each order of roots."""
    orders = map(list, permutations(range(len(found[0]))))
    costs = [-(truth[1] @ found[1].T) - truth[0].T @ found[0][order] for order in orders]
    return int(max(-cost[linear_sum_assignment(cost)].sum() for cost in costs))


def measured(model: Any, measure: Callable[[int, int, int], float]) -> MetricValue:
    """Mean of a measure of the numbers of edges in common, true, and found."""
    if not isinstance(model, HierarchyStudy):
        raise UserError("this model finds no layers of latents", fix="leave it out with `methods:`")

    def mean(truth: Arrays, answer: Arrays) -> float:
        true, found = (list(zip(a["upper"], a["lower"], strict=True)) for a in (truth, answer))
        edges = [[int(upper.sum() + lower.sum()) for upper, lower in graphs] for graphs in (true, found)]
        return float(np.mean([measure(*three) for three in zip(map(common_edges, true, found), *edges, strict=True)]))

    return over_problems(model, mean)


@metric("matched_edges", "Study", "1", "higher", within=(0.0, 1.0))
def matched_edges(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean F1 of edges, latents matched layer by layer at their best."""
    return measured(model, lambda common, true, found: 2 * common / (true + found))


@metric("edges_apart", "Study", "edges", "lower", within=(0.0, None))
def edges_apart(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean number of edges that are missing or too many, latents matched layer by layer at their best."""
    return measured(model, lambda common, true, found: true + found - 2 * common)


@model("one-cause-ranks", "Iterative Study", examples=SMALL)
class OneCauseRanks(HierarchyStudy):
    """Linear rank search for clusters with one latent cause (as in Huang et al., arXiv 2210.01798), layer by layer.

    Two items belong together where they correlate and their covariance with all others has rank 1; a cluster is what
    belongs together in a chain. An item of no cluster becomes a child of each that it correlates with, which is ours.

    Args:
        info: not used.
        alpha: level of the tests.
        **design: of `HierarchyStudy`.
    """

    def __init__(self, info: DataInfo, *, alpha: PositiveFloat = 0.01, **design: Any) -> None:
        super().__init__(info, **design)
        self.alpha = alpha

    def found(self, x: np.ndarray, rng: np.random.Generator) -> Graph:
        s, (roots, latents) = np.corrcoef(x.T), sizes(x.shape[1])
        lower, pure = self.layer(s, [[i] for i in range(len(s))], latents)
        return np.pad(self.layer(s, pure, roots)[0], [(0, 0), (0, latents - len(pure))]), lower

    def layer(self, s: np.ndarray, items: list[list[int]], most: int) -> tuple[np.ndarray, list[list[int]]]:
        """Edges (most, items) to items that measured variables stand for, and the measured ones of each cluster."""
        together, every = nx.empty_graph(len(items)), {v for item in items for v in item}
        for i, j in combinations(range(len(items)), 2):
            pair = items[i] + items[j]
            if not self.low(s, items[i], items[j], 0) and self.low(s, pair, sorted(every - set(pair)), 1):
                together.add_edge(i, j)
        clusters = [sorted(c) for c in nx.connected_components(together) if len(c) > 1]
        pure = [[v for i in c for v in items[i]] for c in clusters]
        edges = np.zeros((most, len(items)), int)
        for row, cluster, variables in zip(edges, clusters, pure, strict=False):
            row[:] = [not together.degree[i] and not self.low(s, item, variables, 0) for i, item in enumerate(items)]
            row[cluster] = 1
        return edges, pure

    def low(self, s: np.ndarray, a: list[int], b: list[int], rank: int) -> bool:
        """Whether rank(S_ab) <= `rank` is not rejected, by canonical correlations (Bartlett 1947)."""
        if rank >= min(len(a), len(b)):
            return True
        root_a, root_b = (np.linalg.inv(np.linalg.cholesky(s[np.ix_(i, i)])) for i in (a, b))
        rho = np.linalg.svd(root_a @ s[np.ix_(a, b)] @ root_b.T, compute_uv=False)[rank:]
        statistic = -(self.rows - (len(a) + len(b) + 3) / 2) * np.log1p(-np.minimum(rho**2, 1 - 1e-12)).sum()
        return bool(statistic <= chi2.isf(self.alpha, (len(a) - rank) * (len(b) - rank)))


@model("variable-linkage", "Iterative Study", examples=SMALL)
class VariableLinkage(HierarchyStudy):
    """Average linkage of variables by 1 - |correlation|, cut into as many clusters as there are latents of a layer."""

    def found(self, x: np.ndarray, rng: np.random.Generator) -> Graph:
        from scipy.cluster.hierarchy import fcluster, linkage
        from scipy.spatial.distance import squareform

        distances = 1 - np.abs(np.corrcoef(x.T))
        tree = linkage(squareform(distances, checks=False), "average")
        layers = [fcluster(tree, k, "maxclust") == 1 + np.arange(k)[:, None] for k in sizes(len(distances))]
        return (layers[0] @ layers[1].T).astype(int), layers[1].astype(int)


@model("random-hierarchy", "Iterative Study", examples=SMALL)
class RandomHierarchy(HierarchyStudy):
    """Layers of the right sizes, and for each variable a parent drawn at random, whatever the data."""

    def found(self, x: np.ndarray, rng: np.random.Generator) -> Graph:
        below = [*sizes(x.shape[1]), x.shape[1]]
        upper, lower = (np.eye(k, dtype=int)[:, rng.permutation(m) % k] for k, m in pairwise(below))
        return upper, lower
