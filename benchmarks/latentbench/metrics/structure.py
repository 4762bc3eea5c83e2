"""Learned graphs, rankings and links.

Directed graphs are adjacency matrices (D, D) with A[i, j] non-zero for an edge i -> j.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, matrix, mean_and_se, same_shape, vector
from latentbench.metrics.prediction import auroc, average_precision

Values = Any  # array, list or tensor
Mask = np.ndarray  # (D, D) bool


def _graph(adjacency: Values, name: str) -> Mask:
    a = matrix(adjacency, name)
    if a.shape[0] != a.shape[1]:
        raise UserError(f"has shape {a.shape}", where=name, fix="give a square adjacency matrix")
    if np.diag(a).any():
        raise UserError("has an edge from a node to itself", where=name, fix="clear the diagonal")
    return a != 0


def _graphs(predicted: Values, true: Values) -> tuple[Mask, Mask]:
    p, t = _graph(predicted, "predicted"), _graph(true, "true")
    same_shape(predicted=p, true=t)
    return p, t


@of_arrays("predicted true", "edges", "lower", "Tsamardinos et al. 2006")
def shd(predicted: Values, true: Values, *, reversal: int = 1) -> int:
    """Structural Hamming distance: pairs of nodes whose edges differ, lower is better (Tsamardinos et al. 2006).

    A missing, an added and a reversed edge cost 1 each; with `reversal=2` a reversed edge counts as one missing and one
    added (the other convention in use, and another metric).
    """
    p, t = _graphs(predicted, true)
    if reversal not in (1, 2):
        raise UserError(f"is {reversal}", where="reversal", fix="1 or 2")
    differ = p != t
    return int(differ.sum()) if reversal == 2 else int(np.triu(differ | differ.T).sum())


class EdgeF1(NamedTuple):
    """Precision, recall and their harmonic mean over directed edges, 0 … 1."""

    f1: float
    precision: float
    recall: float


@of_arrays("predicted true", "0 … 1", "higher")
def edge_f1(predicted: Values, true: Values, *, directed: bool = True) -> EdgeF1:
    """F1 of edges, higher is better; with `directed=False` of the skeletons. Two empty graphs agree: 1."""
    p, t = _graphs(predicted, true)
    if not directed:
        p, t = np.triu(p | p.T), np.triu(t | t.T)
    hits, found, there = int((p & t).sum()), int(p.sum()), int(t.sum())
    if found == there == 0:
        return EdgeF1(1.0, 1.0, 1.0)
    return EdgeF1(2 * hits / (found + there), hits / found if found else 0.0, hits / there if there else 0.0)


@of_arrays("scores true", "0 … 1", "higher")
def edge_auroc(scores: Values, true: Values) -> MetricValue:
    """Area under the ROC curve of edge scores (D, D) against a graph, over all ordered pairs off the diagonal."""
    return auroc(*_edges(scores, true))


@of_arrays("scores true", "0 … 1", "higher")
def edge_average_precision(scores: Values, true: Values) -> float:
    """Average precision of edge scores (D, D) against a graph, over all ordered pairs off the diagonal."""
    return average_precision(*_edges(scores, true))


def _edges(scores: Values, true: Values) -> tuple[Floats, np.ndarray]:
    s, t = matrix(scores, "scores"), _graph(true, "true")
    same_shape(true=t, scores=s)
    off = ~np.eye(len(t), dtype=bool)
    return s[off], t[off].astype(np.int64)


# ---- structural intervention distance


@of_arrays("predicted true", "pairs", "lower", "Peters & Bühlmann 2015")
def sid(predicted: Values, true: Values) -> int:
    """Structural intervention distance of two DAGs, 0 … D (D - 1), lower is better (Peters & Bühlmann 2015).

    Number of ordered pairs (i, j) for which adjusting for i's parents in the predicted graph gives the wrong effect of
    an intervention on i on j in the true one, by their graphical criterion. Not symmetric.

    Raises:
        UserError: a graph has a cycle.
    """
    p, t = _graphs(predicted, true)
    for name, graph in (("predicted", p), ("true", t)):
        reach = _reachability(graph)
        if (reach & reach.T & ~np.eye(len(graph), dtype=bool)).any():
            raise UserError("has a directed cycle", where=name, fix="this distance is between acyclic graphs")
    return sum(_wrong_effects(p[:, i], i, t, reach) for i in range(len(t)))


def _reachability(graph: Mask) -> Mask:
    """reach[i, j]: a directed path from i to j, or i = j."""
    reach = graph | np.eye(len(graph), dtype=bool)
    for _ in range(max(1, int(np.ceil(np.log2(max(len(graph), 2)))))):
        reach = (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
    return reach


def _wrong_effects(parents: np.ndarray, i: int, graph: Mask, reach: Mask) -> int:
    """Nodes j whose distribution under an intervention on i is not what adjusting for `parents` gives."""
    wrong = 0
    for j in range(len(graph)):
        if j == i:
            continue
        if parents[j]:  # adjusting for j itself says that i has no effect on it
            wrong += bool(reach[i, j])
            continue
        # nodes other than i on directed paths from i to j, and all that descends from them, must not be adjusted for
        on_path = reach[i] & reach[:, j]
        on_path[i] = False
        if (reach[on_path].any(axis=0) & parents).any():
            wrong += 1
            continue
        # what is left when i's edges into those paths are cut must be blocked
        cut = graph.copy()
        cut[i, on_path] = False
        wrong += not d_separated(cut, i, j, parents)
    return wrong


def d_separated(graph: Mask, i: int, j: int, given: np.ndarray) -> bool:
    """Whether nodes i and j of a DAG are d-separated by the nodes where `given` (D,) is true (reachability: Koller &
    Friedman 2009, algorithm 3.1)."""
    n = len(graph)
    ancestors = given.copy()
    while True:
        grown = ancestors | graph[:, ancestors].any(axis=1)
        if (grown == ancestors).all():
            break
        ancestors = grown
    # a trail arrives at a node from a child (upwards) or from a parent (downwards)
    seen = np.zeros((n, 2), dtype=bool)
    todo = [(i, 0)]
    while todo:
        node, downwards = todo.pop()
        if seen[node, downwards]:
            continue
        seen[node, downwards] = True
        if node == j:
            return False
        up = not given[node] if not downwards else ancestors[node]
        if up:
            todo += [(int(parent), 0) for parent in np.flatnonzero(graph[:, node])]
        if not given[node]:
            todo += [(int(child), 1) for child in np.flatnonzero(graph[node])]
    return True


# ---- rankings and links


def _rankings(scores: Values, relevance: Values) -> tuple[Floats, Floats]:
    s, r = matrix(scores, "scores"), matrix(relevance, "relevance")
    same_shape(scores=s, relevance=r)
    if (r < 0).any() or not r.any():
        raise UserError("must be non-negative with some positive entry", where="relevance")
    keep = r.any(axis=1)  # a query without any relevant item has no ranking to judge
    return s[keep], r[keep]


def _top(scores: Floats, relevance: Floats, k: int) -> Floats:
    """What is gained at the first k places: of items with equal scores, which may come in any order, the mean (McSherry
    & Najork 2008)."""
    if k < 1:
        raise UserError(f"is {k}", where="k")
    order = np.argsort(-scores, axis=1, kind="stable")
    gained = np.take_along_axis(relevance, order, axis=1).astype(np.float64)
    in_order = np.take_along_axis(scores, order, axis=1)
    for row, values in zip(gained, in_order):
        starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
        if len(starts) < len(row):
            sizes = np.diff(np.append(starts, len(row)))
            row[:] = np.repeat(np.add.reduceat(row, starts) / sizes, sizes)
    return gained[:, :k]


@of_arrays("scores relevance", "0 … 1", "higher", "Järvelin & Kekäläinen 2002", version=2)
def ndcg(scores: Values, relevance: Values, *, k: int = 100) -> MetricValue:
    """Normalised discounted cumulative gain at k, 0 … 1, higher is better (Järvelin & Kekäläinen 2002; linear gain).

    Mean over queries with a relevant item; of ties the mean over their orders. Exclude items seen in training by scores
    of their own, lower than all others (-inf is refused: use a large negative number).

    Args:
        scores, relevance: (queries, items); relevance 0 or more.
    """
    s, r = _rankings(scores, relevance)
    discount = 1 / np.log2(np.arange(2, min(k, s.shape[1]) + 2))
    ideal = -np.sort(-r, axis=1)[:, :k] @ discount
    value, se = mean_and_se(_top(s, r, k) @ discount / ideal)
    return MetricValue(value, se, len(s))


@of_arrays("scores relevance", "0 … 1", "higher", "Liang et al. 2018", version=2)
def recall_at_k(scores: Values, relevance: Values, *, k: int = 20) -> MetricValue:
    """Relevant items among the first k, over min(k, relevant items), 0 … 1, higher is better.

    Liang et al. 2018. Arguments as for `ndcg`; any positive relevance counts as one.
    """
    s, r = _rankings(scores, relevance)
    hits = _top(s, (r > 0).astype(np.float64), k).sum(axis=1)
    value, se = mean_and_se(hits / np.minimum(k, (r > 0).sum(axis=1)))
    return MetricValue(value, se, len(s))


class LinkPrediction(NamedTuple):
    """AUROC and average precision of held-out edges against non-edges, higher is better."""

    auroc: float
    average_precision: float


@of_arrays("positive_scores negative_scores", "0 … 1", "higher", "Kipf & Welling 2016")
def link_prediction(positive_scores: Values, negative_scores: Values) -> LinkPrediction:
    """Held-out edges (P,) against sampled non-edges (M,), as Kipf & Welling 2016 evaluate graph auto-encoders."""
    scores = np.concatenate([np.ravel(positive_scores), np.ravel(negative_scores)])
    labels = np.repeat([1, 0], [np.size(positive_scores), np.size(negative_scores)])
    return LinkPrediction(auroc(scores, labels).value, average_precision(scores, labels))


class RankMetrics(NamedTuple):
    """Mean reciprocal rank and share of ranks up to k, higher is better."""

    mrr: float
    hits: float


@of_arrays("ranks", "0 … 1", "higher", "Bordes et al. 2013")
def rank_metrics(ranks: Values, *, k: int = 10) -> RankMetrics:
    """Mean reciprocal rank and hits@k of the true entity's rank, 1 for the best (Bordes et al. 2013).

    Args:
        ranks: (N,) numbers from 1; of entities that tie, the mean of their ranks, so that halves are ranks too.
        k: a rank up to this one is a hit.

    Raises:
        UserError: a rank below 1, one that is neither whole nor a half (the mean of a run of whole ranks is one of
            the two), or k below 1.
    """
    r = vector(ranks, "ranks")
    if r.min() < 1 or k < 1:
        raise UserError("ranks and k start at 1", where="ranks")
    if (np.mod(2 * r, 1) != 0).any():
        raise UserError(
            f"{r[np.mod(2 * r, 1) != 0][0]:g} is no rank",
            where="ranks",
            fix="whole numbers, or the mean rank of a tie, which is whole or ends in .5",
        )
    return RankMetrics(float((1 / r).mean()), float((r <= k).mean()))
