"""Groups of a network's members, told from those of some members: the experiment of DeepWalk's section 6.1.

A problem is an order of the nodes; the first share of them is labelled, and a procedure scores the groups of the
others. As in Tang & Liu 2009 it is told how many groups each has, and the highest scores are taken for them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import metric
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models import checks
from latentbench.models.node_embeddings import adjacency
from latentbench.models.study import Arrays, Problem, Study
from scipy.sparse import csr_matrix
from torch import Generator, Tensor

Settings = Mapping[str, Any]


class Groups(Study):
    """Nodes of one graph with the groups `x` (N, L) that they are in, and the part ``edges``.

    Args:
        info: of one graph.
        percents: per cent of the nodes whose groups are known.
        problems: orders of the nodes; at each of them all of `percents` are tried.

    Raises:
        UserError: the data are no graph, or a share leaves no node to be labelled or none to learn from.
    """

    def __init__(self, info: DataInfo, *, percents: list[int] | None = None, problems: int = 10) -> None:
        super().__init__(info, problems=problems)
        if "edges" not in info.parts or not info.parts["edges"].whole:
            raise UserError("groups are told on one graph, whose nodes are the rows", fix="choose such a dataset")
        self.percents = checks.wholes("percents", percents or [10, 50, 90])
        if not all(0 < p * info.n_train // 100 < info.n_train for p in self.percents):
            raise UserError(f"percents are {list(self.percents)}", fix="leave some nodes on either side")
        self._graph: csr_matrix | None = None
        self._groups = np.zeros((0, 0), bool)

    def advance(self, data: Batch, generator: Generator) -> Mapping[str, Tensor | float]:
        if self._graph is None:
            self._graph = adjacency(data.parts["edges"].cpu().numpy(), len(data.x))
            self._groups = data.x.cpu().numpy() > 0.5
            self.look(self._graph, np.random.default_rng([self._seed, 2]))
        return super().advance(data, generator)

    def look(self, graph: csr_matrix, rng: np.random.Generator) -> None:
        """Called once, before any group is known."""

    def problem(self, rng: np.random.Generator) -> Problem:
        return Problem({"order": rng.permutation(self.info.n_train)})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        """``counts`` (percents, 3, L): nodes that are rightly put in each group, that are put there, that are in it."""
        counts = []
        for percent in self.percents:
            known, rest = np.split(given["order"], [percent * self.info.n_train // 100])
            scores = self.scores(self._graph, known, self._groups[known], rest)
            truth = self._groups[rest]
            chosen = most_likely(scores, truth.sum(1))
            counts.append([(chosen & truth).sum(0), chosen.sum(0), truth.sum(0)])
        return {"counts": np.array(counts)}

    @abstractmethod
    def scores(self, graph: csr_matrix, known: np.ndarray, groups: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """(M, L), higher where a node of `rest` (M,) is likelier in a group, from `groups` (K, L) of `known` (K,)."""


def most_likely(scores: np.ndarray, how_many: np.ndarray) -> np.ndarray:
    """(M, L) flags of the `how_many` (M,) highest scores in each row; of equal ones, the first groups' come first."""
    rank = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable")
    return rank < how_many[:, None]


def f1(counts: np.ndarray) -> np.ndarray:
    """(3, ...) hits, choices and members to F1 (...); where nothing is chosen and nobody is a member, 0."""
    hits, chosen, members = counts.astype(float)
    return 2 * hits / np.maximum(chosen + members, 1)


@metric("groups_micro", "Study", "%", "higher", settings={"percent": 50}, lowest={"percent": 1}, within=(0.0, 100.0))
def groups_micro(model: Groups, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """F1 over all pairs of a node and a group, `percent` per cent of the nodes labelled."""
    return over_problems(model, lambda _, answer: 100 * float(f1(_at(model, answer, settings).sum(1))))


@metric("groups_macro", "Study", "%", "higher", settings={"percent": 50}, lowest={"percent": 1}, within=(0.0, 100.0))
def groups_macro(model: Groups, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Mean over groups of their F1, `percent` per cent of the nodes labelled."""
    return over_problems(model, lambda _, answer: 100 * float(f1(_at(model, answer, settings)).mean()))


def _at(model: Groups, answer: Arrays, settings: Settings) -> np.ndarray:
    percent = int(settings["percent"])
    if percent not in model.percents:
        raise UserError(f"{percent} per cent were not tried", fix=f"percents that were: {list(model.percents)}")
    return np.asarray(answer["counts"])[model.percents.index(percent)]
