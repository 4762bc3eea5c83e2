"""A root, two latents and measured variables: problems, what was found of their graph, and what rivals find.

A graph is ``upper`` (1, 2), 1 for an edge from the root to a latent, and ``lower`` (2, n), 1 for an edge from such a
latent to a measured variable: the parts of the mask that the code of Prashant et al. (arXiv 2411.19556) leaves. The
order of latents means nothing; one without edges is none.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import networkx as nx  # type: ignore[import-untyped]  # a requirement of torch
import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.metrics.correlation import canonical_correlations
from latentbench.models.study import Arrays, Problem, Study
from pydantic import PositiveInt
from scipy.optimize import linear_sum_assignment
from scipy.stats import chi2
from torch import Generator

SMALL = (Example("real-vector", {"graphs": 2, "rows": 100}),)
LEVELS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9)
Graph = tuple[np.ndarray, np.ndarray]


class HierarchyStudy(Study):
    """One problem of `graphs` data sets, each of a root, two latents below it, and two pure children of each latent.

    A variable is g(sum of w_i parent_i + noise), standardised; w has either sign and a size uniform in [1, 2], noise is
    uniform in [-1, 1]. Measured variables are shuffled. ``x`` is (graphs, rows, n); ``upper``, ``lower`` alike.

    Args:
        info: not used.
        collider: one more measured variable, a child of both latents: n is 5, not 4.
        leaky: whether g(t) is max(t, 0.2 t), not tanh(t).
        rows: of a data set.
        graphs: data sets, which a procedure may answer side by side.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        collider: bool = False,
        leaky: bool = False,
        rows: PositiveInt = 1000,
        graphs: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=1)
        self.collider, self.leaky, self.rows, self.graphs = collider, leaky, rows, graphs

    def problem(self, rng: np.random.Generator) -> Problem:
        x, upper, lower = map(np.stack, zip(*(self.one(rng) for _ in range(self.graphs)), strict=True))
        return Problem({"x": x}, {"upper": upper, "lower": lower})

    def one(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A data set (rows, n), and its graph."""
        upper, pure = np.ones((1, 2), int), np.repeat(np.eye(2, dtype=int), 2, axis=1)
        lower = np.append(pure, np.ones((2, int(self.collider)), int), axis=1)
        lower = lower[:, rng.permutation(lower.shape[1])]
        root = np.sqrt(3) * rng.uniform(-1, 1, (self.rows, 1))  # of deviation 1, as all other parents
        return self.children(rng, self.children(rng, root, upper), lower), upper, lower

    def children(self, rng: np.random.Generator, parents: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """(rows, q) standardised children of (rows, p) parents, by edges (p, q)."""
        weights = edges * rng.uniform(1, 2, edges.shape) * rng.choice([-1, 1], edges.shape)
        t = parents @ weights + rng.uniform(-1, 1, (len(parents), edges.shape[1]))
        v = np.maximum(t, 0.2 * t) if self.leaky else np.tanh(t)
        return (v - v.mean(0)) / v.std(0)

    def answer(self, given: Arrays, rng: np.random.Generator) -> dict[str, np.ndarray]:
        upper, lower = map(np.stack, zip(*(self.found(x, rng) for x in given["x"]), strict=True))
        return {"upper": upper, "lower": lower}

    def found(self, x: np.ndarray, rng: np.random.Generator) -> Graph:
        """What the procedure finds of one data set (rows, n)."""
        raise NotImplementedError


def common_edges(truth: Graph, found: Graph) -> int:
    """Edges in common, latents of the lower layer matched so that these are the most."""
    common = truth[1] @ found[1].T + truth[0].T @ found[0]
    return int(common[linear_sum_assignment(common, maximize=True)].sum())


@metric("matched_edges", "Study", "1", "higher", within=(0.0, 1.0))
def matched_edges(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean F1 of edges over the data sets, latents matched at their best."""
    if not isinstance(model, HierarchyStudy):
        raise UserError("this model finds no layers of latents", fix="leave it out with `methods:`")

    def mean(truth: Arrays, answer: Arrays) -> float:
        pairs = zip(*(zip(a["upper"], a["lower"], strict=True) for a in (truth, answer)), strict=True)
        edges = [(common_edges(*pair), sum(int(layer.sum()) for graph in pair for layer in graph)) for pair in pairs]
        return float(np.mean([2 * common / both for common, both in edges]))

    return over_problems(model, mean)


@model("one-cause-ranks", "Iterative Study", examples=SMALL)
class OneCauseRanks(HierarchyStudy):
    """Linear rank search for clusters with one latent cause (as in Huang et al., arXiv 2210.01798).

    Two variables belong together where they correlate and their covariance with all others has rank 1; a cluster is
    what belongs together in a chain. A variable of no cluster becomes a child of each that it correlates with. This and
    the level are ours: the loosest of `LEVELS` at which both latents are found, as the others are told their number.
    """

    def found(self, x: np.ndarray, rng: np.random.Generator) -> Graph:
        for level in LEVELS:
            lower = one_cause_clusters(x, level)
            if lower.any(1).all():
                break
        return np.full((1, 2), int(lower.any(1).all())), lower


def one_cause_clusters(x: np.ndarray, level: float) -> np.ndarray:
    """Edges (2, n) to the variables x (rows, n), n at most 5, by tests at a level."""
    n, together = x.shape[1], nx.Graph()
    for pair in map(list, combinations(range(n), 2)):
        others = [i for i in range(n) if i not in pair]
        if not low(x, pair[:1], pair[1:], 0, level) and low(x, pair, others, 1, level):
            together.add_edge(*pair)
    edges = np.zeros((2, n), int)
    for row, cluster in zip(edges, map(list, nx.connected_components(together)), strict=False):
        row[:] = [i in cluster or (i not in together and not low(x, [i], cluster, 0, level)) for i in range(n)]
    return edges


def low(x: np.ndarray, a: list[int], b: list[int], rank: int, level: float) -> bool:
    """Whether rank(S_ab) <= `rank` is not rejected, of the covariances S of x (rows, n) (Bartlett 1947)."""
    if rank >= min(len(a), len(b)):
        return True
    rho = canonical_correlations(x[:, a], x[:, b])[rank:]
    statistic = -(len(x) - (len(a) + len(b) + 3) / 2) * np.log1p(-np.minimum(rho**2, 1 - 1e-12)).sum()
    return bool(statistic <= chi2.isf(level, (len(a) - rank) * (len(b) - rank)))


@model("variable-linkage", "Iterative Study", examples=SMALL)
class VariableLinkage(HierarchyStudy):
    """Average linkage of variables by 1 - |correlation|, cut into two clusters."""

    def found(self, x: np.ndarray, rng: np.random.Generator) -> Graph:
        from scipy.cluster.hierarchy import fcluster, linkage
        from scipy.spatial.distance import squareform

        tree = linkage(squareform(1 - np.abs(np.corrcoef(x.T)), checks=False), "average")
        return np.ones((1, 2), int), (fcluster(tree, 2, "maxclust") == [[1], [2]]).astype(int)


@model("random-hierarchy", "Iterative Study", examples=SMALL)
class RandomHierarchy(HierarchyStudy):
    """For each variable a latent drawn at random, of both as often as can be, whatever the data."""

    def found(self, x: np.ndarray, rng: np.random.Generator) -> Graph:
        return np.ones((1, 2), int), np.eye(2, dtype=int)[:, rng.permutation(x.shape[1]) % 2]
