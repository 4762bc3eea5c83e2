"""Robust self-supervised (RSS) training of linear rules on two Gaussians (Saberi et al. 2024, arXiv 2310.00027).

Labelled rows are y mu_0 + noise, unlabelled ones +-mu_1 + noise, where mu_1 is near mu_0. Under the cost |Z - X| the
robust loss of the 0-1 loss of a unit rule theta, sup_Z 1(y <theta, Z> <= 0) - gamma |Z - X|, is the ramp

    phi_gamma(X, y; theta) = min(1, max(0, 1 - gamma y <theta, X>)).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from latentbench.core.capabilities import Study as Answered
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Problem, Study
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.optimize import minimize
from scipy.stats import norm
from torch import Generator

Arrays = Mapping[str, Any]
SMALL = (Example("real-vector", {"dimensions": 5, "labelled": (4, 8), "unlabelled": 30, "problems": 2, "shift": 0.5}),)


def ramp(theta: np.ndarray, rows: np.ndarray, gamma: float, labels: np.ndarray | None) -> tuple[float, np.ndarray]:
    """Mean robust loss of unit `theta` (D,) over `rows` (N, D) and its gradient (D,).

    Without `labels` (N,) of -1 and 1 each row has the one that theta gives it.
    """
    projected = rows @ theta.astype(rows.dtype)
    labels = np.where(projected < 0, -1.0, 1.0) if labels is None else labels
    scaled = gamma * labels * projected
    inner = (scaled > 0) & (scaled < 1)
    pull = (labels * inner).astype(rows.dtype) @ rows
    return float(np.mean(1 - np.clip(scaled, 0, 1))), -gamma * pull.astype(float) / len(rows)


def least(start: np.ndarray, *terms: tuple[float, np.ndarray, float, np.ndarray | None]) -> np.ndarray:
    """Unit rule (D,) at a local minimum, from `start`, of a sum of weight * ramp(theta, rows, gamma, labels)."""

    def value(w: np.ndarray) -> tuple[float, np.ndarray]:
        size = np.linalg.norm(w)
        loss, slope = 0.0, np.zeros_like(w)
        for weight, rows, gamma, labels in terms:
            one, along = ramp(w / size, rows, gamma, labels)
            loss, slope = loss + weight * one, slope + weight * along
        return loss, (slope - (slope @ w) * w / size**2) / size

    return unit(minimize(value, unit(start), jac=True, method="L-BFGS-B", options={"gtol": 1e-6}).x)


def unit(w: np.ndarray) -> np.ndarray:
    return w / np.linalg.norm(w)


class TwoGaussians(Study):
    """Answers are unit rules (K, D), one for each number of labelled rows.

    Rows of a smaller sample are the first of a larger one's, for labelled and unlabelled ones alike, in all methods.

    Args:
        info: not used.
        dimensions: D.
        labelled: numbers m of labelled rows, each at least 1.
        unlabelled: n.
        shift: alpha = |mu_1 - mu_0|, as a share of |mu_0| = 1, in a random direction.
        noise: standard deviation sigma_0 = sigma_1 of each coordinate.
        problems: draws of mu_0, the shift and the rows.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        dimensions: PositiveInt = 200,
        labelled: tuple[PositiveInt, ...] = (10,),
        unlabelled: PositiveInt = 100,
        shift: NonNegativeFloat = 0.0,
        noise: PositiveFloat = 1.0,
        problems: PositiveInt = 10,
    ) -> None:
        super().__init__(info, problems=problems)
        self.dimensions, self.labelled, self.unlabelled = dimensions, tuple(labelled), unlabelled
        self.shift, self.noise = shift, noise

    def problem(self, rng: np.random.Generator) -> Problem:
        mean, away = (unit(rng.standard_normal(self.dimensions)) for _ in range(2))
        one, other = rng.spawn(2)
        y, x = self.rows(max(self.labelled), mean, one)
        _, u = self.rows(self.unlabelled, mean + self.shift * away, other)
        return Problem({"x": x, "y": y, "unlabelled": u}, {"mean": mean, "noise": self.noise})

    def rows(self, n: int, mean: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Labels (n,) of -1 and 1, and rows (n, D) of single precision, for speed."""
        signs, noise = rng.spawn(2)
        y = signs.choice(np.array([-1, 1], np.float32), n)
        drawn = noise.standard_normal((n, self.dimensions), np.float32)
        return y, np.float32(self.noise) * drawn + y[:, None] * mean.astype(np.float32)

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        x, y = given["x"], given["y"]
        return {"rules": np.stack([self.rule(x[:m], y[:m], given["unlabelled"]) for m in self.labelled])}

    @abstractmethod
    def rule(self, x: np.ndarray, y: np.ndarray, unlabelled: np.ndarray) -> np.ndarray:
        """Unit theta (D,) from labelled rows x (m, D), y (m,) and unlabelled ones (n, D)."""


@model("ramp-erm", "Iterative Study", examples=SMALL)
class ERM(TwoGaussians):
    """Least mean robust loss on the labelled rows, from their signed mean.

    Args:
        gamma: of the loss; 1 / gamma is the distance to the boundary beyond which nothing is lost.
    """

    def __init__(self, info: DataInfo, *, gamma: PositiveFloat = 0.1, **design: Any) -> None:
        super().__init__(info, **design)
        self.gamma = gamma

    def rule(self, x: np.ndarray, y: np.ndarray, unlabelled: np.ndarray) -> np.ndarray:
        return least(y @ x, (1.0, x, self.gamma, y))


@model("robust-self-training", "Iterative Study", examples=SMALL)
class RSS(ERM):
    """The same plus lambda times the mean robust loss on unlabelled rows, with the labels that theta gives them.

    Args:
        gamma, gamma_prime: of the losses on labelled and unlabelled rows.
        weight: of an unlabelled row, where a labelled one has 1: lambda is weight * n / m.
    """

    once = False  # whether unlabelled rows keep the labels that the start gives them

    def __init__(
        self, info: DataInfo, *, gamma_prime: PositiveFloat = 0.1, weight: PositiveFloat = 1.0, **design: Any
    ) -> None:
        super().__init__(info, **design)
        self.gamma_prime, self.weight = gamma_prime, weight

    def rule(self, x: np.ndarray, y: np.ndarray, unlabelled: np.ndarray) -> np.ndarray:
        start = super().rule(x, y, unlabelled)
        labels = np.where(unlabelled @ start.astype(unlabelled.dtype) < 0, -1.0, 1.0) if self.once else None
        share = self.weight * len(unlabelled) / len(x)
        return least(start, (1.0, x, self.gamma, y), (share, unlabelled, self.gamma_prime, labels))


@model("pseudo-labels", "Iterative Study", examples=SMALL)
class PseudoLabels(RSS):
    """The same with labels given once, by the rule from the labelled rows."""

    once = True


@model("gaussian-em", "Iterative Study", examples=SMALL)
class GaussianEM(TwoGaussians):
    """Maximum likelihood of mu and sigma on all rows, as if none were shifted: `steps` of EM from the signed mean."""

    def __init__(self, info: DataInfo, *, steps: PositiveInt = 50, **design: Any) -> None:
        super().__init__(info, **design)
        self.steps = steps

    def rule(self, x: np.ndarray, y: np.ndarray, unlabelled: np.ndarray) -> np.ndarray:
        return unit(self.likeliest(x, y, unlabelled)[0])

    def likeliest(self, x: np.ndarray, y: np.ndarray, unlabelled: np.ndarray) -> tuple[np.ndarray, float]:
        """Mean (D,) and variance of a coordinate."""
        rows = len(x) + len(unlabelled)
        power = float(np.sum(x**2) + np.sum(unlabelled**2)) / rows
        mean, variance = y @ x / len(x), power / x.shape[1]
        for _ in range(self.steps):
            mean = (y @ x + np.tanh(unlabelled @ mean / variance) @ unlabelled) / rows
            variance = (power - float(mean @ mean)) / x.shape[1]
        return mean.astype(float), variance


@metric("right_in_domain", "Study", "1", "higher", within=(0.0, 1.0))
def right_in_domain(model: Answered, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Probability that the rule from the most labelled rows is right on a row of the labelled law, in closed form."""
    return over_problems(model, lambda truth, answer: norm.cdf(answer["rules"][-1] @ truth["mean"] / truth["noise"]))


@metric("excess_error_exponent", "Study", "1", "lower")
def excess_error_exponent(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Least-squares slope, in log m, of the log mean error beyond that of the best rule; m of the study's list."""
    margins = [(answer["rules"] @ truth["mean"], truth["noise"]) for truth, answer in model.answered()]
    errors = [norm.sf(margin / noise) - norm.sf(1 / noise) for margin, noise in margins]
    excess = np.maximum(np.mean(errors, axis=0), 1e-12)
    details = {str(m): float(e) for m, e in zip(model.labelled, excess, strict=True)}
    return MetricValue(float(np.polyfit(np.log(model.labelled), np.log(excess), 1)[0]), None, len(errors), details)
