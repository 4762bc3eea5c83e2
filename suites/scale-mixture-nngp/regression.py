"""Regression by scale mixtures of NNGPs (Lee, Yun, Yang & Lee 2022, arXiv 2107.01408).

The variance v of an infinitely wide network's last layer has a prior. Given v the network is a Gaussian process of
covariance v K; with v inverse gamma it is Student's t process (theorem of section 3), and so is its posterior, in
closed form. Of other priors, here Burr's of type XII, draws are weighted by the likelihood of the training targets.

A problem is a random split of a table's rows, 80 % to train on, 10 % to choose the network on, 10 % to be judged by.
An answer is the law of each test target (`laws`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.study import Arrays, Problem, Study
from pydantic import PositiveInt
from scipy.special import logsumexp
from torch import Generator, Tensor

from .kernels import Activation, Posterior, kernels, posterior
from .laws import Scale, fixed, log_density

Design = Literal["rows", "normal-noise", "t-noise"]
ACTIVATIONS: tuple[Activation, ...] = ("erf", "relu")
WEIGHTS = (1.0, 2.0, 4.0)
BIASES = (0.0, 0.09, 1.0)
NOISES = tuple(10 ** (-6 + e / 2) for e in (5, 6, 7, 8, 9))
SHAPES = (0.5, 1.0, 1.5, 2.0, 4.0, 8.0)  # alpha and beta of the inverse gamma prior
BURR = (1.0, 2.0, 3.0)  # c and d
DRAWS = 1000
SMALL = (Example("real-vector", {"problems": 2, "depths": [1], "most": 30}),)


def simulated(design: Design, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A draw (n, 1), (n,) of a process with kernel exp(-r^2 / 2) at unit steps: 100 points with noise N(0, 0.2^2), or
    300 with noise of 0.8 times Student's t of one degree of freedom."""
    n = 100 if design == "normal-noise" else 300
    x = np.linspace(-n / 2, n / 2, n)
    covariance = np.exp(-0.5 * (x[:, None] - x) ** 2) + 1e-9 * np.eye(n)
    noise = 0.2 * rng.standard_normal(n) if design == "normal-noise" else 0.8 * rng.standard_t(1, n)
    return x[:, None], np.linalg.cholesky(covariance) @ rng.standard_normal(n) + noise


class Regression(Study):
    """Splits of a table's rows, and the laws of targets by the best network for the validation rows.

    Args:
        info: of the rows, whose targets are column ``y``; of no matter for simulated ones.
        design: ``rows`` of the data, or `simulated` ones.
        shift: test rows lie farthest along a random direction of the standardised inputs.
        most: rows of a problem, at most.
        depths: numbers of hidden layers to choose from, rising.
        observed: count noise in the laws, which the authors' code leaves out.
        problems: splits.

    Raises:
        UserError: rows without one target each.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        design: Design = "normal-noise",
        shift: bool = False,
        most: PositiveInt = 2000,
        depths: list[int] | None = None,
        observed: bool = False,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        if design == "rows" and info.columns.get("y") != (1,):
            raise UserError("rows have no column `y` of one target each", fix="choose data for regression")
        self.design, self.shift, self.most, self.observed = design, shift, checks.whole("most", most, 20), observed
        self.depths = tuple(sorted(checks.wholes("depths", depths or [1, 4, 16])))
        self._x, self._y = np.zeros((0, 1)), np.zeros(0)

    def start(self, data: Batch, generator: Generator) -> None:
        super().start(data, generator)
        if self.design == "rows":
            self._x, self._y = (rows.double().cpu().numpy() for rows in (data.x, data.columns["y"][:, 0]))

    def state_dict(self) -> dict[str, Tensor]:
        return {**super().state_dict(), "x": torch.from_numpy(self._x), "y": torch.from_numpy(self._y)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._x, self._y = state["x"].numpy(), state["y"].numpy()

    def problem(self, rng: np.random.Generator) -> Problem:
        x, y = (self._x, self._y) if self.design == "rows" else simulated(self.design, rng)
        chosen = rng.permutation(len(y))[: self.most]
        x, y = x[chosen], y[chosen]
        train, valid = int(0.8 * len(y)), int(0.1 * len(y))
        if self.shift:
            along = _standardised(x, x) @ rng.standard_normal(x.shape[1])
            order = np.argsort(along, kind="stable")
            order[: train + valid] = rng.permutation(order[: train + valid])
            x, y = x[order], y[order]
        x, y = _standardised(x, x[:train]), _standardised(y, y[:train])
        parts = {"x": x, "y": y[:train], "y_valid": y[train : train + valid]}
        return Problem(parts, {"y": y[train + valid :]})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        n, valid = len(given["y"]), len(given["y_valid"])
        draws = rng.random(DRAWS)
        best, law = -np.inf, {}
        for found in self.posteriors(given):
            mean, std = found.mean.numpy(), found.variance.sqrt().numpy()
            for scale in self.scales(found, n, draws):
                seen = {"mean": mean[:valid], "std": std[:valid], **scale._asdict()}
                value = log_density(seen, given["y_valid"]).mean()
                if value > best:
                    best, law = value, {"mean": mean[valid:], "std": std[valid:], **scale._asdict()}
        return law

    def posteriors(self, given: Arrays) -> Iterator[Posterior]:
        """Of validation and test rows, for each activation, weight, bias, depth and noise."""
        x, y = (torch.from_numpy(given[name]) for name in ("x", "y"))
        for activation, w, b in product(ACTIVATIONS, WEIGHTS, BIASES):
            for k, prior in kernels(x[: len(y)], x, activation, w, b, self.depths):
                for noise in NOISES:
                    yield posterior(k, prior, y, noise, self.observed)

    @abstractmethod
    def scales(self, found: Posterior, n: int, draws: np.ndarray) -> Iterator[Scale]:
        """Laws to choose from by the validation rows.

        Args:
            found: for a last layer of variance 1.
            n: training rows.
            draws: (S,) uniform, the same for all networks.
        """


def _standardised(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """By mean and deviation of the reference; columns that are constant there become 0."""
    deviation = reference.std(0)
    return np.where(deviation > 0, (values - reference.mean(0)) / np.where(deviation > 0, deviation, 1.0), 0.0)


@model("nngp-regression", "Iterative Study", examples=SMALL)
class Nngp(Regression):
    """The Gaussian process, without a prior on the variance of the last layer.

    Args:
        info, design, shift, most, depths, observed, problems: as of `Regression`.
        last: its variance: the authors' 1 and 4; one of 36, as many as the rival's, from 0.01 to 100; or the maximum of
            the marginal likelihood.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        design: Design = "normal-noise",
        shift: bool = False,
        most: PositiveInt = 2000,
        depths: list[int] | None = None,
        observed: bool = False,
        problems: PositiveInt = 1,
        last: Literal["authors", "fine", "likelihood"] = "authors",
    ) -> None:
        super().__init__(
            info, design=design, shift=shift, most=most, depths=depths, observed=observed, problems=problems
        )
        self.last = last

    def scales(self, found: Posterior, n: int, draws: np.ndarray) -> Iterator[Scale]:
        if self.last == "likelihood":
            return iter([fixed(found.quadratic / n)])
        return map(fixed, (1.0, 4.0) if self.last == "authors" else np.geomspace(0.01, 100, len(SHAPES) ** 2))


@model("inverse-gamma-nngp", "Iterative Study", examples=SMALL)
class InverseGamma(Regression):
    """Student's t process: v ~ IG(alpha, beta) is IG(alpha + n / 2, beta + y' S^-1 y / 2) after n targets."""

    def scales(self, found: Posterior, n: int, draws: np.ndarray) -> Iterator[Scale]:
        for alpha, beta in product(SHAPES, SHAPES):
            df = 2 * alpha + n
            yield Scale(df, np.ones(1), np.array([(2 * beta + found.quadratic) / df]))


@model("burr-nngp", "Iterative Study", examples=SMALL)
class Burr(Regression):
    """v of Burr's distribution of type XII, P(v <= u) = 1 - (1 + u^c)^-d, by draws that the likelihood weights."""

    def scales(self, found: Posterior, n: int, draws: np.ndarray) -> Iterator[Scale]:
        for c, d in product(BURR, BURR):
            v = np.maximum((1 - draws) ** (-1 / d) - 1, 1e-300) ** (1 / c)
            log_weights = -0.5 * (n * np.log(v) + found.quadratic / v)
            weights = np.exp(log_weights - logsumexp(log_weights))
            kept = weights > 1e-12
            yield Scale(np.inf, weights[kept], v[kept])


@model("constant-regression", "Iterative Study", examples=SMALL)
class Constant(Regression):
    """A normal law of the training targets' mean and deviation."""

    def posteriors(self, given: Arrays) -> Iterator[Posterior]:
        new = len(given["x"]) - len(given["y"])
        yield Posterior(torch.zeros(new).double(), torch.ones(new).double(), float(len(given["y"])))

    def scales(self, found: Posterior, n: int, draws: np.ndarray) -> Iterator[Scale]:
        return iter([fixed(1.0)])
