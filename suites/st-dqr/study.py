"""Calibrated regions of two responses: ST-DQR and its rivals, on curved laws and on a table.

A region is given by a score, from an input (p,) and responses (m, d) to (m,): it is where the score is at most the
radius, which is the ceil((n + 1)(1 - ALPHA))-th least score of n calibration rows, infinity where n is too small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Arrays, Problem, TableStudy
from numpy import ndarray
from pydantic import PositiveInt
from scipy.spatial import cKDTree
from torch import Generator, Tensor

from .networks import LATENTS, Autoencoder, MixtureDensity, Quantiles, directions, fit

#: Share not covered; which of the table's inputs is the first response; how far made ones stray from their curve.
ALPHA, RESPONSE, THICKNESS = 0.1, 6, 0.1
#: Points that areas are counted on, and that are tried for a directional region; directions tried.
COUNTED, TRIED, SIDES = 3000, 4096, 128
Score = Callable[[ndarray, ndarray], ndarray]
SMALL = {"rows": 80, "epochs": 2}
EXAMPLES = (Example("real-vector", SMALL), Example("real-vector", {**SMALL, "rule": "hpd-split"}))


def curved(x: ndarray, beta: ndarray, rng: np.random.Generator, *, lifted: bool) -> ndarray:
    """The authors' simulated responses (n, 2) to x (n, p): about the curve (z, (1 - cos(z b'x)) / 2), z uniform up to
    pi / b'x, at a uniform radius up to THICKNESS and angle; sin(mean x) is added to y_2 if `lifted`."""
    slope, (z, r) = x @ beta, rng.uniform(-1, 1, (2, len(x)))
    z, r, angle = z * np.pi / slope, r * THICKNESS, rng.uniform(0, 2 * np.pi, len(x))
    height = (1.0 - np.cos(z * slope)) / 2 + (np.sin(x.mean(1)) if lifted else 0.0)
    return np.column_stack([z + r * np.cos(angle), height + r * np.sin(angle)])


def lattice(y: ndarray, size: int) -> ndarray:
    """About `size` points (m, d) of a grid over the box from the 1 % quantiles of y (n, d) less 0.2 to the 99 % ones
    plus 0.2, its upper ends left out."""
    low, high = np.add(np.quantile(y, [0.01, 0.99], axis=0), [[-0.2], [0.2]])
    axes = np.linspace(low, high, math.ceil(size ** (1.0 / y.shape[1]) - 1e-9), endpoint=False).T
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, y.shape[1])


def nearest(points: ndarray, y: ndarray) -> ndarray:
    """Distances (m,) of y (m, d) from the nearest of the points (n, d); infinity where there is none."""
    return cKDTree(points).query(y)[0] if len(points) else np.full(len(y), np.inf)


def highest_density(log_density: Score, grid: ndarray) -> Score:
    """Probability, summed over the grid (m, d), of what is denser than y (HPD-split: Izbicki, Shimizu, Stern 2022)."""

    def score(x: ndarray, y: ndarray) -> ndarray:
        heights = np.sort(log_density(x, grid))[::-1]
        mass = np.append(0.0, np.cumsum(np.exp(heights - heights[0])))
        return mass[np.searchsorted(-heights, -log_density(x, y))] / mass[-1]

    return score


@model("calibrated-region", "Iterative Study", "regions of two responses with coverage 0.9", examples=EXAMPLES)
class CalibratedRegion(TableStudy):
    """Answers: ``covered`` (T,), whether regions hold the responses of new rows; ``area`` (T,), grid points they hold.

    Args:
        info: of rows with target ``y`` and more than RESPONSE inputs, where the design is `table`.
        rule: ``st-dqr`` has directional quantile regression in the latent space of a conditional VAE, ``npdqr`` in the
            responses' own; ``naive`` has quantiles of each coordinate, ``constant`` those of all training rows;
            ``hpd-split`` has a mixture density.
        design: curved responses, ``nonlinear`` if lifted, or the target and an input of a table, all standardised.
        inputs: p, of curved responses.
        tau: level of the directional quantiles.
        rows: to train on; a quarter as many choose the epoch, as many calibrate, half of that is judged.
        epochs: at most.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Literal["st-dqr", "npdqr", "naive", "constant", "hpd-split"] = "st-dqr",
        design: Literal["linear", "nonlinear", "table"] = "linear",
        inputs: PositiveInt = 1,
        tau: float = 0.05,
        rows: PositiveInt = 2400,
        epochs: PositiveInt = 400,
    ) -> None:
        super().__init__(info, problems=1)
        self.rule, self.design, self.inputs, self.tau, self.epochs = rule, design, inputs, tau, epochs
        self.sizes = {"": rows, "_held": rows // 4, "_calibration": rows // 4, "_new": rows // 8}

    def start(self, data: Batch, generator: Generator) -> None:
        """Raises UserError where the design is a table and the data have too few inputs or rows."""
        super().start(data, generator)
        if self.design == "table":
            if "y" not in data.columns or data.x.shape[1] <= RESPONSE or len(data.x) < sum(self.sizes.values()):
                raise UserError("no table with these columns and as many rows", fix="dataset uci-protein")
            self.keep(data)

    def problem(self, rng: np.random.Generator) -> Problem:
        """Rows ``x`` and ``y`` to train on, and the same with ``_held``, ``_calibration``, ``_new``."""
        ends = np.cumsum(list(self.sizes.values()))
        if self.design == "table":
            rows = np.column_stack([self.x, self.y])[rng.permutation(len(self.x))[: ends[-1]]]
            rows = (rows - rows[: ends[0]].mean(0)) / rows[: ends[0]].std(0)
            x, y = np.delete(rows[:, :-1], RESPONSE, 1), rows[:, [RESPONSE, -1]]
        else:
            beta, x = rng.uniform(size=self.inputs), rng.uniform(0.8, 3.2, (ends[-1], self.inputs))
            y = curved(x, beta / beta.sum(), rng, lifted=self.design == "nonlinear")
        split = zip(self.sizes, np.split(x, ends[:-1]), np.split(y, ends[:-1]), strict=True)
        return Problem({name + part: a for part, *both in split for name, a in zip("xy", both, strict=True)})

    @torch.no_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        grid = lattice(given["y"], COUNTED)
        score = self.score(given, grid, torch.Generator().manual_seed(int(rng.integers(2**62))))
        old, new = (zip(given["x" + of], given["y" + of], strict=True) for of in ("_calibration", "_new"))
        scores = np.sort([*(score(x, y[None])[0] for x, y in old), math.inf])
        radius = scores[math.ceil(len(scores) * (1.0 - ALPHA) - 1e-9) - 1]
        within = np.array([score(x, np.vstack([y, grid])) <= radius for x, y in new])
        return {"covered": within[:, 0], "area": within[:, 1:].sum(1)}

    def score(self, given: Arrays, grid: ndarray, draws: Generator) -> Score:
        """That of the rule, after its training."""
        x, y, *held = (Tensor(given[k]) for k in ("x", "y", "x_held", "y_held"))
        p, d = x.shape[1], y.shape[1]
        if self.rule in ("naive", "constant"):
            sides, level = torch.cat([torch.eye(d), -torch.eye(d)]), ALPHA / (2 * d)
            net, marginal = Quantiles(p, d, level, draws, sides), torch.quantile(y @ sides.T, level, 0)
            naive = self.rule == "naive"
            found = fit(net, (x, y), held, draws, self.epochs) if naive else lambda *_: marginal[None]
            return lambda a, b: np.max(found(Tensor(a)[None], sides)[0].numpy() - b @ sides.T.numpy(), axis=1)
        if self.rule == "hpd-split":
            density = fit(MixtureDensity(p, d, draws), (x, y), held, draws, self.epochs)
            return highest_density(lambda a, b: density.law(Tensor(a)[None]).log_prob(Tensor(b)).numpy(), grid)
        tried, decode = Tensor(lattice(given["y"], TRIED)), lambda _, y: y
        if self.rule == "st-dqr":
            vae = fit(Autoencoder(p, d, draws), (x, y), held, draws, self.epochs)
            decode = vae.decode
            y, held[1] = (vae.encode(*rows, draws)[0] for rows in ((x, y), held))
            low, high = torch.quantile(y, 0.01, 0) - 0.2, torch.quantile(y, 0.99, 0) + 0.2
            tried = low + (high - low) * torch.rand(TRIED, LATENTS, generator=draws)
        found = fit(Quantiles(p, y.shape[1], self.tau, draws), (x, y), held, draws, self.epochs)
        u = directions(SIDES, y.shape[1], draws)

        def distance(a: ndarray, b: ndarray) -> ndarray:
            """From the nearest of those tried, as responses, that lie above the quantiles along all directions."""
            inside = (tried @ u.T >= found(Tensor(a)[None], u)).all(1)
            return nearest(decode(Tensor(a)[None], tried[inside]).numpy(), b)

        return distance


@metric("region_coverage", "Study", "1", "higher", within=(0.0, 1.0))
def region_coverage(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of new rows whose response lies in the region."""
    return over_problems(model, lambda _, answer: float(answer["covered"].mean()))


@metric("region_log_area", "Study", "nats", "lower", within=(0.0, None))
def region_log_area(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Log of 1 plus the mean number of grid points in a region."""
    return over_problems(model, lambda _, answer: float(np.log1p(answer["area"].mean())))
