"""Deep Gaussian processes of growing width beside their limit, and sparse deep kernel machines on tables."""

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
from latentbench.models.hmc import HMC
from latentbench.models.study import Arrays, Problem, TableStudy
from pydantic import NonNegativeInt, PositiveInt
from scipy.stats import norm
from torch import Generator, Tensor

from .grams import Outputs, Settings, covariances, limit, log_likelihood, sparse, train

#: Gram matrices between inputs and targets; of the width study: rows, noise, steps to the optimum, chains, draws kept.
LAYERS, ROWS, NOISE, STEPS, CHAINS, THINNED = 2, 8, 0.05, 500, 8, 5
#: Tries of a machine: weights nu, by the number of inputs; variances of noise to start from (0.1 where nu is tried).
NUS, NOISES = (1.0, 10.0, 100.0), (0.01, 0.1, 1.0)


def settings(inputs: int, noise: float) -> Settings:
    """Length scales and amplitude 1, as many length scales of the inputs as told."""
    first, lengths, amplitude, level = (torch.zeros(size).double() for size in (inputs, LAYERS, (), ()))
    return Settings(first, lengths, amplitude, level + math.log(noise))


def standardised(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Columns less their mean, by their standard deviation, of the rows `by`; constant ones are zero."""
    spread = by.std(0)
    return (rows - by.mean(0)) / np.where(spread > 0, spread, np.inf)


class Rows(TableStudy):
    """A study of a table with inputs and a column ``y``; without it, `start` raises a UserError."""

    def start(self, data: Batch, generator: Generator) -> None:
        super().start(data, generator)
        if "y" not in data.columns:
            raise UserError("rows have no column `y`", fix="choose data for regression")
        self.keep(data)


@model("gram-posterior", "Iterative Study", examples=(Example("sequence", {"width": 3, "moves": 5}),))
class GramPosterior(Rows):
    """Draws of a deep Gaussian process with two layers of features, given eight rows of a table, by Hamiltonian chains.

    Args:
        info: of rows with targets.
        width: units of a layer, N; 0 for infinitely many whose targets are seen once: Gram matrices K (NNGP).
        repeated: whether targets are repeated N times, as they are where the limit learns representations.
        moves: of each chain whose step size adapts; as many follow, from which every fifth is kept.
    """

    def __init__(
        self, info: DataInfo, *, width: NonNegativeInt = 16, repeated: bool = True, moves: PositiveInt = 200
    ) -> None:
        super().__init__(info, problems=1)
        self.width, self.repeated, self.moves = width, repeated, moves

    def problem(self, rng: np.random.Generator) -> Problem:
        """Rows ``x`` (n, D) and ``y`` (n,); ``grams`` (L, n, n) are those of the limit."""
        chosen = rng.permutation(len(self.x))[:ROWS]
        x, y = (torch.from_numpy(standardised(a[chosen], a[chosen])) for a in (self.x, self.y.reshape(-1)))
        at = settings(1, NOISE)
        v = covariances(at, x, limit(at, x, y, steps=STEPS)).features
        return Problem({"x": x.numpy(), "y": y.numpy()}, {"grams": (v @ v.mT).numpy()})

    @torch.no_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        """Draws of ``grams`` (S, L, n, n)."""
        x, y = torch.from_numpy(given["x"]), torch.from_numpy(given["y"])
        at, generator = settings(1, NOISE), torch.Generator().manual_seed(int(rng.integers(2**62)))
        copies = self.width if self.repeated else 1

        def outputs(z: Tensor) -> Outputs:
            return covariances(at, x, z.view(CHAINS, LAYERS, len(x), self.width) / self.width**0.5)

        def log_density(z: Tensor) -> Tensor:
            return copies * log_likelihood(outputs(z), y) - 0.5 * z.square().sum(1)

        kernel, found = HMC(leapfrog=8), [] if self.width else [covariances(at, x, None).features[None]]
        z = torch.randn(CHAINS, LAYERS * len(x) * self.width, generator=generator, dtype=x.dtype)
        size = kernel.start(z)
        for i in range(2 * self.moves if self.width else 0):
            kernel.drift = 0.05 if i < self.moves else 0.0
            z, size, _ = kernel.move(z, size, log_density, generator)
            if i >= self.moves and (i - self.moves) % THINNED == 0:
                found.append(outputs(z).features)
        v = torch.cat(found)
        return {"grams": v @ v.mT}


@metric("gram_distance", "Study", "1", "lower", within=(0.0, None))
def gram_distance(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Frobenius distance of a draw's Gram matrix from the limit's, by the latter's norm, mean over draws and layers."""

    def measure(truth: Arrays, answer: Arrays) -> float:
        away = np.linalg.norm(answer["grams"] - truth["grams"], axis=(-2, -1))
        return float((away / np.linalg.norm(truth["grams"], axis=(-2, -1))).mean())

    return over_problems(model, measure)


@model("sparse-kernel-machine", "Iterative Study", examples=(Example("sequence", {"steps": 2, "inducing": 5}),))
class SparseKernelMachine(Rows):
    """Regression with inducing rows, trained by the bound on the marginal likelihood less the divergences.

    All settings move with the inducing rows. Of three tries on nine tenths of the training rows, the one with the best
    density of the others is trained on all.

    Args:
        info: of rows with targets.
        learned: whether Gram matrices are (deep kernel machine, tries of nu); else they are K (NNGP, tries of noise).
        lengths: whether each input has a length scale of its own.
        inducing: rows M, at most.
        steps: of L-BFGS at most, in each training.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        learned: bool = True,
        lengths: bool = False,
        inducing: PositiveInt = 50,
        steps: PositiveInt = 300,
    ) -> None:
        super().__init__(info, problems=1)
        self.learned, self.lengths, self.inducing, self.steps = learned, lengths, inducing, steps

    def problem(self, rng: np.random.Generator) -> Problem:
        """Nine tenths of the rows, ``x`` and ``y``, and the inputs ``x_new`` of the others, standardised by those."""
        train, test = np.split(rng.permutation(len(self.x)), [round(0.9 * len(self.x))])
        x, y = (standardised(a, a[train]) for a in (self.x, self.y.reshape(-1)))
        return Problem({"x": x[train], "y": y[train], "x_new": x[test]}, {"y": y[test]})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        """``mean`` and ``variance`` (T,) of new targets."""
        x, y, new = (torch.from_numpy(given[name]) for name in ("x", "y", "x_new"))
        cut, tries = int(0.9 * len(x)), NUS if self.learned else NOISES
        scores = [nll(y[cut:].numpy(), *self.predicted(t, x[:cut], y[:cut], x[cut:])) for t in tries]
        mean, variance = self.predicted(tries[int(np.argmin(scores))], x, y, new)
        return {"mean": mean, "variance": variance}

    def predicted(self, tried: float, x: Tensor, y: Tensor, new: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of new targets after a training with one of the tries."""
        start = settings(x.shape[1] if self.lengths else 1, 0.1 if self.learned else tried)
        nu = tried * x.shape[1] if self.learned else None
        found = train(start, x, y, x[: self.inducing], nu, steps=self.steps)
        with torch.no_grad():
            _, mean, variance = sparse(covariances(*found, torch.cat([x, new])), y)
        return mean.numpy(), variance.numpy()


def nll(y: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> float:
    """Mean negative log density of targets under normal laws, all (T,), in nats."""
    return float(-norm.logpdf(y, mean, np.sqrt(variance)).mean())


@metric("kernel_machine_nll", "Study", "nats", "lower")
def kernel_machine_nll(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean negative log density of a test target, in units of the training targets' standard deviation."""
    return over_problems(model, lambda truth, answer: nll(truth["y"], answer["mean"], answer["variance"]))
