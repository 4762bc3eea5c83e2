"""Calibrated regions of a response of two or three dimensions: ST-DQR and its rivals, on curved laws and on a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import PositiveInt
from torch import Generator, Tensor

from .networks import LATENTS, Autoencoder, MixtureDensity, Quantiles, directions, fit
from .regions import ALPHA, Balls, Score, halfspaces, highest_density, judged, lattice

#: Column of the table's inputs that is the first response.
RESPONSE = 6
#: Points that areas are counted on, and that are tried for a directional region, by dimension; directions tried.
COUNTED, TRIED, SIDES = {2: 3000, 3: 15000}, {2: 4096, 3: 8000}, 128
#: Steps of the integral over a law's curve, and how far the law strays from that.
STEPS, THICKNESS = 200, 0.1
SMALL = {"rows": 80, "epochs": 2}
EXAMPLES = (
    Example("real-vector", SMALL),
    Example("real-vector", {**SMALL, "rule": "npdqr", "dimensions": 3}),
    Example("real-vector", {**SMALL, "rule": "naive"}),
    Example("real-vector", {**SMALL, "rule": "hpd-split"}),
)


class Curved:
    """The authors' simulated law of y given x: about the curve (z, (1 - cos(z b'x)) / 2), where z is uniform up to
    pi / b'x, at a uniform radius up to THICKNESS and angle; sin(mean x) is added to y_2 if `lifted`; y_3 = sin z."""

    def __init__(self, beta: ndarray, d: int, *, lifted: bool) -> None:
        self.beta, self.d, self.lifted = beta, d, lifted

    def curve(self, x: ndarray, z: ndarray) -> ndarray:
        """(n, 2) at z (n,), for x (n, p) or (1, p)."""
        height = (1.0 - np.cos(z * (x @ self.beta))) / 2
        return np.column_stack([z, height + (np.sin(x.mean(1)) if self.lifted else 0.0)])

    def draw(self, x: ndarray, rng: np.random.Generator) -> ndarray:
        """(n, d) for x (n, p)."""
        z = rng.uniform(-1, 1, len(x)) * np.pi / (x @ self.beta)
        radius, angle = THICKNESS * rng.uniform(-1, 1, len(x)), rng.uniform(0, 2 * np.pi, len(x))
        noise = radius * np.stack([np.cos(angle), np.sin(angle)])
        return np.column_stack([self.curve(x, z) + noise.T, np.sin(z)])[:, : self.d]

    def log_density(self, x: ndarray, y: ndarray) -> ndarray:
        """(m,) nats of y (m, 2) given x (p,): the mean over z of 1 / (2 pi THICKNESS r) within r <= THICKNESS."""
        middle = self.curve(x[None], ((np.arange(STEPS) + 0.5) / STEPS * 2 - 1) * np.pi / (x @ self.beta))
        r = np.linalg.norm(y[:, None] - middle, axis=2)
        return np.log(((r <= THICKNESS) / (2 * np.pi * THICKNESS * np.maximum(r, 1e-4))).mean(1) + 1e-300)


def row(x: ndarray) -> Tensor:
    return torch.from_numpy(x).float()[None]


def directional(quantiles: Quantiles, tried: Tensor, draws: Generator) -> Callable[[ndarray], Tensor]:
    """From an input to those points tried, (k, d), that lie above the quantiles along SIDES directions."""
    u = directions(SIDES, tried.shape[1], draws)
    along = tried @ u.T
    return lambda x: tried[(along >= quantiles(row(x), u)).all(1)]


@model("calibrated-region", "Iterative Study", "regions of a multivariate response with coverage 0.9", examples=EXAMPLES)
class CalibratedRegion(Study):
    """Answers are ``covered`` (T,), whether regions hold the responses of new rows, and ``area`` (T,), how many points
    of a grid they hold.

    Args:
        info: of rows with target ``y`` and more than RESPONSE inputs, where the design is `table`.
        rule: ``st-dqr`` has directional quantile regression in the latent space of a conditional VAE, ``npdqr`` in the
            responses' own; ``decoded`` has draws from the VAE's prior instead; ``naive`` has quantiles of each
            coordinate, ``constant`` those of all training rows; ``hpd-split`` a mixture density, ``oracle`` the law.
        design: the law `Curved`, or the target and an input of a table, standardised as all of it.
        inputs, dimensions: p and d, of the law.
        tau: level of the directional quantiles.
        rows: to train on; a quarter as many choose the epoch, as many calibrate, half of that is judged.
        epochs: at most.
        problems: draws, or splits of the table.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Literal["st-dqr", "decoded", "npdqr", "naive", "constant", "hpd-split", "oracle"] = "st-dqr",
        design: Literal["linear", "nonlinear", "table"] = "linear",
        inputs: PositiveInt = 1,
        dimensions: Literal[2, 3] = 2,
        tau: float = 0.05,
        rows: PositiveInt = 2400,
        epochs: PositiveInt = 400,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.rule, self.design, self.inputs, self.dimensions = rule, design, inputs, dimensions
        self.tau, self.epochs, self._table = tau, epochs, np.zeros((0, 2))
        self.sizes = {"": rows, "_held": rows // 4, "_calibration": rows // 4, "_new": rows // 8}

    def start(self, data: Batch, generator: Generator) -> None:
        """Raises UserError where the design is a table and the data have too few inputs or rows."""
        super().start(data, generator)
        if self.design == "table":
            if "y" not in data.columns or data.x.shape[1] <= RESPONSE or len(data.x) < sum(self.sizes.values()):
                raise UserError("no table with these columns and as many rows", fix="dataset uci-protein")
            self._table = torch.cat([data.x, data.columns["y"]], 1).double().cpu().numpy()

    def state_dict(self) -> dict[str, Tensor]:
        return {**super().state_dict(), "table": torch.from_numpy(self._table)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._table = state["table"].numpy()

    def problem(self, rng: np.random.Generator) -> Problem:
        """Rows ``x`` and ``y`` to train on; the same with ``_held``, ``_calibration``, ``_new``; the ``law`` if made."""
        ends, law = np.cumsum(list(self.sizes.values())), None
        if self.design == "table":
            chosen = self._table[rng.permutation(len(self._table))[: ends[-1]]]
            chosen = (chosen - chosen[: ends[0]].mean(0)) / chosen[: ends[0]].std(0)
            x, y = np.delete(chosen[:, :-1], RESPONSE, 1), chosen[:, [RESPONSE, -1]]
        else:
            weights, x = rng.uniform(size=self.inputs), rng.uniform(0.8, 3.2, (ends[-1], self.inputs))
            law = Curved(weights / weights.sum(), self.dimensions, lifted=self.design == "nonlinear")
            y = law.draw(x, rng)
        split = zip(self.sizes, np.split(x, ends[:-1]), np.split(y, ends[:-1]), strict=True)
        return Problem({n + part: a for part, *both in split for n, a in zip("xy", both, strict=True)} | {"law": law})

    @torch.no_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        grid = lattice(given["y"], COUNTED[given["y"].shape[1]])
        score = self.score(given, grid, torch.Generator().manual_seed(int(rng.integers(2**62))))
        rows = ([given["x" + part], given["y" + part]] for part in ("_calibration", "_new"))
        covered, area = judged(score, *rows, grid)
        return {"covered": covered, "area": area}

    def score(self, given: Arrays, grid: ndarray, draws: Generator) -> Score:
        """That of the rule, after its training."""
        x, y, *held = (torch.from_numpy(given[k]).float() for k in ("x", "y", "x_held", "y_held"))
        p, d = x.shape[1], y.shape[1]
        sides, level = torch.cat([torch.eye(d), -torch.eye(d)]), ALPHA / (2 * d)
        if self.rule == "constant":
            levels = torch.quantile(y @ sides.T, level, 0).numpy()
            return halfspaces(lambda _: levels, sides.numpy())
        if self.rule == "naive":
            found = fit(Quantiles(p, d, level, draws, sides), (x, y), held, draws, self.epochs)
            return halfspaces(lambda one: found(row(one), sides)[0].numpy(), sides.numpy())
        if self.rule == "oracle":
            if not given["law"] or d > 2:
                raise UserError("the density is not known", fix="design: linear or nonlinear, dimensions: 2")
            return highest_density(given["law"].log_density, grid)
        if self.rule == "hpd-split":
            density = fit(MixtureDensity(p, d, draws), (x, y), held, draws, self.epochs)
            return highest_density(lambda one, new: density.law(row(one)).log_prob(torch.from_numpy(new).float()).numpy(), grid)
        points = self.points(x, y, held, draws)
        return Balls(lambda one: points(one).numpy(), given["x_calibration"], given["y_calibration"], grid)

    def points(self, x: Tensor, y: Tensor, held: list[Tensor], draws: Generator) -> Callable[[ndarray], Tensor]:
        """From an input to points (k, d) of the uncalibrated region."""
        p, d = x.shape[1], y.shape[1]
        if self.rule == "npdqr":
            found = fit(Quantiles(p, d, self.tau, draws), (x, y), held, draws, self.epochs)
            return directional(found, torch.from_numpy(lattice(y.numpy(), TRIED[d])).float(), draws)
        vae = fit(Autoencoder(p, d, draws), (x, y), held, draws, self.epochs)
        if self.rule == "decoded":
            drawn = torch.randn(1000, LATENTS, generator=draws)
            return lambda one: vae.decode(row(one), drawn)
        z, z_held = (vae.encode(*rows, draws)[0] for rows in ((x, y), held))
        low, high = torch.quantile(z, 0.01, 0) - 0.2, torch.quantile(z, 0.99, 0) + 0.2
        tried = low + (high - low) * torch.rand(TRIED[2], LATENTS, generator=draws)
        found = fit(Quantiles(p, LATENTS, self.tau, draws), (x, z), [held[0], z_held], draws, self.epochs)
        region = directional(found, tried, draws)
        return lambda one: vae.decode(row(one), region(one))


@metric("region_coverage", "Study", "1", "higher", within=(0.0, 1.0))
def region_coverage(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of new rows whose response lies in the region, mean over problems."""
    return over_problems(model, lambda _, answer: float(answer["covered"].mean()))


@metric("region_log_area", "Study", "nats", "lower", within=(0.0, None))
def region_log_area(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Log of 1 plus the mean number of grid points in a region, mean over problems."""
    return over_problems(model, lambda _, answer: float(np.log1p(answer["area"].mean())))
