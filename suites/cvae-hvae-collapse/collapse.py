"""Linear VAE, conditional VAE and two-level Markovian HVAE, trained and as their theorems say (Dang et al. 2024).

All noise is Gaussian, so that the expectation of a linear model's bound is a function of its weights and of the rows'
second moments alone: nothing is drawn in training. Theorems speak of its global minimum.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor

EXAMPLES = (Example("real-vector", {"rows": 30, "latents": 2, "inputs": 2, "iterations": 5, "problems": 2}),)
Arrays = Mapping[str, Any]
Weights = Mapping[str, Tensor]


class CollapseStudy(Study):
    """Rows y (N, outputs) and, correlated with its first columns, x (N, inputs); what training makes of the latents.

    An answer has, largest first, singular values that a theorem speaks of (`lambdas`, and `omegas` of the hierarchical
    model), and `kl`, the mean over rows of KL(q(z_i | .) || p(z_i)) in nats for each of the topmost latents.

    Args:
        info: not used.
        rows, outputs, inputs: N and the widths of y and of x, which has no more columns than y.
        latents: of each level, no more than columns of y.
        spread: standard deviation of the first column of y and of the last; the others are spaced evenly.
        correlation: of a column of x with that of y.
        eta_enc, eta_dec: standard deviations of the prior and of whatever is decoded.
        betas: weights of the topmost KL term, of which each problem draws one.
        beta_1, sigma_1: of the hierarchical model: weight of the lower KL term, standard deviation of its encoder.
        learnable: whether the variances of the topmost encoder are learned; else they are the prior's.
        iterations, rate: of Adam.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rows: PositiveInt = 100,
        outputs: PositiveInt = 5,
        inputs: NonNegativeInt = 5,
        latents: PositiveInt = 5,
        spread: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0),
        correlation: float = 0.0,
        eta_enc: PositiveFloat = 1.0,
        eta_dec: PositiveFloat = 1.0,
        betas: tuple[PositiveFloat, ...] = (1.0,),
        beta_1: PositiveFloat = 1.0,
        sigma_1: PositiveFloat = 1.0,
        learnable: bool = True,
        iterations: NonNegativeInt = 200,
        rate: PositiveFloat = 0.1,
        problems: PositiveInt = 10,
    ) -> None:
        super().__init__(info, problems=problems)
        if max(inputs, latents) > outputs or abs(correlation) > 1:
            raise UserError("x or z is wider than y, or correlation beyond 1", fix="give y more columns")
        self.rows, self.outputs, self.inputs, self.latents = rows, outputs, inputs, latents
        self.spread, self.correlation, self.eta_enc, self.eta_dec = spread, correlation, eta_enc, eta_dec
        self.betas, self.beta_1, self.sigma_1, self.learnable = betas, beta_1, sigma_1, learnable
        self.iterations, self.rate = iterations, rate

    def problem(self, rng: np.random.Generator) -> Problem:
        beta = float(rng.choice(self.betas))
        unit, noise = rng.standard_normal((2, self.rows, self.outputs))
        x = (self.correlation * unit + np.sqrt(1.0 - self.correlation**2) * noise)[:, : self.inputs]
        y = unit * np.linspace(*self.spread, self.outputs)
        return Problem({"x": x, "y": y, "beta": beta}, self.theory(x, y, beta))

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        """Full-batch Adam from weights of deviation 0.1 and uniform encoder deviations, as in the authors' code."""
        x, y = torch.from_numpy(given["x"]), torch.from_numpy(given["y"])
        start = {name: 0.1 * rng.standard_normal(shape) for name, shape in self.shapes().items()}
        start["s"] = rng.random(self.latents)
        weights = {name: torch.from_numpy(value).requires_grad_() for name, value in start.items()}
        optimiser = torch.optim.Adam(weights.values(), self.rate)
        with torch.enable_grad():
            for _ in range(self.iterations):
                optimiser.zero_grad()
                self.objective(weights, x, y, given["beta"]).backward()
                optimiser.step()
        with torch.no_grad():
            return self.found(weights, x, y)

    @abstractmethod
    def theory(self, x: ndarray, y: ndarray, beta: float) -> Arrays:
        """What a theorem says of the answer at the global minimum, under the answer's names."""

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Of the weights, by name."""

    @abstractmethod
    def objective(self, w: Weights, x: Tensor, y: Tensor, beta: float) -> Tensor:
        """Negative evidence bound with weighted KL terms, nats a row, up to a constant."""

    @abstractmethod
    def found(self, w: Weights, x: Tensor, y: Tensor) -> Arrays:
        """The answer of trained weights."""

    def variances(self, w: Weights) -> Tensor:
        """Diagonal of the topmost encoder's covariance, (latents,)."""
        return w["s"] ** 2 if self.learnable else torch.full_like(w["s"], self.eta_enc**2)

    def divergences(self, second: Tensor, variances: Tensor) -> Tensor:
        """Mean KL to the prior, (latents,), of Gaussians whose means have mean squares `second`."""
        prior = self.eta_enc**2
        return 0.5 * ((second + variances) / prior - 1.0 - torch.log(variances / prior))

    def leading(self, moment: ndarray) -> ndarray:
        """The largest eigenvalues of a second moment, (latents,), largest first."""
        return np.linalg.eigvalsh(moment)[::-1][: self.latents].clip(0.0)


@model("linear-cvae", "Iterative Study", "linear conditional VAE; a VAE without inputs", examples=EXAMPLES)
class LinearCVAE(CollapseStudy):
    """z = W1 x + W2 y + noise, y = U1 z + U2 x + noise; lambdas are the singular values of U1."""

    def theory(self, x: ndarray, y: ndarray, beta: float) -> Arrays:
        """Theorem 2, by eigenvalues theta of what x leaves of the second moment of y; theorem 1 without inputs.

        With fixed variances (here all the prior's) any rotation of the latents is as good, so no `kl` is foretold.
        """
        left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        theta, prior, limit = self.leading(left.T @ left / len(y)), self.eta_enc**2, beta * self.eta_dec**2
        if self.learnable:
            kl = 0.5 * np.log(np.maximum(1.0, theta / limit))
            return {"lambdas": np.sqrt(np.maximum(0.0, theta - limit) / prior), "kl": kl}
        return {"lambdas": np.sqrt(np.maximum(0.0, np.sqrt(theta * limit) - limit) / prior)}

    def shapes(self) -> dict[str, tuple[int, int]]:
        x, y, z = self.inputs, self.outputs, self.latents
        return {"W1": (z, x), "W2": (z, y), "U1": (y, z), "U2": (y, x)}

    def objective(self, w: Weights, x: Tensor, y: Tensor, beta: float) -> Tensor:
        means, variances = x @ w["W1"].T + y @ w["W2"].T, self.variances(w)
        error = ((means @ w["U1"].T + x @ w["U2"].T - y) ** 2).sum(1).mean() + (w["U1"] ** 2 * variances).sum()
        return error / (2 * self.eta_dec**2) + beta * self.divergences((means**2).mean(0), variances).sum()

    def found(self, w: Weights, x: Tensor, y: Tensor) -> Arrays:
        kl = self.divergences(((x @ w["W1"].T + y @ w["W2"].T) ** 2).mean(0), self.variances(w))
        return {"lambdas": torch.linalg.svdvals(w["U1"]), "kl": kl.sort(descending=True)[0]}


@model("linear-mhvae", "Iterative Study", "linear Markovian hierarchical VAE, two levels", examples=EXAMPLES)
class LinearMHVAE(CollapseStudy):
    """z1 = W1 y + noise of sigma_1, z2 = W2 z1 + noise; z1 = U2 z2 + noise, y = U1 z1 + noise, both of eta_dec.

    lambdas are the singular values of W1 C^(1/2), with C the second moment of y, and omegas those of U2.
    """

    def theory(self, x: ndarray, y: ndarray, beta: float) -> Arrays:
        """Theorem 3, and theorem 5 where the upper variances are fixed, by theta, the roots of C's eigenvalues.

        In terms of lambda^2 + sigma_1^2 (`first`) and beta_1 omega^2 + beta c^2 (`second`), c = eta_dec / eta_enc.
        """
        theta = np.sqrt(self.leading(y.T @ y / len(y)))
        s2, prior, noise = self.sigma_1**2, self.eta_enc**2, self.eta_dec**2
        least = beta * noise / prior
        if self.learnable:
            top, level, power = s2 * theta**2 / (beta * noise), self.beta_1 / prior, 1.0
        else:
            level, power = np.sqrt(self.beta_1 * least / prior), 0.5
            top = (theta**2 * s2 / (level * prior)) ** (2 / 3)
        alone = np.maximum(s2, theta * self.sigma_1 / np.sqrt(self.beta_1))  # where the upper level collapses
        first = np.where(level * np.maximum(s2, top) ** power >= least, np.maximum(s2, top), alone)
        second = np.maximum(least, level * first**power)
        values = {"lambdas": np.sqrt(first - s2), "omegas": np.sqrt((second - least) / self.beta_1)}
        return {**values, "kl": 0.5 * np.log(second / least)} if self.learnable else values

    def shapes(self) -> dict[str, tuple[int, int]]:
        y, z = self.outputs, self.latents
        return {"W1": (z, y), "U1": (y, z), "W2": (z, z), "U2": (z, z)}

    def objective(self, w: Weights, x: Tensor, y: Tensor, beta: float) -> Tensor:
        s2, variances, means = self.sigma_1**2, self.variances(w), y @ w["W1"].T
        error = ((means @ w["U1"].T - y) ** 2).sum(1).mean() + s2 * (w["U1"] ** 2).sum()
        amiss = w["U2"] @ w["W2"] - torch.eye(self.latents, dtype=y.dtype)
        lower = ((means @ amiss.T) ** 2).sum(1).mean() + s2 * (amiss**2).sum() + (w["U2"] ** 2 * variances).sum()
        upper = self.divergences(self._second(w, means), variances).sum()
        return (error + self.beta_1 * lower) / (2 * self.eta_dec**2) + beta * upper

    def found(self, w: Weights, x: Tensor, y: Tensor) -> Arrays:
        means = y @ w["W1"].T
        kl = self.divergences(self._second(w, means), self.variances(w)).sort(descending=True)[0]
        lambdas, omegas = torch.linalg.svdvals(means / len(y) ** 0.5), torch.linalg.svdvals(w["U2"])
        return {"lambdas": lambdas, "omegas": omegas, "kl": kl}

    def _second(self, w: Weights, means: Tensor) -> Tensor:
        """Mean squares of the means of z2, over rows and over the noise of z1."""
        return ((means @ w["W2"].T) ** 2).mean(0) + self.sigma_1**2 * (w["W2"] ** 2).sum(1)


@metric("theory_error", "Study", "1", "lower", settings={"of": "lambdas"}, within=(0.0, None))
def theory_error(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean absolute difference of singular values (`lambdas`, `omegas`) to the theorem's, over latents and problems."""
    return over_problems(model, lambda t, a: float(np.abs(a[settings["of"]] - t[settings["of"]]).mean()))


@metric("collapsed_share", "Study", "1", "lower", settings={"below": 0.01}, lowest={"below": 0.0}, within=(0.0, 1.0))
def collapsed_share(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of the topmost latents whose mean KL to the prior is less than `below` nats."""
    return over_problems(model, lambda _, a: float((a["kl"] < settings["below"]).mean()))


@metric("collapse_foretold", "Study", "1", "higher", settings={"below": 0.01}, lowest={"below": 0.0}, within=(0.0, 1.0))
def collapse_foretold(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of problems in which as many of the topmost latents collapse as the theorem says."""
    limit = settings["below"]
    return over_problems(model, lambda t, a: float((a["kl"] < limit).sum() == (t["kl"] < limit).sum()))


@metric("latent_kl", "Study", "nats", "higher", within=(0.0, None))
def latent_kl(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean KL of the topmost code to its prior, nats a row."""
    return over_problems(model, lambda _, a: float(a["kl"].sum()))
