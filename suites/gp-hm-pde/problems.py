"""Equations of manufactured waves, solvers by collocation at as many points, and what an answer is measured by.

Arrays over a grid have shape (n,) * d, with n coordinates in each of d = 1 or 2 dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, Literal

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import PositiveInt
from scipy.interpolate import BarycentricInterpolator, CubicSpline
from torch import Generator

SPACING = 2 * np.pi / 399
EXAMPLES = (Example("real-vector", {"points": 9}),)
Name = Literal["sine", "mixed", "product", "plane", "low"]
# amplitudes (terms,), angular frequencies (terms, d), phases, and whether u (u^2 - 1) is added to the Laplacian
WAVES: dict[str, tuple[Sequence[float], Sequence[Sequence[float]], float | Sequence[float], bool]] = {
    "sine": ([1.0], [[100.0]], -np.pi / 2, False),  # sin(100 x)
    "mixed": ([1.0, 0.1, 0.05], [[1.0], [20.0], [100.0]], -np.pi / 2, False),  # sin x + 0.1 sin 20 x + 0.05 sin 100 x
    "product": ([0.5, -0.5], [[106.0], [94.0]], -np.pi / 2, True),  # sin(6 x) cos(100 x), Allen-Cahn
    "plane": ([1.0], [[100.0, 100.0]], -np.pi / 2, False),  # sin(100 x) sin(100 y)
    "low": ([1.0], [[10.0]], -np.pi / 2, False),  # ours: what every solver can do
}


class Waves:
    """u(x) = sum of amplitudes times prod_j cos(omega_j x_j + phase_j), and the right-hand side that it solves."""

    def __init__(self, name: str, rng: np.random.Generator | None = None) -> None:
        amplitudes, omegas, phases, self.reacts = WAVES[name]
        self.amplitudes, self.omegas = np.asarray(amplitudes), np.asarray(omegas)
        self.phases = np.broadcast_to(phases, self.omegas.shape)
        if rng is not None:
            self.omegas = rng.uniform(0.9, 1.1) * self.omegas
            self.phases = rng.uniform(0.0, 2 * np.pi, self.omegas.shape)

    def terms(self, x: ndarray) -> ndarray:
        """Values (rows, terms) at x (rows, d)."""
        return self.amplitudes * np.cos(x[:, None] * self.omegas + self.phases).prod(2)

    def __call__(self, x: ndarray) -> ndarray:
        return self.terms(x).sum(1)

    def source(self, x: ndarray) -> ndarray:
        u = self(x)
        return -self.terms(x) @ (self.omegas**2).sum(1) + self.reacts * u * (u**2 - 1.0)


class WaveStudy(Study):
    """Dirichlet problems: Laplacian u + r u (u^2 - 1) = source on [0, length]^d, r = 1 for Allen-Cahn and else 0.

    A solver is given ``source`` and ``boundary``, functions of x (rows, d); an answer has ``prediction`` on the test
    grid, (tests,) * d.

    Args:
        info: not used.
        wave: the solution.
        drawn: frequencies times a number in [0.9, 1.1], phases uniform; else the paper's own.
        points: n, of the grid in each dimension, as far apart as the authors' 400 on [0, 2 pi].
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        wave: Name = "sine",
        drawn: bool = True,
        points: PositiveInt = 64,
    ) -> None:
        super().__init__(info, problems=1)
        if points < 5:
            raise UserError(f"{points} points in a dimension", fix="have 5 at least")
        self.wave, self.drawn, self.points = wave, drawn, points
        self.dims, self.reacts = len(WAVES[wave][1][0]), WAVES[wave][3]
        self.grid = SPACING * np.arange(points)
        self.tests = np.linspace(0.0, self.grid[-1], 300 if self.dims == 1 else 60)

    def problem(self, rng: np.random.Generator) -> Problem:
        waves = Waves(self.wave, rng if self.drawn else None)

        def boundary(x: ndarray) -> ndarray:
            outer = np.isclose(x, 0.0) | np.isclose(x, self.grid[-1])
            return np.where(outer.any(1), waves(x), np.nan)

        solution = waves(mesh(self.tests, self.dims)).reshape((-1,) + (len(self.tests),) * (self.dims - 1))
        truth = {"solution": solution, "frequencies": np.abs(waves.omegas) / (2 * np.pi)}
        return Problem({"source": waves.source, "boundary": boundary}, truth)

    def edge(self) -> ndarray:
        """Which points of the grid, in the order of `mesh`, lie on the boundary."""
        inner = np.zeros((self.points,) * self.dims, bool)
        inner[(slice(1, -1),) * self.dims] = True
        return ~inner.ravel()


def mesh(x: ndarray, dims: int) -> ndarray:
    """All points (n^d, d) of a grid with coordinates x (n,), the last changing fastest."""
    return np.stack(np.meshgrid(*[x] * dims, indexing="ij"), -1).reshape(-1, dims)


@model("collocation", "Iterative Study", "finite differences or Chebyshev", examples=EXAMPLES)
class Collocation(WaveStudy):
    """Second-order differences on the grid, or polynomials through as many Chebyshev points; Newton where it reacts.

    Args:
        info, wave, drawn, points: as in `WaveStudy`.
        scheme: which.
    """

    def __init__(
        self, info: DataInfo, *, scheme: Literal["differences", "chebyshev"] = "chebyshev", wave: Name = "sine",
        drawn: bool = True, points: PositiveInt = 64,
    ) -> None:  # fmt: skip
        super().__init__(info, wave=wave, drawn=drawn, points=points)
        self.scheme = scheme

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        x, eye = self.grid, np.eye(self.points)
        if self.scheme == "chebyshev":
            x = self.grid[-1] * (1.0 - np.cos(np.pi * np.arange(self.points) / (self.points - 1))) / 2.0
            first = derivative(x)
            second, between = first @ first, BarycentricInterpolator(x, eye, random_state=0)(self.tests)
        else:
            second = (np.eye(self.points, k=1) + np.eye(self.points, k=-1) - 2.0 * eye) / x[1] ** 2
            between = CubicSpline(x, eye)(self.tests)
        at, edge = mesh(x, self.dims), self.edge()
        factors = [[second if i == j else eye for i in range(self.dims)] for j in range(self.dims)]
        laplacian = sum(reduce(np.kron, each) for each in factors)
        u = np.where(edge, given["boundary"](at), 0.0)
        for _ in range(20 if self.reacts else 1):
            slope = self.reacts * (3.0 * u**2 - 1.0)
            gap = given["source"](at) - laplacian @ u - self.reacts * u * (u**2 - 1.0)
            u[~edge] += np.linalg.solve((laplacian + np.diag(slope))[np.ix_(~edge, ~edge)], gap[~edge])
        return {"prediction": reduce(np.kron, [between] * self.dims) @ u}


def derivative(x: ndarray) -> ndarray:
    """Matrix (n, n) that differentiates the polynomial through n Chebyshev points (Trefethen 2000, chapter 6)."""
    n = len(x)
    c = np.where(np.isin(np.arange(n), (0, n - 1)), 2.0, 1.0) * (-1.0) ** np.arange(n)
    off = np.outer(c, 1.0 / c) / (x[:, None] - x + np.eye(n))
    return off - np.diag(off.sum(1))


def relative(truth: Arrays, answer: Arrays) -> float:
    """Relative L2 error on the test grid."""
    u = truth["solution"].ravel()
    return float(np.linalg.norm(answer["prediction"].ravel() - u) / np.linalg.norm(u))


@metric("relative_l2", "Study", "1", "lower", within=(0.0, None))
def relative_l2(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean relative L2 error on the test grid."""
    return over_problems(model, relative)


@metric("log_relative_l2", "Study", "decades", "lower", within=(None, 0.0))
def log_relative_l2(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean decimal logarithm of the relative L2 error; where that is above one (no solution is better), zero."""
    return over_problems(model, lambda t, a: np.log10(np.clip(relative(t, a), 1e-16, 1.0)))


@metric("components", "Study", "1", "lower", within=(1.0, None))
def components(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Effective number of a mixture's components: exp of the entropy of their shares, mean over dimensions."""

    def count(_: Arrays, answer: Arrays) -> float:
        shares = answer["weights"] / answer["weights"].sum(1, keepdims=True)
        return float(np.exp(-(shares * np.log(np.maximum(shares, 1e-300))).sum(1)).mean())

    return over_problems(model, count)


@metric("frequency_error", "Study", "Hz", "lower", within=(0.0, None))
def frequency_error(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean distance of components to the nearest true frequency, by their shares of the variance; over dimensions."""

    def error(truth: Arrays, answer: Arrays) -> float:
        shares = answer["weights"] / answer["weights"].sum(1, keepdims=True)
        apart = np.abs(np.abs(answer["frequencies"])[:, :, None] - truth["frequencies"].T[:, None]).min(2)
        return float((shares * apart).sum(1).mean())

    return over_problems(model, error)
