"""Linear models with hidden variables anywhere in the graph, and how much of a skeleton was found.

Equation (1) of Dong et al. (arXiv 2312.11001): v_i = sum_j a_ij v_j + e_i over hidden and observed variables, of which
the observed are given. The graphs are those of the authors' repository (scenarios.py of scm-identify): the first of
figure 18, two of figure 17 and two of figure 19. An answer is ``skeleton`` (p + m, p + m), symmetric 0/1, the p
observed variables first; m, the number of hidden ones, is the procedure's finding.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any, Literal

import numpy as np
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import metric
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Arrays, Problem, Study
from pydantic import PositiveInt
from torch import Generator

Kind = Literal["tree", "measurement", "general"]

#: Graphs of each kind: "parents > children", variables named X1, X2 … and L1, L2 …
GRAPHS: dict[str, list[str]] = {
    "tree": [
        "X1>L1 X2 L2; L1>X3 L3 X4; X2>X5 L4 X6; L2>X7 X8 X9; L3>X10 X11 X12; L4>X13 X14 X15; X8>X16 X17 X18",
    ],
    "measurement": [
        "L1>X1 X2 L2 L3; L2>X3 X4 L4; L3>X5 X6 X7 L4; L4>X8 X9; X5>X10 X11 X12",
        "X1>X2 L1 L2; L1>X3 X4; L2>X5 X6; L1 L2>X7; X7>X8",
    ],
    "general": [
        "L1 L2>L3 L4 X1 X2 X3 L5 X4 X5; L3 L4 X1>X6 X7 X8 X9 X10 X11; X2>X12 X13; X3>X14; L5>X15 X16; X4 X5>X17",
        "L1 X1>L2 X2 L3 X3 L4 X4 X5; L2 X2>X6 X7 X8 X9 X10; L3>X10 X11 X12; X3>X13; L4>X14 X15; X4 X5>X16",
    ],
}


def directed(graph: str) -> tuple[np.ndarray, int]:
    """Adjacency (p + m, p + m), 1 from cause (row) to effect (column), observed variables first; and p."""
    edges = [
        (cause, effect)
        for part in graph.split(";")
        for cause in part.split(">")[0].split()
        for effect in part.split(">")[1].split()
    ]
    names = sorted({v for edge in edges for v in edge}, key=lambda v: (v[0] != "X", int(v[1:])))
    adjacency = np.zeros((len(names), len(names)), int)
    for cause, effect in edges:
        adjacency[names.index(cause), names.index(effect)] = 1
    return adjacency, sum(v[0] == "X" for v in names)


class LatentGraphStudy(Study):
    """Problems of `rows` rows with a graph of `kind`: strengths uniform in [-10, 10], Gaussian noise of variance 0.1
    to 1, variables numbered at random. `alpha` is the level of the procedure's tests; `info` is not used."""

    def __init__(
        self,
        info: DataInfo,
        *,
        kind: Kind = "tree",
        rows: PositiveInt = 2000,
        alpha: float = 0.005,
        problems: PositiveInt = 10,
    ) -> None:
        super().__init__(info, problems=problems)
        self.kind, self.rows, self.alpha = kind, rows, alpha

    def problem(self, rng: np.random.Generator) -> Problem:
        adjacency, p = directed(str(rng.choice(GRAPHS[self.kind])))
        order = np.append(rng.permutation(p), np.arange(p, len(adjacency)))
        adjacency = adjacency[order][:, order]
        strengths = adjacency * rng.uniform(-10.0, 10.0, adjacency.shape)
        noise = rng.standard_normal((self.rows, len(adjacency))) * rng.uniform(0.1, 1.0, len(adjacency)) ** 0.5
        x = noise @ np.linalg.inv(np.eye(len(adjacency)) - strengths)[:, :p]
        return Problem({"x": x}, {"skeleton": adjacency + adjacency.T, "observed": p, "strengths": strengths})


def skeleton_f1(true: np.ndarray, found: np.ndarray, p: int) -> float:
    """Best F1 of edges over all matchings of found and true hidden variables (appendix B.15); `true` (p + m, p + m) and
    `found` (p + q, p + q) are symmetric 0/1. Where q < m, ones without edges are added; where q > m, some left out."""
    m, q = len(true) - p, max(len(found), len(true)) - p
    padded = np.zeros((p + q, p + q), int)
    padded[: len(found), : len(found)] = found
    chosen = np.array(list(permutations(range(q), m)), int)
    seen = padded[:p, :p]
    hits = np.full(len(chosen), (seen * true[:p, :p]).sum() / 2)
    edges = np.full(len(chosen), seen.sum() / 2)
    common = true[p:, :p] @ padded[:p, p:]
    for j in range(m):
        hits += common[j, chosen[:, j]]
        edges += padded[:p, p:].sum(0)[chosen[:, j]]
        for i in range(j):
            between = padded[p + chosen[:, i], p + chosen[:, j]]
            hits += true[p + i, p + j] * between
            edges += between
    return float((2 * hits / (edges + true.sum() / 2)).max())


@metric("matched_skeleton", "Study", "1", "higher", within=(0.0, 1.0))
def matched_skeleton(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean F1 of the skeleton among observed and hidden variables, the latter matched at their best."""
    return over_problems(model, lambda t, a: skeleton_f1(t["skeleton"], a["skeleton"], t["observed"]))


@metric("observed_skeleton", "Study", "1", "higher", within=(0.0, 1.0))
def observed_skeleton(model: Any, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean F1 of the edges between observed variables."""

    def f1(truth: Arrays, answer: Arrays) -> float:
        p = truth["observed"]
        return skeleton_f1(truth["skeleton"][:p, :p], answer["skeleton"][:p, :p], p)

    return over_problems(model, f1)
