"""Proportions of a document's labels, told from its words: the simulation of the paper."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models import checks
from latentbench.models.study import Arrays, Problem, Study
from latentbench.papers.sparsemax.sparsemax import (
    Loss,
    fitted,
    logistic_loss,
    softmax,
    sparsemax,
    sparsemax_loss,
)
from pydantic import PositiveInt
from torch import Generator

Settings = Mapping[str, Any]
#: Documents to learn from, to choose the weight decay on, to be judged by.
PARTS = (1200, 200, 1000)
DECAYS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


class Proportions(Study):
    """Documents of as many kinds of words as there are labels, at several mean lengths.

    A label has a frequency, and a probability for each word, all uniform draws that are normalised. A document has a
    number of labels from Poisson(1), 0 and more than there are being drawn again, as many different labels by their
    frequencies, and words, Poisson(length) of them, from the mixture of the labels' words.

    Args:
        info: not used.
        labels: how many labels, and how many words.
        mixture: a document's labels have equal shares, or normalised uniform draws.
        lengths: mean numbers of words, each of which is tried in a problem with documents of its own.
        problems: sets of labels that are tried.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        labels: PositiveInt = 10,
        mixture: Literal["uniform", "random"] = "uniform",
        lengths: list[int] | None = None,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.labels, self.mixture = labels, checks.one_of("mixture", mixture, ("uniform", "random"))
        self.lengths = checks.wholes("lengths", lengths or [200, 2000])

    def problem(self, rng: np.random.Generator) -> Problem:
        """``words`` (lengths, documents, words) and, but for the last part, ``shares`` (lengths, documents, labels)."""
        frequency, topics = rng.random(self.labels), rng.random((self.labels, self.labels))
        frequency, topics = frequency / frequency.sum(), topics / topics.sum(1, keepdims=True)
        words, shares = zip(*(self._documents(length, frequency, topics, rng) for length in self.lengths), strict=True)
        known = np.stack(shares)[:, : PARTS[0] + PARTS[1]]
        return Problem({"words": np.stack(words), "shares": known}, {"shares": np.stack(shares)[:, -PARTS[2] :]})

    def _documents(
        self, length: int, frequency: np.ndarray, topics: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        documents = (sum(PARTS), self.labels)
        count = np.zeros(documents[0], np.int64)
        while (again := (count == 0) | (count > self.labels)).any():
            count[again] = rng.poisson(1.0, again.sum())
        # draws without replacement by frequency are the largest of these (Yellott 1977)
        rank = np.argsort(np.argsort(-(np.log(frequency) + rng.gumbel(size=documents)), axis=1), axis=1)
        shares = (rank < count[:, None]) * (1.0 if self.mixture == "uniform" else rng.random(documents))
        shares /= shares.sum(1, keepdims=True)
        long = np.maximum(rng.poisson(length, len(shares)), 1)
        return rng.multinomial(long, shares @ topics).astype(float), shares

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        """``shares`` (lengths, documents, labels) of the last part; the decay is the best on the second part."""
        out = []
        for words, shares in zip(given["words"], given["shares"], strict=True):
            scale = words[: PARTS[0]].std(0)
            x = (words - words[: PARTS[0]].mean(0)) / np.where(scale > 0, scale, 1.0)
            learn, choose, judge = np.split(x, np.cumsum(PARTS[:2]))
            q, q_choose = np.split(shares, [PARTS[0]])
            tried = [self.predictor(learn, q, decay) for decay in DECAYS]
            best = min(tried, key=lambda predict: jensen_shannon(predict(choose), q_choose).mean())
            out.append(best(judge))
        return {"shares": np.stack(out)}

    @abstractmethod
    def predictor(self, x: np.ndarray, q: np.ndarray, decay: float) -> Any:
        """A function of (M, D) to proportions (M, K), learned from (N, D) standardised words and (N, K) proportions."""


class Linear(Proportions):
    """Linear scores that are fitted by a loss and turned into proportions."""

    objective: Loss
    link: Any

    def predictor(self, x: np.ndarray, q: np.ndarray, decay: float) -> Any:
        weights = fitted(x, q, type(self).objective, decay)
        return lambda rows: type(self).link(weights[0] + rows @ weights[1:])


@model("sparsemax-proportions", "Iterative Study", examples=(Example("real-vector", {"labels": 3, "lengths": [20]}),))
class Sparsemax(Linear):
    """Sparsemax of linear scores, by the sparsemax loss."""

    objective = staticmethod(sparsemax_loss)
    link = staticmethod(sparsemax)


@model("softmax-proportions", "Iterative Study", examples=(Example("real-vector", {"labels": 3, "lengths": [20]}),))
class Softmax(Linear):
    """Softmax of linear scores, by the logistic loss."""

    objective = staticmethod(logistic_loss)
    link = staticmethod(softmax)


@model("projected-ridge", "Iterative Study", examples=(Example("real-vector", {"labels": 3, "lengths": [20]}),))
class ProjectedRidge(Proportions):
    """Ridge regression of the proportions, whose predictions are projected onto the simplex afterwards."""

    def predictor(self, x: np.ndarray, q: np.ndarray, decay: float) -> Any:
        from sklearn.linear_model import Ridge

        ridge = Ridge(alpha=decay * len(x)).fit(x, q)
        return lambda rows: sparsemax(ridge.predict(rows))


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of (N, K) rows, (N,) nats, at most log 2."""
    middle = (p + q) / 2

    def half(a: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = a * np.log(a / middle)
        out: np.ndarray = np.where(a > 0, terms, 0.0).sum(1) / 2
        return out

    return half(p) + half(q)


@metric("proportions_js", "Study", "nats", "lower", settings={"length": 2000}, lowest={"length": 1}, within=(0.0, None))
def proportions_js(model: Proportions, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Mean Jensen-Shannon divergence of predicted and true proportions, in documents of mean `length`."""
    return _over(model, settings, lambda p, q: jensen_shannon(p, q).mean())


@metric("proportions_mse", "Study", "1", "lower", settings={"length": 2000}, lowest={"length": 1}, within=(0.0, None))
def proportions_mse(model: Proportions, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Mean squared error of a label's proportion, in documents of mean `length`."""
    return _over(model, settings, lambda p, q: np.square(p - q).mean())


@metric(
    "proportions_nonzero", "Study", "1", "lower", settings={"length": 2000}, lowest={"length": 1}, within=(0.0, None)
)
def proportions_nonzero(model: Proportions, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Mean number of labels with a predicted proportion above zero, in documents of mean `length`."""
    return _over(model, settings, lambda p, _: (p > 0).sum(1).mean())


def _over(model: Proportions, settings: Settings, measure: Any) -> MetricValue:
    length = int(settings["length"])
    if length not in model.lengths:
        raise UserError(f"length {length} was not tried", fix=f"lengths that were: {list(model.lengths)}")
    at = model.lengths.index(length)
    return over_problems(model, lambda truth, answer: measure(answer["shares"][at], truth["shares"][at]))
