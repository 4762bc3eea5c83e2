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
from .worlds import World

SMALL = {"rows": 60, "variables": 3, "problems": 2, "steps": 3, "starts": 1}
EXAMPLES = tuple(Example("real-vector", {**SMALL, "components": c}) for c in ("latent", "tenth", "gaussians", "none"))
TENTH = 0.1  # of rows, with known components
Arrays = Mapping[str, Any]


class LatentInterventions(Study):
    """Problems: rows of one structural causal model, as many without as under each single-node intervention.

    Args:
        info: of the data, which are not looked at.
        linear, variables, degree, shift: see `World`.
        rows: all together; each variable is brought to mean 0 and deviation 1 over them.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        linear: bool = True,
        variables: PositiveInt = 10,
        degree: PositiveFloat = 1.0,
        shift: NonNegativeFloat = 4.0,
        rows: PositiveInt = 10_000,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.world, self.rows = (variables, degree, linear, shift), rows

    def problem(self, rng: np.random.Generator) -> Problem:
        """Rows ``x`` (n, d), their components ``labels`` (n,), 0 without intervention and 1 + j under one on j, and
        as many rows ``observational`` (n, d) without."""
        world = World(rng, *self.world)
        each = self.rows // (world.d + 1)
        labels = np.repeat(np.arange(world.d + 1), each)
        x = np.concatenate([world.draw(rng, each), *(world.draw(rng, each, j) for j in range(world.d))])
        order = rng.permutation(len(x))
        x, labels = standardised(x)[order], labels[order]
        given = {"x": x, "labels": labels, "observational": standardised(world.draw(rng, len(x)))}
        return Problem(given, {"graph": world.graph, "labels": labels})


def standardised(x: ndarray) -> ndarray:
    return (x - x.mean(0)) / x.std(0)


@model("no-edges", "Iterative Study StructureLearner", examples=(Example("real-vector", {"problems": 2, "rows": 60}),))
class NoEdges(LatentInterventions):
    """The empty graph."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        return {"graph": np.zeros((given["x"].shape[1],) * 2, dtype=int)}


@model("interventional-mixture", "Iterative Study StructureLearner Clusterer", examples=EXAMPLES)
class InterventionalMixture(LatentInterventions):
    """The graph and components of the highest bound (`Ascent`), where components are latent, given, or found before.

    Args:
        info: of the data, which are not looked at.
        components: ``latent``; ``tenth``, given for a tenth of the rows; ``given``; ``kmeans`` or ``gaussians``,
            clusters that scikit-learn finds, as many as there are components; ``none``, all rows as if there were no
            interventions; ``observational``, as many rows without interventions.
        features: degree of the mechanisms' polynomials.
        edge_cost, target_cost: in nats a row.
        concentration: of the Dirichlet process.
        starts: of which the highest bound counts, where components are latent.
        steps: of an ascent, at most.
        **design: of `LatentInterventions`.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        components: Literal["latent", "tenth", "given", "kmeans", "gaussians", "none", "observational"] = "latent",
        features: PositiveInt = 1,
        edge_cost: NonNegativeFloat = 0.0215,
        target_cost: NonNegativeFloat = 0.0215,
        concentration: PositiveFloat = 9.0,
        starts: PositiveInt = 4,
        steps: PositiveInt = 60,
        **design: Any,
    ) -> None:
        super().__init__(info, **design)
        self.components, self.starts = components, starts
        self.costs, self.ascent = (edge_cost, target_cost), (features, concentration, steps)

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        x, labels = given["observational" if self.components == "observational" else "x"], given["labels"]
        (n, d), (degree, concentration, steps) = x.shape, self.ascent
        ascent = Ascent(x, degree, *(n * c for c in self.costs), concentration, steps)
        every, one_hot = np.ones(n, dtype=bool), np.eye(d + 1)
        if self.components in ("none", "observational"):
            best = ascent.run(np.ones((n, 1)), every)
        elif self.components == "given":
            best = ascent.run(one_hot[labels], every)
        elif self.components in ("kmeans", "gaussians"):
            best = ascent.run(ascent.placed(one_hot[clusters(x, self.components, int(rng.integers(2**31)))]), every)
        else:
            known = rng.random(n) < TENTH if self.components == "tenth" else np.zeros(n, dtype=bool)
            starts = (self.start(x, np.where(known, labels, -1), rng) for _ in range(self.starts))
            best = max((ascent.twice(one_hot[start], known) for start in starts), key=lambda end: end.bounds[-1])
        return {"graph": best.graph, "labels": best.q.argmax(1)}

    def start(self, x: ndarray, known: ndarray, rng: np.random.Generator) -> ndarray:
        """Components (n,) to begin with: of the nearest of centres, means of half of the rows of known (n,) component, or
        rows that lie apart (Arthur & Vassilvitskii 2007) where none is known, which is -1."""
        from sklearn.cluster import kmeans_plusplus

        k = x.shape[1] + 1
        some = (known >= 0) & (rng.random(len(x)) < 0.5)
        if set(known[some]) >= set(range(k)):
            centres = np.stack([x[some & (known == c)].mean(0) for c in range(k)])
        else:
            centres = kmeans_plusplus(x, k, random_state=int(rng.integers(2**31)))[0]
        return np.where(known >= 0, known, ((x[:, None] - centres) ** 2).sum(2).argmin(1))


def clusters(x: ndarray, how: str, seed: int) -> ndarray:
    """Cluster (n,) of each row (n, d), of d + 1."""
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    k = x.shape[1] + 1
    if how == "kmeans":
        return KMeans(k, n_init=10, random_state=seed).fit_predict(x)
    return GaussianMixture(k, n_init=10, random_state=seed).fit_predict(x)
