"""Predictors from few labels: on latents learnt without labels (algorithm 1), on raw inputs, on the true latents.

A problem is one law of x and y at several sizes, the rest kept: numbers of unlabelled or labelled rows, or dimensions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.view import View
from latentbench.metrics.arrays import mean_and_se
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import PositiveInt
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV, RidgeCV
from torch import Generator

from .worlds import Clusters, Factors, Task

WORLDS: dict[str, Factors | Clusters] = {"factors": Factors(), "clusters": Clusters()}
PENALTIES = np.logspace(-3, 5, 25)
EXAMPLES = (
    Example("real-vector", {"problems": 2, "sizes": [50, 100], "labelled": 30, "dimensions": 6}),
    Example("real-vector", {"world": "clusters", "problems": 2, "sizes": [5, 9], "along": "dimensions"}),
)
Arrays = Mapping[str, Any]


class Pretraining(Study):
    """Answers are predictions of the test rows, (sizes, T).

    Args:
        info: of the data, which are not looked at.
        world: linear factors and a number to predict, or Gaussian clusters and a class.
        along: what `sizes` are numbers of.
        sizes: at least two.
        unlabelled: m.
        labelled: n.
        dimensions: d.
        latents: r factors or clusters, as many as the procedures are told.
        problems: how many laws.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        world: Literal["factors", "clusters"] = "factors",
        along: Literal["unlabelled", "labelled", "dimensions"] = "unlabelled",
        sizes: tuple[PositiveInt, ...] = (100, 200),
        unlabelled: PositiveInt = 5_000,
        labelled: PositiveInt = 100,
        dimensions: PositiveInt = 50,
        latents: PositiveInt = 4,
        problems: PositiveInt = 10,
    ) -> None:
        super().__init__(info, problems=problems)
        if len(sizes) < 2:
            raise UserError(f"sizes is {list(sizes)}", fix="give at least two, for a rate to be fitted")
        self.world, self.along, self.sizes, self.latents = WORLDS[world], along, tuple(sizes), latents
        self.fixed = {"unlabelled": unlabelled, "labelled": labelled, "dimensions": dimensions}

    def problem(self, rng: np.random.Generator) -> Problem:
        seed = rng.integers(2**62)
        drawn = []
        for size in self.sizes:
            sizes = {**self.fixed, self.along: size}
            m, n, d = (int(sizes[name]) for name in ("unlabelled", "labelled", "dimensions"))
            drawn.append(self.world.draw(np.random.default_rng(seed), m, n, d, self.latents))
        tasks, optima = zip(*drawn, strict=True)
        return Problem({"tasks": tasks}, {"best": [o.best for o in optima], "weight": [o.weight for o in optima]})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        return {"predictions": np.stack([self.predict(task, rng) for task in given["tasks"]])}

    def excess(self) -> ndarray:
        """Risk beyond the best predictor's, (problems, sizes)."""
        return np.stack(
            [
                np.mean(np.stack(truth["weight"]) * (answer["predictions"] - np.stack(truth["best"])) ** 2, axis=1)
                for truth, answer in self.answered()
            ]
        )

    @abstractmethod
    def predict(self, task: Task, rng: np.random.Generator) -> ndarray:
        """Of the test rows, (T,)."""

    def on_latents(self, latents: ndarray, task: Task) -> ndarray:
        """Empirical risk minimisation over the predictors of `latents` (T or n, r): squared error, or errors."""
        z, test = self.world.encode(latents, task.x), self.world.encode(latents, task.test)
        if isinstance(self.world, Factors):
            return test @ np.linalg.lstsq(z, task.y, rcond=None)[0]
        votes = z.T @ (2.0 * task.y - 1.0)
        return (test @ votes > 0).astype(float)


@model("pretrained-then-erm", "Iterative Study", "maximum likelihood without labels, then ERM", examples=EXAMPLES)
class Pretrained(Pretraining):
    """Algorithm 1: latents by maximum likelihood on the unlabelled rows, a predictor of them on the labelled ones."""

    def predict(self, task: Task, rng: np.random.Generator) -> ndarray:
        return self.on_latents(self.world.pretrain(task.unlabelled, self.latents, rng), task)


@model("true-latents-then-erm", "Iterative Study", "ERM on latents whose law is told", examples=EXAMPLES)
class Told(Pretraining):
    """What pretraining can at best come to: the same predictor where the latent model is known."""

    def predict(self, task: Task, rng: np.random.Generator) -> ndarray:
        return self.on_latents(task.latents, task)


@model("supervised-linear", "Iterative Study", "linear predictors of raw inputs, from labels alone", examples=EXAMPLES)
class Supervised(Pretraining):
    """Least squares or logistic regression on raw inputs.

    Args:
        tuned: a ridge penalty chosen by leaving one out, instead of (next to) none.
    """

    def __init__(self, info: DataInfo, *, tuned: bool = False, **design: Any) -> None:
        super().__init__(info, **design)
        self.tuned = tuned

    def predict(self, task: Task, rng: np.random.Generator) -> ndarray:
        if isinstance(self.world, Factors):
            if self.tuned:
                return RidgeCV(PENALTIES, fit_intercept=False).fit(task.x, task.y).predict(task.test)
            return task.test @ np.linalg.lstsq(task.x, task.y, rcond=None)[0]
        if len(np.unique(task.y)) == 1:
            return np.full(len(task.test), task.y[0])
        classifier = RidgeClassifierCV(PENALTIES) if self.tuned else LogisticRegression(C=1e4, max_iter=1000)
        return classifier.fit(task.x, task.y).predict(task.test)


@model("constant-prediction", "Iterative Study", "the mean or the commoner class", examples=EXAMPLES)
class Constant(Pretraining):
    """What can be said without looking at x."""

    def predict(self, task: Task, rng: np.random.Generator) -> ndarray:
        mean = task.y.mean()
        return np.full(len(task.test), mean if isinstance(self.world, Factors) else float(mean > 0.5))


@metric("excess_risk", "Study", "1", "lower", settings={"size": -1}, lowest={"size": -1}, within=(0.0, None))
def excess_risk(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean risk beyond that of the best predictor at one of the sizes (`size`, counted from 0; -1 is the last).

    Squared error where a number is predicted; where a class is, the probability of an error.
    """
    value, se = mean_and_se(model.excess()[:, int(settings["size"])])
    return MetricValue(value, se if model.problems > 1 else None, model.problems)


@metric("excess_risk_exponent", "Study", "1", "lower")
def excess_risk_exponent(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Least-squares slope of log excess risk, averaged over problems, in log size; jackknife standard error.

    Risk under 1e-6 (no test row of weight in all problems) counts as that.
    """
    curves = model.excess()
    logs = np.log(model.sizes)

    def slope(rows: ndarray) -> float:
        return float(np.polyfit(logs, np.log(np.maximum(rows.mean(0), 1e-6)), 1)[0])

    left_out = np.array([slope(np.delete(curves, i, 0)) for i in range(len(curves))]) if len(curves) > 1 else None
    se = None if left_out is None else float(np.sqrt((len(curves) - 1) * left_out.var()))
    details = {str(size): float(risk) for size, risk in zip(model.sizes, curves.mean(0), strict=True)}
    return MetricValue(slope(curves), se, len(curves), details)
