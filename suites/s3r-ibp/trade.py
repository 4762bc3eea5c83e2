"""Counts of countries by products from sparse features, and factorisations of them that predict held-out cells."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from itertools import product
from typing import Any, Literal

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models import checks
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import PositiveFloat, PositiveInt
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from scipy.stats import poisson, wasserstein_distance
from torch import Generator

from .buffets import SHAPES, Buffet, Factors, GammaPoisson, masked_nmf, sum_law

SMALL = {"problems": 2, "countries": 12, "products": 15, "true_features": 4, "support": 5, "features": 5, "sweeps": 8}
ONE = (Example("real-vector", SMALL),)
EXAMPLES = (
    Example("real-vector", {**SMALL, "world": "buffet"}),
    Example("real-vector", {**SMALL, "three": False, "restricted": False}),
)
Arrays = Mapping[str, Any]

#: Laws of the number of features of a country, by world; `buffet` has independent features with the mean of `split`.
LAWS = {"split": {1: 0.6, 7: 0.4}, "fixed": {3: 1.0}}


class Exports(Study):
    """Answers have `score` (log predictive probabilities of the held-out cells) and `topics` (K, D).

    Args:
        info: of the data, which are not looked at.
        world: a country's features: 1 or 7 (`split`), always 3 (`fixed`), or independent ones (`buffet`).
        countries, products: N and D.
        true_features: of the simulation.
        support: products of a feature, each with a loading of Gamma(2) and mean `level`.
        level: see above.
        base: mean of the exponential rates that all countries have.
        held_out: share of cells that are not seen.
        features: K of the models.
        sweeps: of the samplers; the second half counts.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        world: Literal["split", "fixed", "buffet"] = "split",
        countries: PositiveInt = 60,
        products: PositiveInt = 60,
        true_features: PositiveInt = 10,
        support: PositiveInt = 10,
        level: PositiveFloat = 4.0,
        base: PositiveFloat = 0.1,
        held_out: PositiveFloat = 0.3,
        features: PositiveInt = 15,
        sweeps: PositiveInt = 600,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.world, self.countries, self.products = world, countries, products
        self.true_features, self.support, self.level, self.base = true_features, support, level, base
        self.held_out = checks.number("held_out", held_out, most=0.9)
        self.features, self.sweeps = features, sweeps
        if support > products or features < true_features:
            raise UserError(
                "more products in a feature than there are, or fewer features than the truth", fix="change sizes"
            )

    def problem(self, rng: np.random.Generator) -> Problem:
        n, d, k = self.countries, self.products, self.true_features
        popularity = (1.0 + np.arange(k)) ** -0.7
        popularity /= popularity.sum()
        law = np.zeros(k + 1)
        for j, p in LAWS["split" if self.world == "buffet" else self.world].items():
            law[min(j, k)] += p
        z = np.zeros((n, k))
        if self.world == "buffet":
            weights = np.minimum(popularity * (law @ np.arange(k + 1)), 0.9)
            z, law = (rng.random((n, k)) < weights).astype(float), sum_law(weights)
        else:
            for row in z:
                row[rng.choice(k, rng.choice(k + 1, p=law), replace=False, p=popularity)] = 1.0
        topics = np.zeros((k, d))
        for topic in topics:
            topic[rng.choice(d, self.support, replace=False)] = rng.gamma(2.0, self.level / 2, self.support)
        rates = self.base * rng.exponential(size=d) + z @ topics
        x, seen = rng.poisson(rates), rng.random((n, d)) >= self.held_out
        hidden = ~seen
        ideal = poisson.logpmf(x[hidden], rates[hidden])
        return Problem(
            {"x": np.where(seen, x, 0), "seen": seen, "hidden": x[hidden]},
            {"law": law, "numbers": z.sum(1), "topics": topics, "ideal": ideal},
        )


class Sampled(Exports):
    """A sampler's mean over the second half of its sweeps, begun at a short factorisation with all K features."""

    @abstractmethod
    def chain(
        self, x: ndarray, seen: ndarray, weights: ndarray, loadings: ndarray, rng: np.random.Generator
    ) -> Factors:
        """The sampler, from non-negative weights (N, K), at most 1 in each column, and loadings (K, D)."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        x, seen = given["x"], given["seen"]
        weights, loadings = masked_nmf(x, seen, self.features, 100, rng)
        size = np.maximum(weights.max(0), 1e-12)
        chain = self.chain(x, seen, weights / size, loadings * size[:, None], rng)
        kept = self.sweeps - self.sweeps // 2
        scores, sums = [], {"topics": np.zeros_like(loadings)}
        for sweep in range(self.sweeps):
            chain.step()
            if sweep < self.sweeps // 2:
                continue
            scores.append(poisson.logpmf(given["hidden"], chain.rates[~seen]))
            sums["topics"] += chain.b / kept
            if isinstance(chain, Buffet):
                numbers = np.bincount(chain.z.sum(1).astype(int), minlength=self.features + 1)
                sums["new"] = sums.get("new", 0.0) + chain.row_law / kept
                sums["seen"] = sums.get("seen", 0.0) + numbers / (kept * len(x))
        return {"score": logsumexp(scores, axis=0) - np.log(kept), **sums}


@model("poisson-buffet", "Iterative Study", "Poisson factors with an Indian buffet of features", examples=EXAMPLES)
class PoissonBuffet(Sampled):
    """S3R-IBP and what is left of it without one of its parts.

    Args:
        three: discount and concentration of the three-parameter buffet are drawn; else they are the IBP's.
        restricted: the law of a country's number of features is drawn; else it follows from the weights.
        sparse: the shape of the loadings' gamma law is drawn from 0.03 to 1; else it is 1 (exponential loadings).
    """

    def __init__(
        self, info: DataInfo, *, three: bool = True, restricted: bool = True, sparse: bool = True, **design: Any
    ) -> None:
        super().__init__(info, **design)
        self.three, self.restricted, self.sparse = three, restricted, sparse

    def chain(
        self, x: ndarray, seen: ndarray, weights: ndarray, loadings: ndarray, rng: np.random.Generator
    ) -> Factors:
        shapes = SHAPES if self.sparse else (1.0,)
        parts = {"three": self.three, "restricted": self.restricted}
        return Buffet(x, seen, weights > 0.3, loadings, rng, shapes=shapes, **parts)


@model("gamma-poisson", "Iterative Study", "Poisson factors with gamma weights", examples=ONE)
class DenseWeights(Sampled):
    """Weights of gamma laws, which are never 0, and loadings with the buffets' prior."""

    def chain(
        self, x: ndarray, seen: ndarray, weights: ndarray, loadings: ndarray, rng: np.random.Generator
    ) -> Factors:
        return GammaPoisson(x, seen, weights, loadings, rng)


def independent(x: ndarray, seen: ndarray) -> ndarray:
    """Rates (N, D) of countries and products that know nothing of each other, from the mean of each."""
    total = x[seen].mean()
    rows, columns = ((x * seen).sum(a) + total for a in (1, 0))
    return np.outer(rows / (seen.sum(1) + 1), columns / (seen.sum(0) + 1)) / total


@model("count-nmf", "Iterative Study", "non-negative factors, tuned on cells left out", examples=ONE)
class Nmf(Exports):
    """Rank, penalty and share of `independent` that predict a sixth of the seen cells best, fitted anew to all."""

    RANKS, PENALTIES, SHARES, STEPS = (4, 6, 8, 10, 12, 15), (0.0, 0.3, 1.0), (0.01, 0.03, 0.1, 0.2, 0.4), 200

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        x, seen = given["x"], given["seen"]
        inner = seen & (rng.random(seen.shape) > 1 / 6)
        left, plain, tried = seen & ~inner, independent(x, inner), {}
        for rank, penalty in product(self.RANKS, self.PENALTIES):
            w, h = masked_nmf(x, inner, rank, self.STEPS, rng, penalty)
            for share in self.SHARES:
                rates = (1 - share) * w @ h + share * plain
                tried[rank, penalty, share] = poisson.logpmf(x[left], rates[left]).sum()
        rank, penalty, share = max(tried, key=tried.__getitem__)
        w, h = masked_nmf(x, seen, rank, self.STEPS, rng, penalty)
        rates = (1 - share) * w @ h + share * independent(x, seen)
        return {"score": poisson.logpmf(given["hidden"], rates[~seen]), "topics": h, "rank": rank}


@model("row-by-column", "Iterative Study", "products of a country's and a product's mean", examples=ONE)
class RowByColumn(Exports):
    """The trivial row: no features."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        rates = independent(given["x"], given["seen"])
        return {"score": poisson.logpmf(given["hidden"], rates[~given["seen"]])}


@metric("excess_count_nll", "Study", "nats/cell", "lower")
def excess_count_nll(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean of -log p of the held-out counts beyond that of the true rates; the latter is in the details."""
    found = over_problems(model, lambda truth, answer: float(np.mean(truth["ideal"] - answer["score"])))
    floor = over_problems(model, lambda truth, _: float(-np.mean(truth["ideal"])))
    return MetricValue(found.value, found.se, found.n, {"true_rates": floor.value})


@metric("feature_number_distance", "Study", "features", "lower", settings={"of": "seen"}, within=(0.0, None))
def feature_number_distance(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Wasserstein distance of the found from the true distribution of a row's number of features.

    Of the rows seen (`of` is ``seen``), from the true numbers; or of a row yet to come (``new``), from the true law.
    """

    def distance(truth: Arrays, answer: Arrays) -> float:
        found = answer[str(settings["of"])]
        true = truth["law"] if settings["of"] == "new" else np.bincount(truth["numbers"].astype(int))
        return float(wasserstein_distance(np.arange(len(true)), np.arange(len(found)), true, found))

    if settings["of"] not in {"seen", "new"}:
        raise UserError(f"of is {settings['of']!r}", fix="seen or new")
    return over_problems(model, distance)


def precision(true: ndarray, found: ndarray) -> float:
    """Mean share of a true topic's products among as many of the largest of its match.

    Args:
        true: (T, D), the same number of entries above 0 in each row.
        found: (K, D); where K < T what has no match counts 0.
    """
    size = int((true[0] > 0).sum())
    top = np.zeros(found.shape)
    np.put_along_axis(top, np.argsort(-found, axis=1, kind="stable")[:, :size], 1.0, axis=1)
    shared = (true > 0) @ top.T / size
    return float(shared[linear_sum_assignment(-shared)].sum() / len(true))


@metric("topic_precision", "Study", "1", "higher", within=(0.0, 1.0))
def topic_precision(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean `precision` of the topics."""
    return over_problems(model, lambda truth, answer: precision(truth["topics"], answer["topics"]))
