"""DeepWalk (Perozzi, Al-Rfou & Skiena 2014, arXiv 1403.6652), and those that section 5.2 sets it beside.

Algorithm 1: uniform walks from each node, in a fresh order at each pass, and skip-gram with hierarchical softmax on
them (algorithm 2). Vectors are classified by one logistic regression a group.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.node_embeddings import random_walks, skip_gram
from latentbench.papers.deepwalk.groups import Groups
from pydantic import PositiveFloat, PositiveInt
from scipy.sparse import csr_matrix, diags_array
from scipy.sparse.linalg import LinearOperator, eigsh


class Vectors(Groups):
    """A vector a node, and one-vs-rest logistic regression on them by liblinear.

    Args:
        info, percents, problems: as of `Groups`.
        dim: coordinates of a vector.
        c: weight of the log-loss against half the squared norm of the coefficients.
        scaled: give each vector length 1 before it is classified.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        dim: PositiveInt = 128,
        c: PositiveFloat = 1.0,
        scaled: bool = False,
        percents: list[int] | None = None,
        problems: PositiveInt = 10,
    ) -> None:
        super().__init__(info, percents=percents, problems=problems)
        self.dim, self.c, self.scaled = dim, c, checks.flag("scaled", scaled)

    def look(self, graph: csr_matrix, rng: np.random.Generator) -> None:
        vectors = self.embed(graph, rng).astype(np.float64)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors = vectors / np.maximum(length, 1e-12) if self.scaled else vectors

    @abstractmethod
    def embed(self, graph: csr_matrix, rng: np.random.Generator) -> np.ndarray:
        """(N, dim) for the symmetric adjacency matrix."""

    def scores(self, graph: csr_matrix, known: np.ndarray, groups: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Log-odds of each group; of a group without a known member, below all others."""
        from sklearn.linear_model import LogisticRegression

        out = np.full((len(rest), groups.shape[1]), -np.inf)
        for group, members in enumerate(groups.T):
            if members.all():
                out[:, group] = np.inf
            elif members.any():
                fitted = LogisticRegression(C=self.c, solver="liblinear").fit(self._vectors[known], members)
                out[:, group] = fitted.decision_function(self._vectors[rest])
        return out


@model("deepwalk-groups", "Iterative Study", examples=(Example("graph", {"dim": 4, "walks": 3, "length": 6}),))
class DeepWalk(Vectors):
    """Skip-gram vectors of nodes, whose sentences are random walks.

    Args:
        info, dim, c, scaled, percents, problems: as of `Vectors`.
        walks, length: walks from each node, and nodes of a walk.
        window: nodes on either side that a node predicts.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        walks: PositiveInt = 80,
        length: PositiveInt = 40,
        window: PositiveInt = 10,
        dim: PositiveInt = 128,
        c: PositiveFloat = 1.0,
        scaled: bool = False,
        percents: list[int] | None = None,
        problems: PositiveInt = 10,
    ) -> None:
        super().__init__(info, dim=dim, c=c, scaled=scaled, percents=percents, problems=problems)
        self.walks, self.length, self.window = walks, length, window

    def embed(self, graph: csr_matrix, rng: np.random.Generator) -> np.ndarray:
        walks = random_walks(graph, self.walks, self.length, rng)
        return skip_gram(walks, dim=self.dim, window=self.window, output="hierarchical", rng=rng)


@model("laplacian-groups", "Iterative Study", examples=(Example("graph", {"dim": 4}),))
class Laplacian(Vectors):
    """The `dim` eigenvectors of the normalised Laplacian I - D^-1/2 A D^-1/2 with the smallest eigenvalues."""

    def embed(self, graph: csr_matrix, rng: np.random.Generator) -> np.ndarray:
        root = diags_array(np.maximum(np.asarray(graph.sum(1)).ravel(), 1.0) ** -0.5)
        return eigsh(root @ graph @ root, self.dim, which="LA", v0=rng.standard_normal(graph.shape[0]))[1]


@model("modularity-groups", "Iterative Study", examples=(Example("graph", {"dim": 4}),))
class Modularity(Vectors):
    """The `dim` first eigenvectors of A - d d^T / 2m, of degrees d and m edges (Newman 2006)."""

    def embed(self, graph: csr_matrix, rng: np.random.Generator) -> np.ndarray:
        degree = np.asarray(graph.sum(1)).ravel()
        matrix = LinearOperator(
            graph.shape, matvec=lambda v: graph @ v - degree * (degree @ v / degree.sum()), dtype=np.float64
        )
        return eigsh(matrix, self.dim, which="LA", v0=rng.standard_normal(graph.shape[0]))[1]


@model("wvrn-groups", "Iterative Study", examples=(Example("graph", {"rounds": 5}),))
class WeightedVote(Groups):
    """Weighted-vote relational neighbours with relaxation labelling (Macskassy & Provost 2007, section 3.4.2).

    Nodes that are not labelled start at the mean of those that are. In round t = 0, 1, ... each of them takes the mean
    of its neighbours with weight `decay`^t, and keeps what it had with the rest; one without neighbours keeps all.

    Args:
        info, percents, problems: as of `Groups`.
        rounds, decay: as above.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rounds: PositiveInt = 99,
        decay: PositiveFloat = 0.99,
        percents: list[int] | None = None,
        problems: PositiveInt = 10,
    ) -> None:
        super().__init__(info, percents=percents, problems=problems)
        self.rounds, self.decay = rounds, checks.number("decay", decay, most=1.0, above=True)

    def scores(self, graph: csr_matrix, known: np.ndarray, groups: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Estimated probabilities."""
        found = np.tile(groups.mean(0), (graph.shape[0], 1))
        found[known] = groups
        degree = np.asarray(graph.sum(1))[rest]
        for t in range(self.rounds):
            votes = np.where(degree > 0, graph[rest] @ found / np.maximum(degree, 1), found[rest])
            weight = self.decay**t
            found[rest] = weight * votes + (1 - weight) * found[rest]
        return found[rest]


@model("majority-groups", "Iterative Study", examples=(Example("graph"),))
class Majority(Groups):
    """The groups with the most labelled members, for every node."""

    def scores(self, graph: csr_matrix, known: np.ndarray, groups: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """How many labelled nodes are in each group."""
        return np.tile(groups.sum(0).astype(float), (len(rest), 1))
