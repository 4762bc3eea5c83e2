"""Counts of countries by products from sparse features, and factorisations of them that predict held-out cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import PositiveInt
from scipy.special import logsumexp
from scipy.stats import poisson, wasserstein_distance
from sklearn.decomposition import NMF
from torch import Generator

from .buffets import Buffet, Factors, GammaPoisson

SMALL = {"problems": 2, "countries": 12, "products": 15}
BUFFET = Example("real-vector", {**SMALL, "sweeps": 4})
GAMMA = Example("real-vector", {**SMALL, "sweeps": 4, "prior": "gamma", "world": "fixed"})
Arrays = Mapping[str, Any]
Prior = Literal["s3r-ibp", "s3-ibp", "s-ibp", "gamma"]

#: Laws of the number of features of a country, by world.
LAWS = {"split": {1: 0.6, 7: 0.4}, "fixed": {3: 1.0}}
TRUE, ATOMS = 10, 15  # features of the simulation and of the models
LEVEL, BASE, HELD_OUT = 4.0, 0.1, 0.3


class Exports(Study):
    """Counts of N countries by D products; answers have `score`, log probabilities of the held-out ones, (H,).

    Each of `TRUE` features has loadings of Gamma(2) and mean `LEVEL` in a sixth of the products, popular features are
    had more often, and all countries have exponential rates of mean `BASE`. `HELD_OUT` is the share of cells not seen.

    Args:
        info: of the data, which are not looked at.
        world: a country has 1 or 7 features (`split`), or always 3 (`fixed`).
        countries, products: N and D.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        world: Literal["split", "fixed"] = "split",
        countries: PositiveInt = 60,
        products: PositiveInt = 60,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.world, self.countries, self.products = world, countries, products

    def problem(self, rng: np.random.Generator) -> Problem:
        n, d = self.countries, self.products
        popularity = (1.0 + np.arange(TRUE)) ** -0.7
        numbers, shares = zip(*LAWS[self.world].items(), strict=True)
        z, topics = np.zeros((n, TRUE)), np.zeros((TRUE, d))
        for row in z:
            row[rng.choice(TRUE, rng.choice(numbers, p=shares), replace=False, p=popularity / popularity.sum())] = 1.0
        for topic in topics:
            support = rng.choice(d, max(d // 6, 1), replace=False)
            topic[support] = rng.gamma(2.0, LEVEL / 2, len(support))
        rates = BASE * rng.exponential(size=d) + z @ topics
        x, seen = rng.poisson(rates), rng.random((n, d)) >= HELD_OUT
        hidden = x[~seen]
        return Problem(
            {"x": np.where(seen, x, 0), "seen": seen, "hidden": hidden},
            {"numbers": z.sum(1), "latents": topics.T, "ideal": poisson.logpmf(hidden, rates[~seen])},
        )


def independent(x: ndarray, seen: ndarray) -> ndarray:
    """Rates (N, D) of countries and products that know nothing of each other, from the mean of each."""
    total = x[seen].mean()
    rows, columns = ((x * seen).sum(a) + total for a in (1, 0))
    return np.outer(rows / (seen.sum(1) + 1), columns / (seen.sum(0) + 1)) / total


def started(x: ndarray, seen: ndarray, rng: np.random.Generator) -> tuple[ndarray, ndarray]:
    """Weights (N, ATOMS), at most 1, and loadings (ATOMS, D): a non-negative factorisation with `TRUE` features.

    Cells that are not seen are filled by `independent`; the other atoms are 0.
    """
    settings = {"beta_loss": "kullback-leibler", "max_iter": 300, "tol": 0, "random_state": int(rng.integers(2**31))}
    nmf = NMF(TRUE, solver="mu", init="random", **settings)
    weights = nmf.fit_transform(np.where(seen, x, independent(x, seen)))
    size, spare = np.maximum(weights.max(0), 1e-12), ATOMS - TRUE
    return np.pad(weights / size, ((0, 0), (0, spare))), np.pad(nmf.components_ * size[:, None], ((0, spare), (0, 0)))


@model("poisson-factors", "Iterative Study LatentEstimator", "Poisson factors, by Gibbs", examples=(BUFFET, GAMMA))
class PoissonFactors(Exports):
    """A sampler's mean over the second half of its sweeps, from a short factorisation.

    Answers have `latents`, mean loadings by product (D, K), and `numbers` (K + 1,), the distribution over countries of
    the number of weights that are not 0.

    Args:
        prior: of the weights: three-parameter restricted buffet, without the restriction, IBP, or gamma laws.
        sweeps: of the sampler.
    """

    def __init__(self, info: DataInfo, *, prior: Prior = "s3r-ibp", sweeps: PositiveInt = 600, **design: Any) -> None:
        super().__init__(info, **design)
        self.prior, self.sweeps = prior, sweeps

    def chain(self, x: ndarray, seen: ndarray, rng: np.random.Generator) -> Factors:
        weights, loadings = started(x, seen, rng)
        if self.prior == "gamma":
            return GammaPoisson(x, seen, weights, loadings, rng)
        parts = {"three": self.prior != "s-ibp", "restricted": self.prior == "s3r-ibp"}
        return Buffet(x, seen, weights > 0.3, loadings, rng, **parts)

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        seen = given["seen"]
        chain = self.chain(given["x"], seen, rng)
        scores, topics, numbers = [], [], np.zeros(ATOMS + 1)
        for sweep in range(self.sweeps):
            chain.step()
            if sweep >= self.sweeps // 2:
                scores.append(poisson.logpmf(given["hidden"], chain.rates[~seen]))
                topics.append(chain.b)
                numbers += np.bincount(np.count_nonzero(chain.z, axis=1), minlength=len(numbers))
        score = logsumexp(scores, axis=0) - np.log(len(scores))
        return {"score": score, "latents": np.mean(topics, axis=0).T, "numbers": numbers / numbers.sum()}


@model("row-by-column", "Iterative Study", "a country's mean by a product's", examples=(Example("real-vector", SMALL),))
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


@metric("feature_number_distance", "Study", "features", "lower", within=(0.0, None))
def feature_number_distance(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Wasserstein distance of the found from the true distribution of a country's number of features."""
    atoms = np.arange(ATOMS + 1)
    return over_problems(model, lambda t, a: wasserstein_distance(t["numbers"], atoms, v_weights=a["numbers"]))
