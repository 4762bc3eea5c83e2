"""Choices of the number of latent communities: stable features of perturbed fits, and criteria of a single fit."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models import checks
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.stats import wilcoxon
from torch import Generator

from . import factors

EXAMPLES = (
    Example("real-vector", {"problems": 2, "entities": 9, "ranks": [2, 3], "most": 4, "fits": 3, "iterations": 20}),
)
Arrays = Mapping[str, Any]


class RankStudy(Study):
    """Relational tensors of known rank: Gaussian bumps along the entities as features, uniform cores.

    An answer has the `rank`.

    Args:
        info: not used.
        entities, relations: n and m of a tensor (m, n, n).
        ranks: the least and the greatest true rank; each is as likely.
        most: candidates are 1, .., most.
        width: of the bumps, whose deviation is width n / sqrt(2 rank); they stand n / rank apart.
        noise: entries are multiplied by a uniform number in (1 - noise, 1 + noise), at most 1.
        fits: at each candidate.
        iterations: of a fit.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        entities: PositiveInt = 16,
        relations: PositiveInt = 4,
        ranks: tuple[PositiveInt, PositiveInt] = (2, 4),
        most: PositiveInt = 5,
        width: PositiveFloat = 0.1,
        noise: NonNegativeFloat = 0.05,
        fits: PositiveInt = 8,
        iterations: PositiveInt = 1000,
        problems: PositiveInt = 5,
    ) -> None:
        super().__init__(info, problems=problems)
        if not ranks[0] <= ranks[1] < most <= entities:
            raise UserError(
                f"ranks {ranks} of at most {most}", fix="the greatest rank below most, most within entities"
            )
        self.entities, self.relations, self.ranks, self.most = entities, relations, tuple(ranks), most
        self.width, self.noise = width, checks.number("noise", noise, most=1.0)
        self.fits, self.iterations = fits, iterations

    def problem(self, rng: np.random.Generator) -> Problem:
        rank = int(rng.integers(self.ranks[0], self.ranks[1] + 1))
        features = bumps(self.entities, rank, self.width)
        x = features @ rng.random((self.relations, rank, rank)) @ features.T
        return Problem({"x": factors.perturbed(x, 1, self.noise, rng)[0]}, {"rank": rank, "features": features})

    def single(self, x: ndarray, rng: np.random.Generator) -> ndarray:
        """Least relative error of `fits` fits at each candidate, (most,)."""
        same = np.repeat(x[None], self.fits, axis=0)
        fitted = (factors.factorise(same, k, self.iterations, rng) for k in range(1, self.most + 1))
        return np.array([factors.relative_errors(x, a, r).min() for a, r in fitted])

    @abstractmethod
    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        """The `rank` of `x`."""


def bumps(entities: int, rank: int, width: float) -> ndarray:
    """Features (n, rank): exp(-rank d^2 / (width n)^2) at distance d from centres that are n / rank apart."""
    centres = (np.arange(rank) + 0.5) * entities / rank - 0.5
    return np.exp(-rank * ((np.arange(entities)[:, None] - centres) / (width * entities)) ** 2)


@model("rescal-stability", "Iterative Study", "silhouettes of perturbed RESCAL fits", examples=EXAMPLES)
class Stability(RankStudy):
    """The greatest rank whose features are stable and whose errors are below those of the last stable one.

    Args:
        spread: of the copies' entries, half the width of a uniform law about 1.
        threshold: the least silhouette width of a cluster must exceed it.
    """

    def __init__(self, info: DataInfo, *, spread: PositiveFloat = 0.015, threshold: float = 0.8, **design: Any) -> None:
        super().__init__(info, **design)
        self.spread, self.threshold = spread, threshold

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        x, candidates = given["x"], range(1, self.most + 1)
        copies = factors.perturbed(x, self.fits, self.spread, rng)
        least, errors, found = [], [], np.zeros((self.most, self.entities, self.most))
        for k in candidates:
            a, r = factors.factorise(copies, k, self.iterations, rng)
            found[k - 1, :, :k], features = factors.clustered(a)
            least.append(factors.silhouettes(features).min())
            errors.append(factors.relative_errors(x, a, r))
        rank = stable_rank(np.array(least), np.array(errors), self.threshold)
        return {"rank": rank, "least": np.array(least), "errors": np.array(errors), "features": found}


def stable_rank(least: ndarray, errors: ndarray, threshold: float) -> int:
    """The last of ranks 1, 2, .. above the threshold at which errors are lower than at the one before it.

    Args:
        least: least silhouette widths (K,).
        errors: relative errors of each fit (K, P); Wilcoxon's signed rank, one-sided at 0.025.
    """
    chosen = 0
    for k in range(1, len(least)):
        if least[k] > threshold and wilcoxon(errors[k], errors[chosen], alternative="less").pvalue < 0.025:
            chosen = k
    return chosen + 1


@model("rescal-elbow", "Iterative Study", "the elbow of RESCAL's error", examples=EXAMPLES)
class Elbow(RankStudy):
    """The rank whose error is farthest below the line from the first to the last."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        errors = self.single(given["x"], rng)
        line = np.linspace(errors[0], errors[-1], self.most)
        return {"rank": int(np.argmax(line - errors)) + 1, "errors": errors}


@model("rescal-bic", "Iterative Study", "Bayesian information criterion of RESCAL", examples=EXAMPLES)
class Bic(RankStudy):
    """The least N log(mean squared error) + d log N, with N entries and d = n k + m k^2 - k free parameters."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        errors, x = self.single(given["x"], rng), given["x"]
        k = np.arange(1, self.most + 1)
        free = self.entities * k + self.relations * k**2 - k
        bic = x.size * np.log(errors**2 * np.mean(x**2)) + free * np.log(x.size)
        return {"rank": int(np.argmin(bic)) + 1, "errors": errors}


@model("unfolding-gap", "Iterative Study", "ratio of singular values of the unfolding", examples=EXAMPLES)
class Gap(RankStudy):
    """The greatest ratio of neighbouring singular values of all X_i and X_i' side by side: no factorisation at all."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        x = given["x"]
        values = np.linalg.svd(np.concatenate([*x, *x.swapaxes(1, 2)], axis=1), compute_uv=False)
        values = np.append(values, 0.0)[: self.most + 1]
        return {"rank": int(np.argmax(values[:-1] / (values[1:] + factors.EPS * values[0]))) + 1}


@metric("rank_found", "Study", "1", "higher", within=(0.0, 1.0))
def rank_found(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of problems whose rank is found; the mean error of the rank is in the details."""
    found = over_problems(model, lambda truth, answer: float(answer["rank"] == truth["rank"]))
    signed = over_problems(model, lambda truth, answer: float(answer["rank"] - truth["rank"]))
    return MetricValue(found.value, found.se, found.n, {"signed_error": signed.value})


@metric("stability_drop", "Study", "1", "higher", within=(-2.0, 2.0))
def stability_drop(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean drop of the least silhouette width from the true rank to the next; both are in the details."""
    at = over_problems(model, lambda truth, answer: answer["least"][truth["rank"] - 1])
    beyond = over_problems(model, lambda truth, answer: answer["least"][truth["rank"]])
    drop = over_problems(model, lambda truth, answer: -np.diff(answer["least"])[truth["rank"] - 1])
    return MetricValue(drop.value, drop.se, drop.n, {"at": at.value, "beyond": beyond.value})


@metric("features_cosine", "Study", "1", "higher", within=(0.0, 1.0))
def features_cosine(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean cosine of true features and the centroids at the true rank, matched one to one."""

    def cosine(truth: Arrays, answer: Arrays) -> float:
        k, true = int(truth["rank"]), truth["features"] / np.linalg.norm(truth["features"], axis=0)
        found = answer["features"][k - 1][:, :k]
        return float(np.mean((true * found[:, factors.matched(true, found)]).sum(0)))

    return over_problems(model, cosine)
