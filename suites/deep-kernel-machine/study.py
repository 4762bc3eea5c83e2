"""Deep Gaussian processes of growing width beside their limit, and sparse deep kernel machines on tables.

Rows and targets are standardised by the training rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.metrics.prediction import rmse
from latentbench.models import checks
from latentbench.models.hmc import HMC
from latentbench.models.study import Arrays, Problem, TableStudy
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from scipy.stats import chi2, kstest
from torch import Generator, Tensor

from .grams import Outputs, Settings, covariances, log_likelihood, optimum, predict

#: Of the width study: Gram matrices, noise, steps to the optimum; chains, leapfrog steps, which draws are kept, units.
LAYERS, NOISE, STEPS = 2, 0.05, 500
CHAINS, LEAPFROG, THINNED, UNITS = 8, 8, 5, 4
FOLDS = 20


def settings(inputs: int, layers: int, noise: float) -> Settings:
    """Length scales and amplitude 1, as many length scales of the inputs as told."""
    first, lengths, amplitude, level = (torch.zeros(size).double() for size in (inputs, layers, (), ()))
    return Settings(first, lengths, amplitude, level + math.log(noise))


def fold(rows: int, which: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows of the official splits of UCI sets: permutations of numpy's first generator, seed 1."""
    old = np.random.RandomState(1)
    order = [old.choice(rows, rows, replace=False) for _ in range(which + 1)][-1]
    return order[: round(0.9 * rows)], order[round(0.9 * rows) :]


class Rows(TableStudy):
    """A study of a table with inputs and column ``y``.

    Raises:
        UserError: at the start, if there is no such column.
    """

    def start(self, data: Batch, generator: Generator) -> None:
        super().start(data, generator)
        if data is None or "y" not in data.columns:
            raise UserError("rows have no column `y`", fix="choose data for regression")
        self.keep(data)


def standardised(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Columns less their mean, by their standard deviation, of the rows `by`; constant ones are zero."""
    spread = by.std(0)
    return (rows - by.mean(0)) / np.where(spread > 0, spread, np.inf)


@model("gram-posterior", "Iterative Study", examples=(Example("real-vector", {"width": 3, "draws": 10, "burn_in": 5}),))
class GramPosterior(Rows):
    """Draws of a deep Gaussian process with two layers of features, given few rows of a table, by Hamiltonian chains.

    Args:
        info: of rows with targets.
        width: units of a layer, N; 0 for infinitely many whose targets are seen once: Gram matrices K (NNGP).
        repeated: whether targets are repeated N times, as they are where the limit learns representations.
        rows: in a problem.
        burn_in, draws: moves of each of the chains.
        problems: choices of rows.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        width: NonNegativeInt = 16,
        repeated: bool = True,
        rows: PositiveInt = 8,
        burn_in: PositiveInt = 150,
        draws: PositiveInt = 200,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.width, self.repeated, self.rows = width, repeated, checks.whole("rows", rows, 2)
        self.burn_in, self.draws = burn_in, draws

    def problem(self, rng: np.random.Generator) -> Problem:
        """Rows ``x`` (n, D) and ``y`` (n,); ``grams`` (L, n, n) are those of the limit."""
        chosen = rng.permutation(len(self.x))[: self.rows]
        x, y = (standardised(a[chosen], a[chosen]) for a in (self.x, self.y.reshape(-1)))
        at = settings(1, LAYERS, NOISE)
        *_, factors = optimum(at, torch.from_numpy(x), torch.from_numpy(y), 1.0, steps=STEPS)
        return Problem({"x": x, "y": y}, {"grams": grams(covariances(at, torch.from_numpy(x), factors)).numpy()})

    @torch.no_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        """Draws of ``grams`` (S, L, n, n), and of units' features, ``features`` (L, U, n)."""
        x, y = torch.from_numpy(given["x"]), torch.from_numpy(given["y"])
        at, width, draws = (
            settings(1, LAYERS, NOISE),
            self.width,
            torch.Generator().manual_seed(int(rng.integers(2**62))),
        )
        if width == 0:
            (out,), many = [covariances(at, x, None)], UNITS * CHAINS * (self.draws // THINNED)
            z = torch.randn(len(x), many, generator=draws, dtype=torch.float64)
            return {"grams": grams(out)[None], "features": torch.stack([(v @ z).mT for v in out.features])}
        copies = width if self.repeated else 1

        def outputs(z: Tensor) -> Outputs:
            return covariances(at, x, z.view(CHAINS, LAYERS, len(x), width) / width**0.5)

        def log_density(z: Tensor) -> Tensor:
            return copies * log_likelihood(outputs(z), y) - 0.5 * z.square().sum(1)

        z = torch.randn(CHAINS, LAYERS * len(x) * width, generator=draws, dtype=torch.float64)
        kernel, found = HMC(leapfrog=LEAPFROG), []
        size = kernel.start(z)
        for i in range(self.burn_in + self.draws):
            if i == self.burn_in:
                kernel = HMC(leapfrog=LEAPFROG, drift=0.0)
            z, size, _ = kernel.move(z, size, log_density, draws)
            if i >= self.burn_in and (i - self.burn_in) % THINNED == THINNED - 1:
                found.append(outputs(z))
        features = [torch.cat([out.features[i][..., :UNITS].mT.flatten(0, 1) for out in found]) for i in range(LAYERS)]
        return {
            "grams": torch.cat([grams(out) for out in found]),
            "features": torch.stack(features) * width**0.5,
        }


def grams(out: Outputs) -> Tensor:
    """(..., L, n, n) Gram matrices of training rows."""
    return torch.stack([v @ v.mT for v in out.features], -3)


@metric("gram_distance", "Study", "1", "lower", within=(0.0, None))
def gram_distance(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Frobenius distance of a draw's Gram matrix from the limit's, by the latter's norm, mean over draws and layers."""

    def measure(truth: Arrays, answer: Arrays) -> float:
        away = np.linalg.norm(answer["grams"] - truth["grams"], axis=(-2, -1))
        return float((away / np.linalg.norm(truth["grams"], axis=(-2, -1))).mean())

    return over_problems(model, measure)


@metric("feature_ks", "Study", "1", "lower", within=(0.0, 1.0))
def feature_ks(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Kolmogorov-Smirnov distance of f' G^-1 f, f features of a unit at n rows, G the limit's Gram matrix of the layer,
    from its law chi^2(n) for f ~ N(0, G); mean over layers."""

    def measure(truth: Arrays, answer: Arrays) -> float:
        radii = [np.einsum("up,pq,uq->u", f, np.linalg.inv(g), f) for f, g in zip(answer["features"], truth["grams"])]
        return float(np.mean([kstest(r, chi2(truth["grams"].shape[-1]).cdf).statistic for r in radii]))

    return over_problems(model, measure)


SMALL = {"steps": 2, "inducing": 5, "tries": (1.0, 10.0)}


@model("sparse-kernel-machine", "Iterative Study", examples=(Example("real-vector", SMALL),))
class SparseKernelMachine(Rows):
    """Regression with inducing rows, trained by the bound on the marginal likelihood less the divergences.

    A problem is an official split of the table; all settings move with the inducing rows. What is left to choose is
    tried on nine tenths of the training rows, and best for the others' density.

    Args:
        info: of rows with targets.
        learned: whether Gram matrices are (deep kernel machine); else they are K (NNGP, or with 0 layers one kernel).
        layers: Gram matrices between inputs and targets.
        lengths: whether each input has a length scale of its own.
        tries: if learned, weights nu of divergences, in units of the number of inputs; else variances of noise to
            start from, 0.1 where learned.
        inducing: rows M, at most.
        steps: of L-BFGS at most, in each training.
        problems: splits, of 20.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        learned: bool = True,
        layers: NonNegativeInt = 2,
        lengths: bool = False,
        tries: tuple[PositiveFloat, ...] = (1.0, 10.0, 100.0),
        inducing: PositiveInt = 50,
        steps: PositiveInt = 300,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.learned, self.layers, self.lengths, self.tries = learned, layers, lengths, tries
        self.inducing, self.steps = inducing, steps

    def problem(self, rng: np.random.Generator) -> Problem:
        train, test = fold(len(self.x), int(rng.integers(FOLDS)))
        train = rng.permutation(train)
        x, y = (standardised(a, a[train]) for a in (self.x, self.y.reshape(-1)))
        return Problem({"x": x[train], "y": y[train], "x_new": x[test]}, {"y": y[test]})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        """``mean`` and ``variance`` (T,) of new targets, and which of the tries was ``chosen``."""
        x, y, new = (torch.from_numpy(given[name]) for name in ("x", "y", "x_new"))
        cut, scores = int(0.9 * len(x)), []
        for value in self.tries if len(self.tries) > 1 else ():
            scores.append(nll(y[cut:].numpy(), *self.predicted(value, x[:cut], y[:cut], x[cut:])))
        chosen = int(np.argmin(scores)) if scores else 0
        mean, variance = self.predicted(self.tries[chosen], x, y, new)
        return {"mean": mean, "variance": variance, "chosen": chosen}

    def predicted(self, value: float, x: Tensor, y: Tensor, new: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of new targets after a training with one of the tries."""
        start = settings(x.shape[1] if self.lengths else 1, self.layers, 0.1 if self.learned else value)
        nu = value * x.shape[1] if self.learned else None
        at, held, factors = optimum(start, x, y, nu, steps=self.steps, inducing=x[: self.inducing])
        with torch.no_grad():
            mean, variance = predict(covariances(at, held, factors, torch.cat([x, new])), y)
        return mean.numpy(), variance.numpy()


def nll(y: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> float:
    """Mean negative log density of targets under normal laws, all (T,), in nats."""
    return float(0.5 * np.mean((y - mean) ** 2 / variance + np.log(2 * np.pi * variance)))


@metric("kernel_machine_nll", "Study", "nats", "lower")
def kernel_machine_nll(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean negative log density of a test target, in units of the training targets' standard deviation."""
    return over_problems(model, lambda truth, answer: nll(truth["y"], answer["mean"], answer["variance"]))


@metric("kernel_machine_rmse", "Study", "1", "lower", within=(0.0, None))
def kernel_machine_rmse(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Root mean squared error of test targets' means, in units of the training targets' standard deviation."""
    return over_problems(model, lambda truth, answer: rmse(answer["mean"], truth["y"]).value)
