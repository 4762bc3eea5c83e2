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

#: Column of the table's inputs that is the first response; how far made responses stray from their curve.
RESPONSE, THICKNESS = 6, 0.1
#: Points that areas are counted on, and that are tried for a directional region, by dimension; directions tried.
COUNTED, TRIED, SIDES = {2: 3000, 3: 15000}, {2: 4096, 3: 8000}, 128
SMALL = {"rows": 80, "epochs": 2}
EXAMPLES = (Example("real-vector", SMALL), Example("real-vector", {**SMALL, "rule": "hpd-split", "dimensions": 3}))


def curved(x: ndarray, beta: ndarray, d: int, rng: np.random.Generator, *, lifted: bool) -> ndarray:
    """The authors' simulated responses (n, d) to x (n, p): about the curve (z, (1 - cos(z b'x)) / 2), z uniform up to
    pi / b'x, at a uniform radius up to THICKNESS and angle; sin(mean x) is added to y_2 if `lifted`; y_3 = sin z."""
    slope, (z, r) = x @ beta, rng.uniform(-1, 1, (2, len(x)))
    z, r, angle = z * np.pi / slope, r * THICKNESS, rng.uniform(0, 2 * np.pi, len(x))
    height = (1.0 - np.cos(z * slope)) / 2 + (np.sin(x.mean(1)) if lifted else 0.0)
    return np.column_stack([z + r * np.cos(angle), height + r * np.sin(angle), np.sin(z)])[:, :d]


def tensor(a: ndarray) -> Tensor:
    return torch.from_numpy(a).float()


def directional(quantiles: Quantiles, tried: Tensor, draws: Generator) -> Callable[[ndarray], Tensor]:
    """From an input to those points tried, (k, d), that lie above the quantiles along SIDES directions."""
    u = directions(SIDES, tried.shape[1], draws)
    along = tried @ u.T
    return lambda x: tried[(along >= quantiles(tensor(x)[None], u)).all(1)]


@model(
    "calibrated-region", "Iterative Study", "regions of a multivariate response with coverage 0.9", examples=EXAMPLES
)
class CalibratedRegion(Study):
    """Answers: ``covered`` (T,), whether regions hold the responses of new rows; ``area`` (T,), grid points they hold.

    Args:
        info: of rows with target ``y`` and more than RESPONSE inputs, where the design is `table`.
        rule: ``st-dqr`` has directional quantile regression in the latent space of a conditional VAE, ``npdqr`` in the
            responses' own; ``naive`` has quantiles of each coordinate, ``constant`` those of all training rows;
            ``hpd-split`` has a mixture density.
        design: `curved` responses, ``nonlinear`` if lifted, or the target and an input of a table, all standardised.
        inputs, dimensions: p and d, of curved ones.
        tau: level of the directional quantiles.
        rows: to train on; a quarter as many choose the epoch, as many calibrate, half of that is judged.
        epochs: at most.
        problems: draws, or splits of the table.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        rule: Literal["st-dqr", "npdqr", "naive", "constant", "hpd-split"] = "st-dqr",
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
        """Rows ``x`` and ``y`` to train on, and the same with ``_held``, ``_calibration``, ``_new``."""
        ends = np.cumsum(list(self.sizes.values()))
        if self.design == "table":
            rows = self._table[rng.permutation(len(self._table))[: ends[-1]]]
            rows = (rows - rows[: ends[0]].mean(0)) / rows[: ends[0]].std(0)
            x, y = np.delete(rows[:, :-1], RESPONSE, 1), rows[:, [RESPONSE, -1]]
        else:
            beta, x = rng.uniform(size=self.inputs), rng.uniform(0.8, 3.2, (ends[-1], self.inputs))
            y = curved(x, beta / beta.sum(), self.dimensions, rng, lifted=self.design == "nonlinear")
        split = zip(self.sizes, np.split(x, ends[:-1]), np.split(y, ends[:-1]), strict=True)
        return Problem({name + part: a for part, *both in split for name, a in zip("xy", both, strict=True)})

    @torch.no_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        grid = lattice(given["y"], COUNTED[given["y"].shape[1]])
        score = self.score(given, grid, torch.Generator().manual_seed(int(rng.integers(2**62))))
        calibration, new = ((given["x" + part], given["y" + part]) for part in ("_calibration", "_new"))
        covered, area = judged(score, calibration, new, grid)
        return {"covered": covered, "area": area}

    def score(self, given: Arrays, grid: ndarray, draws: Generator) -> Score:
        """That of the rule, after its training."""
        x, y, *held = (tensor(given[k]) for k in ("x", "y", "x_held", "y_held"))
        (p, d), common = (x.shape[1], y.shape[1]), (held, draws, self.epochs)
        if self.rule in ("naive", "constant"):
            sides, level = torch.cat([torch.eye(d), -torch.eye(d)]), ALPHA / (2 * d)
            if self.rule == "constant":
                levels = torch.quantile(y @ sides.T, level, 0).numpy()
                return halfspaces(lambda _: levels, sides.numpy())
            found = fit(Quantiles(p, d, level, draws, sides), (x, y), *common)
            return halfspaces(lambda a: found(tensor(a)[None], sides)[0].numpy(), sides.numpy())
        if self.rule == "hpd-split":
            density = fit(MixtureDensity(p, d, draws), (x, y), *common)
            return highest_density(lambda a, b: density.law(tensor(a)[None]).log_prob(tensor(b)).numpy(), grid)
        if self.rule == "npdqr":
            found = fit(Quantiles(p, d, self.tau, draws), (x, y), *common)
            points = directional(found, tensor(lattice(given["y"], TRIED[d])), draws)
        else:
            vae = fit(Autoencoder(p, d, draws), (x, y), *common)
            z, z_held = (vae.encode(*rows, draws)[0] for rows in ((x, y), held))
            low, high = torch.quantile(z, 0.01, 0) - 0.2, torch.quantile(z, 0.99, 0) + 0.2
            tried = low + (high - low) * torch.rand(TRIED[2], LATENTS, generator=draws)
            found = fit(Quantiles(p, LATENTS, self.tau, draws), (x, z), [held[0], z_held], draws, self.epochs)
            region = directional(found, tried, draws)
            points = lambda a: vae.decode(tensor(a)[None], region(a))  # noqa: E731
        return Balls(lambda a: points(a).numpy(), given["x_calibration"], given["y_calibration"], grid)


@metric("region_coverage", "Study", "1", "higher", within=(0.0, 1.0))
def region_coverage(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Share of new rows whose response lies in the region, mean over problems."""
    return over_problems(model, lambda _, answer: float(answer["covered"].mean()))


@metric("region_log_area", "Study", "nats", "lower", within=(0.0, None))
def region_log_area(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Log of 1 plus the mean number of grid points in a region, mean over problems."""
    return over_problems(model, lambda _, answer: float(np.log1p(answer["area"].mean())))
