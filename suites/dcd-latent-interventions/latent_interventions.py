"""Graphs from rows of several interventions, where nothing says which row is of which (Faria et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from .mixture import Ascent

EXAMPLES = (Example("real-vector", {"rows": 60, "variables": 3, "problems": 2, "steps": 3, "starts": 1}),)
TENTH = 0.1  # of rows, with known components
INNER, SPREAD = 0.2, 0.2  # share of the noise on variables with parents; deviation under intervention
Arrays = Mapping[str, Any]
Components = Literal["latent", "tenth", "given", "kmeans", "gaussians", "none", "observational", "empty"]


class World:
    """x_j = w_j' x + noise in an order drawn at random, as the authors' PyCausal draws it.

    Args:
        rng: of graph and mechanisms.
        d: variables.
        degree: expected number of edges, over d.
        shift: size of the mean under an intervention, up to twice of it, of either sign.

    Attributes:
        graph: (d, d), 1 at [i, j] for an edge i -> j; `weights` likewise.
    """

    def __init__(self, rng: np.random.Generator, d: int, degree: float, shift: float) -> None:
        self.order, self.graph = rng.permutation(d), np.zeros((d, d), dtype=int)
        self.graph[np.ix_(self.order, self.order)] = np.triu(rng.random((d, d)) < 2 * degree / (d - 1), 1)
        self.weights = self.graph * rng.uniform(0.25, 1.0, (d, d)) * rng.choice([-1.0, 1.0], (d, d))
        self.scale, self.offset = 0.4 * rng.uniform(1.0, 1.4, d), 0.3 * rng.standard_normal(d)
        self.means = shift * rng.uniform(1.0, 2.0, d) * rng.choice([-1.0, 1.0], d)

    def draw(self, rng: np.random.Generator, n: int, target: int | None = None) -> ndarray:
        """(n, d), with variable `target` under intervention."""
        x = rng.standard_normal((n, len(self.order)))
        for j in self.order:  # causes come first
            if j == target:
                x[:, j] = self.means[j] + SPREAD * x[:, j]
            else:
                share = INNER if self.graph[:, j].any() else 1.0
                x[:, j] = x @ self.weights[:, j] + share * (self.scale[j] * x[:, j] + self.offset[j])
        return x


def standardised(x: ndarray) -> ndarray:
    return (x - x.mean(0)) / x.std(0)


@model("interventional-mixture", "Iterative Study StructureLearner Clusterer", examples=EXAMPLES)
class InterventionalMixture(Study):
    """The graph and components of the highest bound (`Ascent`), for rows of one structural causal model.

    Args:
        variables, degree, shift: see `World`.
        rows: in equal parts without and under the intervention on each variable; all together they have mean 0 and
            deviation 1.
        components: ``latent``; ``tenth``, given for a tenth of the rows; ``given``; ``kmeans`` or ``gaussians``,
            clusters that scikit-learn finds, as many as there are components; ``none``, all rows as if there were no
            interventions; ``observational``, as many rows without interventions; ``empty``, the graph without edges.
        edge_cost, target_cost: in nats a row.
        concentration: of the Dirichlet process.
        starts: of which the highest bound counts, where components are latent.
        steps: of an ascent, at most.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        variables: PositiveInt = 10,
        degree: PositiveFloat = 1.0,
        shift: NonNegativeFloat = 4.0,
        rows: PositiveInt = 10_000,
        problems: PositiveInt = 1,
        components: Components = "latent",
        edge_cost: NonNegativeFloat = 0.0215,
        target_cost: NonNegativeFloat = 0.1,
        concentration: PositiveFloat = 9.0,
        starts: PositiveInt = 4,
        steps: PositiveInt = 150,
    ) -> None:
        super().__init__(info, problems=problems)
        self.world, self.rows, self.components, self.starts = (variables, degree, shift), rows, components, starts
        self.costs, self.ascent = (edge_cost, target_cost), (concentration, steps)

    def problem(self, rng: np.random.Generator) -> Problem:
        """Rows ``x`` (n, d), their components ``labels`` (n,), 0 without intervention and 1 + j under the one on j, and
        as many rows ``observational`` (n, d) without."""
        world, (d, *_) = World(rng, *self.world), self.world
        labels = np.repeat(np.arange(d + 1), self.rows // (d + 1))
        x = np.concatenate([world.draw(rng, self.rows // (d + 1), j) for j in (None, *range(d))])
        order = rng.permutation(len(x))
        x, labels = standardised(x)[order], labels[order]
        given = {"x": x, "labels": labels, "observational": standardised(world.draw(rng, len(x)))}
        return Problem(given, {"graph": world.graph, "labels": labels})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        from sklearn.cluster import KMeans
        from sklearn.mixture import GaussianMixture

        x, labels = given["observational" if self.components == "observational" else "x"], given["labels"]
        n, k = len(x), x.shape[1] + 1
        if self.components == "empty":
            return {"graph": np.zeros((k - 1, k - 1), dtype=int), "labels": np.zeros(n, dtype=int)}
        ascent = Ascent(x, n * self.costs[0], n * self.costs[1], *self.ascent)
        every, one_hot, seed = np.ones(n, dtype=bool), np.eye(k), int(rng.integers(2**31))
        if self.components in ("none", "observational", "given"):
            best = ascent.run(one_hot[labels] if self.components == "given" else np.ones((n, 1)), every)
        elif self.components in ("kmeans", "gaussians"):
            rival = KMeans if self.components == "kmeans" else GaussianMixture
            found = rival(k, n_init=10, random_state=seed).fit_predict(x)
            best = ascent.run(ascent.placed(one_hot[found]), every)
        else:
            known = np.where(rng.random(n) < (TENTH if self.components == "tenth" else 0.0), labels, -1)
            starts = [one_hot[start(x, known, rng)] for _ in range(self.starts)]
            ends = [ascent.run(q if known.max() >= 0 else ascent.placed(q), known >= 0) for q in starts]
            best = max(ends, key=lambda end: end.bounds[-1])
        return {"graph": best.graph, "labels": best.q.argmax(1)}


def start(x: ndarray, known: ndarray, rng: np.random.Generator) -> ndarray:
    """Components (n,) to start from: those of the nearest centres, but known (n,) ones where these are not -1.

    Centres are means of resampled known rows or, where a component has none, k-means++ (Arthur & Vassilvitskii 2007).
    """
    from sklearn.cluster import kmeans_plusplus

    k = x.shape[1] + 1
    if len(set(known) - {-1}) == k:
        rows = [np.flatnonzero(known == c) for c in range(k)]
        centres = np.stack([x[rng.choice(r, len(r))].mean(0) for r in rows])
    else:
        centres = kmeans_plusplus(x, k, random_state=int(rng.integers(2**31)))[0]
    return np.where(known < 0, ((x[:, None] - centres) ** 2).sum(2).argmin(1), known)
