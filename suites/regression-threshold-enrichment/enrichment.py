"""Regression with classifiers' outputs among the inputs (Troisemaine & Lemaire 2022, arXiv 2112.03703).

S thresholds cut the training targets into bins of equal frequency. For each, a random forest learns whether a target
lies at or below it; its S probabilities X' stand beside the inputs X of a usual regressor (section 2). The forests have
learned from the very rows whose probabilities train the regressor, as in the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.metrics.prediction import rmse
from latentbench.models import checks
from latentbench.models.study import Arrays, Problem, Study
from latentbench.papers.regression_threshold_enrichment.regressors import REGRESSORS, seed
from pydantic import PositiveInt
from torch import Generator, Tensor


def thresholds(y: np.ndarray, count: int) -> np.ndarray:
    """At most `count` rising thresholds half way between values of y (N,), nearest to its quantiles i / (count + 1)."""
    values, ordered = np.unique(y), np.sort(y)
    halves, middle = (values[1:] + values[:-1]) / 2, (count + 1) / 2
    found = []
    for i in range(1, count + 1):
        share = i * len(y) / (count + 1)
        place = math.floor(share) if i <= middle else min(math.ceil(share), len(y) - 1)
        distance = np.abs(halves - ordered[place])
        nearest = np.flatnonzero(distance == distance.min())
        found.append(halves[nearest[0 if i < middle else -1]])
    return np.unique(found)


def normalised(y: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Targets (M,) by the Box-Cox transformation that makes those of reference (N,), scaled to 1 to 2, most normal; of
    mean 0 and variance 1 there."""
    from sklearn.preprocessing import PowerTransformer

    low, high = reference.min(), reference.max()
    # the transformation asks for positive values, which targets far under the reference's are not
    scaled, fit = (np.maximum(1 + (a - low) / (high - low), 0.1)[:, None] for a in (y, reference))
    out: np.ndarray = PowerTransformer("box-cox").fit(fit).transform(scaled)[:, 0]
    return out


@model("enriched-regression", "Iterative Study", examples=(Example("real-vector", {"rows": 20, "trees": 3}),))
class EnrichedRegression(Study):
    """A problem is a random choice of training rows and of as many, or all others, to be judged by.

    Args:
        info: of rows whose target is column ``y``, or the last input where there is none.
        columns: what stands beside the inputs: nothing, the probabilities, those that for training rows are of trees
            that have not seen them, or, as a rival, what a forest for regression foretells.
        thresholds: how many, before those that ties bring together.
        trees: of a forest beside the inputs.
        rows: to train on, at least 20.
        problems: choices of rows.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        columns: Literal["none", "probabilities", "out-of-bag", "prediction"] = "probabilities",
        thresholds: PositiveInt = 32,
        trees: PositiveInt = 100,
        rows: PositiveInt = 450,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.columns, self.thresholds, self.trees = columns, thresholds, trees
        self.rows = checks.whole("rows", rows, 20)
        self._x, self._y = np.zeros((0, 1)), np.zeros(0)

    def start(self, data: Batch, generator: Generator) -> None:
        """Raises UserError where less than a tenth of `rows` would be left to be judged by."""
        super().start(data, generator)
        x = data.x.double().cpu().numpy()
        y = data.columns["y"][:, 0].double().cpu().numpy() if "y" in data.columns else x[:, -1]
        self._x, self._y = x[:, : x.shape[1] - ("y" not in data.columns)], y
        if len(y) < 1.1 * self.rows:
            raise UserError(f"{len(y)} rows leave too few to be judged by", fix=f"fewer `rows` than {self.rows}")

    def state_dict(self) -> dict[str, Tensor]:
        return {**super().state_dict(), "x": torch.from_numpy(self._x), "y": torch.from_numpy(self._y)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._x, self._y = state["x"].numpy(), state["y"].numpy()

    def problem(self, rng: np.random.Generator) -> Problem:
        """Inputs ``x`` and ``new`` and targets ``y``, all by mean and deviation of the training rows; truth ``y``."""
        chosen = rng.permutation(len(self._y))[: 2 * self.rows]
        x, new = np.split(self._x[chosen], [self.rows])
        y, truth = np.split(self._y[chosen], [self.rows])
        mean, deviation = x.mean(0), np.where(np.ptp(x, 0) > 0, x.std(0), 1.0)
        given = {"x": (x - mean) / deviation, "new": (new - mean) / deviation, "y": normalised(y, y)}
        return Problem(given, {"y": normalised(truth, y)})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        """What each regressor foretells for the new rows, (M,) by its name."""
        known, foretold = self.beside(given, rng)
        x, new = np.column_stack([given["x"], known]), np.column_stack([given["new"], foretold])
        return {name: regress(x, given["y"], new, rng) for name, regress in REGRESSORS.items()}

    def beside(self, given: Arrays, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Columns (N, S) and (M, S) beside the inputs of training and of new rows."""
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        x, y, new = given["x"], given["y"], given["new"]
        if self.columns == "none":
            return np.zeros((len(x), 0)), np.zeros((len(new), 0))
        if self.columns == "prediction":
            forest = RandomForestRegressor(self.trees, random_state=seed(rng)).fit(x, y)
            return forest.predict(x)[:, None], forest.predict(new)[:, None]
        known, foretold = [], []
        for t in thresholds(y, self.thresholds):
            unseen = self.columns == "out-of-bag"
            forest = RandomForestClassifier(self.trees, oob_score=unseen, random_state=seed(rng)).fit(x, y <= t)
            votes = forest.oob_decision_function_ if unseen else forest.predict_proba(x)
            # a row that every tree has seen has no votes: the share of the class stands in
            known.append(np.where(votes.any(1), votes[:, 1], (y <= t).mean()))
            foretold.append(forest.predict_proba(new)[:, 1])
        return np.stack(known, 1), np.stack(foretold, 1)


@metric("enriched_rmse", "Study", "1", "lower", settings={"regressor": "linear"}, within=(0.0, None))
def enriched_rmse(model: Study, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Root mean squared error of a regressor on new rows; the transformed training targets have variance 1."""
    name = settings["regressor"]
    return over_problems(model, lambda truth, answer: rmse(answer[name], truth["y"]).value)
