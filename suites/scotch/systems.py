"""Stochastic Lorenz-96 systems, observed at times of which some are dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models.study import Problem, Study
from pydantic import PositiveFloat, PositiveInt

Arrays = np.ndarray
FORCING, DIFFUSION = 10.0, 0.5  # the same for each variable
BURN, STEP = 2.0, 0.005  # time before the first observation, and of a step of the simulation


def drift(z: Arrays) -> Arrays:
    """(..., d) -> (..., d)."""
    return (np.roll(z, -1, -1) - np.roll(z, 2, -1)) * np.roll(z, 1, -1) - z + FORCING


def graph_of(d: int) -> Arrays:
    """(d, d), 1 at [i, j] where the drift of j depends on i, i not j."""
    graph = np.zeros((d, d), dtype=int)
    for shift in (1, -1, -2):
        graph[(np.arange(d) + shift) % d, np.arange(d)] = 1
    return graph


def simulate(rng: np.random.Generator, d: int, paths: int, points: int, gap: float) -> Arrays:
    """(paths, points, d) by Euler-Maruyama, `gap` apart."""
    z, seen = rng.standard_normal((paths, d)), []
    every, first = max(1, round(gap / STEP)), round(BURN / STEP)
    for k in range(first + (points - 1) * every + 1):
        if k >= first and (k - first) % every == 0:
            seen.append(z)
        z = z + STEP * drift(z) + STEP**0.5 * DIFFUSION * rng.standard_normal(z.shape)
    return np.stack(seen, 1)


class DynamicsStudy(Study):
    """Paths of variables in random order, standardised, and the graph of their drift.

    Args:
        info: of the data, which are not looked at.
        variables: at least 4.
        paths, points: how many of each, before some are dropped.
        gap: between points, in units of time.
        dropped: chance of each point but the first two, for all paths at once.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        variables: PositiveInt = 10,
        paths: PositiveInt = 10,
        points: PositiveInt = 100,
        gap: PositiveFloat = 1.0,
        dropped: float = 0.3,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        if variables < 4 or points < 3 or not 0.0 <= dropped < 1.0:
            given = f"variables is {variables}, points {points}, dropped {dropped}"
            raise UserError(given, fix="4 variables and 3 points or more, and a chance below 1")
        self.dropped, self.size = dropped, (variables, paths, points, gap)

    def problem(self, rng: np.random.Generator) -> Problem:
        """``x`` (paths, T, d), ``times`` (T,) of points as whole numbers of ``gap``."""
        d, _, points, gap = self.size
        x = simulate(rng, *self.size)
        kept = rng.random(points) >= self.dropped
        kept[:2] = True
        order = rng.permutation(d)
        x = ((x - x.mean((0, 1))) / x.std((0, 1)))[:, kept][..., order]
        given: dict[str, Any] = {"x": x, "times": np.flatnonzero(kept), "gap": gap}
        return Problem(given, {"graph": graph_of(d)[np.ix_(order, order)]})
