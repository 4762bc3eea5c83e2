"""Laws on manifolds, which have no density in R^D, how far an estimate is from one, and how that changes with rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics.arrays import mean_and_se
from latentbench.models import checks
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import PositiveInt
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import qmc
from torch import Generator


def circle(u: ndarray) -> ndarray:
    """(N, 1) to (N, 2), radius 1, with a density that varies fourfold."""
    angle = 2 * np.pi * u[:, 0] + 0.6 * np.sin(2 * np.pi * u[:, 0])
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def spiral(u: ndarray) -> ndarray:
    """(N, 1) to (N, 2), one and a quarter turns from radius 0.2 to 1.2, denser inside."""
    r, angle = 0.2 + u[:, 0], 2.5 * np.pi * u[:, 0]
    return np.stack([r * np.cos(angle), r * np.sin(angle)], 1)


def torus(u: ndarray) -> ndarray:
    """(N, 2) to (N, 3), radii 1 and 0.4, the long way round like the circle."""
    short = 2 * np.pi * u[:, 1]
    return np.concatenate([circle(u) * (1 + 0.4 * np.cos(short))[:, None], 0.4 * np.sin(short)[:, None]], 1)


#: Maps of uniform numbers, and how many each takes.
MANIFOLDS = {"circle": (circle, 1), "spiral": (spiral, 1), "torus": (torus, 2)}
Kind = Literal["circle", "spiral", "torus"]
Rows = Sequence[PositiveInt]
ROWS = (32, 128, 512)


def spread(n: int, dims: int, rng: np.random.Generator) -> ndarray:
    """(n, dims) within (0, 1), each uniform, evenly spread: a scrambled Sobol net."""
    return np.asarray(qmc.Sobol(dims, seed=rng).random(n)).clip(1e-6, 1 - 1e-6)


class ManifoldStudy(Study):
    """Estimates of a law by its first n rows, for several n up to N: `points` (n's, levels, N, D), and `chosen` levels.

    Given are `x` (2 N, D), rows to learn from, then as many to choose by; and `other` (N, D), points of the law for
    `reference-law` alone. Points of laws are spread evenly, so that two sets of one law are near.

    Args:
        manifold, dims: turned in R^D at random, anew for each problem.
        rows: each n, rising powers of two.
        info, **study: as for every study.
    """

    def __init__(
        self, info: DataInfo, *, manifold: Kind = "circle", dims: PositiveInt = 10, rows: Rows = ROWS, **study: Any
    ) -> None:
        super().__init__(info, **study)
        self.map, self.inner = MANIFOLDS[checks.one_of("manifold", manifold, MANIFOLDS)]
        self.dims, self.rows = dims, checks.wholes("rows", rows)
        if len(rows) < 2 or list(rows) != sorted(set(rows)) or any(n & (n - 1) for n in rows):
            raise UserError(f"rows {rows}", fix="two or more rising powers of two")

    def problem(self, rng: np.random.Generator) -> Problem:
        turn = np.linalg.qr(rng.standard_normal((self.dims, self.dims)))[0]
        u = [rng.random((2 * self.rows[-1], self.inner)), *(spread(self.rows[-1], self.inner, rng) for _ in range(2))]
        x, other, points = (flat @ turn[: flat.shape[1]] for flat in map(self.map, u))
        return Problem({"x": x, "other": other}, {"points": points})


def wasserstein(x: ndarray, y: ndarray) -> float:
    """W_1 of sets (N, D) and (M, D), by the best matching; N is a multiple of M, whose points stand several times."""
    cost = cdist(x, y).repeat(len(x) // len(y), 1)
    return float(cost[linear_sum_assignment(cost)].mean())


def distances(model: Any) -> tuple[ndarray, ndarray]:
    """W_1 to the truth, (problems, n's, levels), and at the chosen level, (problems, n's)."""
    pairs = [(t["points"], a["points"], a["chosen"]) for t, a in model.answered()]
    table = np.array([[[wasserstein(p, truth) for p in by] for by in points] for truth, points, _ in pairs])
    return table, np.take_along_axis(table, np.array([c for *_, c in pairs])[..., None], 2)[..., 0]


def slope(along: Sequence[float], y: ndarray) -> ndarray:
    """Least-squares slope of y (..., n) in the log of `along` (n,), (...)."""
    log = np.log(along) - np.log(along).mean()
    return np.asarray(y @ log / (log @ log))


@metric("law_wasserstein", "Study", "1", "lower", settings={"rows": -1}, lowest={"rows": -1}, within=(0.0, None))
def law_wasserstein(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean W_1 at the chosen level, at one number of rows (0 the first, -1 the last); details: that at each level."""
    table, at_chosen = (each[:, int(settings["rows"])] for each in distances(model))
    details = {f"level_{i}": w for i, w in enumerate(table.mean(0).tolist())}
    return MetricValue(*mean_and_se(at_chosen), model.problems, details)


@metric("law_exponent", "Study", "1", "lower")
def law_exponent(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean slope in log n of log W_1 at the chosen level."""
    return MetricValue(*mean_and_se(slope(model.rows, np.log(distances(model)[1]))), model.problems)


@metric("noise_cost_exponent", "Study", "1", "higher")
def noise_cost_exponent(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean slope in log n of the slope of log W_1 in log s: above 0, the least W_1 moves to less noise with more rows;
    details: at each n, the mean log of the level with the least."""
    log_w = np.log(distances(model)[0])
    best = np.log(model.levels)[log_w.argmin(2)].mean(0).tolist()
    slopes = slope(model.rows, slope(model.levels, log_w))
    return MetricValue(*mean_and_se(slopes), model.problems, dict(zip(map(str, model.rows), best, strict=True)))
