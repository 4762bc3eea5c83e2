"""Linear non-Gaussian models with latent confounders, and how far an answer is from one.

Observed x = B x + G l + e, with independent latents l and noises e of variance one, so that x = M (l, e) with the
mixing matrix M = (I - B)^-1 [G, I]. Entry (i, j) of (I - B)^-1 is the effect of variable j on variable i.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from latentbench.core.capabilities import Study as Answered
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import metric
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Problem, Study
from pydantic import PositiveInt
from scipy.optimize import linear_sum_assignment
from torch import Generator

#: Children of each latent, and effects as (cause, outcome), before variables are shuffled.
STRUCTURES = {
    "one": ([[0, 1, 2]], [(0, 1)]),
    "two": ([[0, 1, 2, 3], [0, 1, 3]], [(0, 1)]),
}
#: The smallest size of an entry of the mixing matrix that is not zero by structure, so that effects do not cancel.
LEAST = 0.2


class ConfoundedStudy(Study):
    """Problems with their graph and effects (p, p) among observed variables, and mixing matrix (p, latents + p).

    Args:
        info: not used.
        structure: `one` latent of three variables, of which one has an effect on another; `two` latents, where the
            second is behind three of the first one's four variables and has no child of its own.
        noise: law of latents and noises, scaled to variance one.
        rows: of a problem.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        structure: Literal["one", "two"] = "one",
        noise: Literal["exponential", "laplace", "uniform"] = "exponential",
        rows: PositiveInt = 1000,
        problems: PositiveInt = 10,
    ) -> None:
        super().__init__(info, problems=problems)
        self.structure, self.noise, self.rows = structure, noise, rows

    def problem(self, rng: np.random.Generator) -> Problem:
        children, edges = STRUCTURES[self.structure]
        p = 1 + max(max(c) for c in children)
        b, g = np.zeros((p, p)), np.zeros((p, len(children)))
        possible = np.zeros(1)
        while possible.min() < LEAST:
            for cause, outcome in edges:
                b[outcome, cause] = rng.choice([-1, 1]) * rng.uniform(0.5, 1.0)
            for latent, those in enumerate(children):
                g[those, latent] = rng.choice([-1, 1], len(those)) * rng.uniform(0.5, 1.0, len(those))
            paths = np.linalg.inv(np.eye(p) - (b != 0))
            effects = np.linalg.inv(np.eye(p) - b)
            possible = np.abs(np.hstack([effects @ g, effects])[np.hstack([paths @ (g != 0), paths]) > 0])
        order = rng.permutation(p)
        b, effects = b[order][:, order], effects[order][:, order]
        mixing = np.hstack([effects @ g[order], effects])
        shape = (self.rows, mixing.shape[1])
        if self.noise == "exponential":
            sources = rng.exponential(size=shape) - 1.0
        elif self.noise == "laplace":
            sources = rng.laplace(scale=0.5**0.5, size=shape)
        else:
            sources = rng.uniform(-(3**0.5), 3**0.5, size=shape)
        graph = (b != 0).T.astype(int)
        return Problem(
            {"x": sources @ mixing.T, "graph": graph, "latents": len(children)},
            {"graph": graph, "effects": effects - np.eye(p), "mixing": mixing},
        )


def mixing_error(found: np.ndarray, true: np.ndarray) -> float:
    """One minus the mean absolute cosine of matched columns, 0 … 1; a column that is not found counts 1.

    Args:
        found: (p, q') mixing matrix, of any order, sign and scale of columns.
        true: (p, q) mixing matrix.
    """

    def unit(a: np.ndarray) -> np.ndarray:
        return a / np.maximum(np.linalg.norm(a, axis=0), 1e-300)

    cosines = np.abs(unit(true).T @ unit(found))
    return 1.0 - float(cosines[linear_sum_assignment(-cosines)].sum()) / true.shape[1]


@metric("mixing_distance", "Study", "1", "lower", within=(0.0, 1.0))
def mixing_distance(model: Answered, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Mean distance of the mixing matrix: one minus the absolute cosine of matched columns."""
    return over_problems(model, lambda truth, answer: mixing_error(answer["mixing"], truth["mixing"]))


@metric("effect_error", "Study", "1", "lower", within=(0.0, None))
def effect_error(model: Answered, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Mean absolute error of the total effects of variables on each other, over those that are not zero."""

    def error(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
        return float(np.abs(answer["effects"] - truth["effects"])[truth["effects"] != 0].mean())

    return over_problems(model, error)
