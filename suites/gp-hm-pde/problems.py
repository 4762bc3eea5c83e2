"""Equations of manufactured waves, Chebyshev collocation at as many points, and what an answer is measured by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from scipy.interpolate import BarycentricInterpolator
from torch import Generator

SPACING = 2 * np.pi / 399
Name = Literal["sine", "mixed", "product", "low"]
# amplitudes (terms,), angular frequencies (terms,), and whether u (u^2 - 1) is added to u''
WAVES: dict[str, tuple[Sequence[float], Sequence[float], bool]] = {
    "sine": ([1.0], [100.0], False),  # sin(100 x)
    "mixed": ([1.0, 0.1, 0.05], [1.0, 20.0, 100.0], False),  # sin x + 0.1 sin 20 x + 0.05 sin 100 x
    "product": ([0.5, -0.5], [106.0, 94.0], True),  # sin(6 x) cos(100 x), Allen-Cahn
    "low": ([1.0], [10.0], False),  # ours: what every solver can do
}


class Waves:
    """u(x) = sum of amplitudes times sin(omega x + phase), and the right-hand side that it solves."""

    def __init__(self, name: str, rng: np.random.Generator | None = None) -> None:
        amplitudes, omegas, self.reacts = WAVES[name]
        self.amplitudes, self.omegas, self.phases = np.asarray(amplitudes), np.asarray(omegas), np.zeros(len(omegas))
        if rng is not None:
            self.omegas = rng.uniform(0.9, 1.1) * self.omegas
            self.phases = rng.uniform(0.0, 2 * np.pi, len(omegas))

    def terms(self, x: ndarray) -> ndarray:
        """Values (rows, terms) at x (rows,)."""
        return self.amplitudes * np.sin(x[:, None] * self.omegas + self.phases)

    def __call__(self, x: ndarray) -> ndarray:
        return self.terms(x).sum(1)

    def source(self, x: ndarray) -> ndarray:
        u = self(x)
        return -self.terms(x) @ self.omegas**2 + self.reacts * u * (u**2 - 1.0)


class WaveStudy(Study):
    """Dirichlet problems u'' + r u (u^2 - 1) = source on [0, length], r = 1 for Allen-Cahn and else 0.

    A solver is given ``source``, a function of x (rows,), and ``walls``, u at both ends; an answer has ``prediction``
    at the test points (300,).

    Args:
        info: not used.
        wave: the solution.
        drawn: frequencies times a number in [0.9, 1.1], phases uniform; else the paper's own.
        points: n, of the grid, as far apart as the authors' 400 on [0, 2 pi].
    """

    def __init__(
        self, info: DataInfo, *, wave: Name = "sine", drawn: bool = True, points: PositiveInt = 64
    ) -> None:  # fmt: skip
        super().__init__(info, problems=1)
        if points < 5:
            raise UserError(f"{points} points", fix="have 5 at least")
        self.wave, self.drawn, self.points, self.reacts = wave, drawn, points, WAVES[wave][2]
        self.grid = SPACING * np.arange(points)
        self.tests = np.linspace(0.0, self.grid[-1], 300)

    def problem(self, rng: np.random.Generator) -> Problem:
        waves = Waves(self.wave, rng if self.drawn else None)
        truth = {"solution": waves(self.tests), "frequencies": waves.omegas / (2 * np.pi)}
        return Problem({"source": waves.source, "walls": waves(self.grid[[0, -1]])}, truth)


@model("chebyshev-collocation", "Iterative Study", "Chebyshev collocation", examples=(Example("real-vector"),))
class Chebyshev(WaveStudy):
    """The polynomial through n Chebyshev points that solves the equation at those inside; Newton where it reacts."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        x = self.grid[-1] * (1.0 - np.cos(np.pi * np.arange(self.points) / (self.points - 1))) / 2.0
        first = derivative(x)
        second, source, u = first @ first, given["source"](x), np.zeros(self.points)
        u[[0, -1]] = given["walls"]
        for _ in range(20 if self.reacts else 1):
            slope = second + np.diag(self.reacts * (3.0 * u**2 - 1.0))
            gap = source - second @ u - self.reacts * u * (u**2 - 1.0)
            u[1:-1] += np.linalg.solve(slope[1:-1, 1:-1], gap[1:-1])
        return {"prediction": BarycentricInterpolator(x, u, random_state=0)(self.tests)}


def derivative(x: ndarray) -> ndarray:
    """Matrix (n, n) that differentiates the polynomial through n Chebyshev points (Trefethen 2000, chapter 6)."""
    n = len(x)
    c = np.where(np.isin(np.arange(n), (0, n - 1)), 2.0, 1.0) * (-1.0) ** np.arange(n)
    off = np.outer(c, 1.0 / c) / (x[:, None] - x + np.eye(n))
    return off - np.diag(off.sum(1))


def relative(truth: Arrays, answer: Arrays) -> float:
    """Relative L2 error at the test points."""
    return float(np.linalg.norm(answer["prediction"] - truth["solution"]) / np.linalg.norm(truth["solution"]))


@metric("relative_l2", "Study", "1", "lower", within=(0.0, None))
def relative_l2(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Relative L2 error at the test points."""
    return over_problems(model, relative)


@metric("log_relative_l2", "Study", "decades", "lower", within=(None, 0.0))
def log_relative_l2(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Decimal logarithm of the relative L2 error; where that is above one (no solution is better), zero."""
    return over_problems(model, lambda t, a: np.log10(np.clip(relative(t, a), 1e-16, 1.0)))


def shares(answer: Arrays) -> ndarray:
    """Each component's part (Q,) of the prior variance."""
    return answer["weights"] / answer["weights"].sum()


@metric("components", "Study", "1", "lower", within=(1.0, None))
def components(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Effective number of a mixture's components: exp of the entropy of their shares."""
    return over_problems(model, lambda _, a: np.exp(-(shares(a) * np.log(np.maximum(shares(a), 1e-300))).sum()))


@metric("frequency_error", "Study", "Hz", "lower", within=(0.0, None))
def frequency_error(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean distance of components, by their shares, to the nearest true frequency."""

    def error(truth: Arrays, answer: Arrays) -> float:
        apart = np.abs(np.abs(answer["frequencies"])[:, None] - truth["frequencies"]).min(1)
        return float(shares(answer) @ apart)

    return over_problems(model, error)
