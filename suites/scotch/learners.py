"""Graphs of stochastic Lorenz-96 systems by SCOTCH and by its rivals: a penalised neural ODE, and regressions."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.study import Problem, Study
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from .latent_sde import WIDTH, LatentSDE, PerVariable

Arrays = np.ndarray
FORCING, DIFFUSION = 10.0, 0.5  # the same for each variable
BURN, STEP = 2.0, 0.005  # time before the first observation, and of a step of the simulation
TENTH = 0.1  # factor of the neural ODE's first layer at the start, which the lasso would be slow to undo
WARMING = 0.25  # share of steps in which the weight of divergences rises to 1


def drift(z: Arrays) -> Arrays:
    """Of Lorenz-96, (..., d) -> (..., d)."""
    return (np.roll(z, -1, -1) - np.roll(z, 2, -1)) * np.roll(z, 1, -1) - z + FORCING


def graph_of(d: int) -> Arrays:
    """(d, d), 1 at [i, j] where the drift of j depends on i, i not j."""
    return sum(np.roll(np.eye(d, dtype=int), shift, 0) for shift in (1, -1, -2))  # type: ignore[return-value]


def simulate(rng: np.random.Generator, d: int, paths: int, points: int, gap: float) -> Arrays:
    """(paths, points, d) by Euler-Maruyama, `gap` apart."""
    z, seen = rng.standard_normal((paths, d)), []
    every, first = max(1, round(gap / STEP)), round(BURN / STEP)
    for k in range(first + (points - 1) * every + 1):
        if k >= first and (k - first) % every == 0:
            seen.append(z)
        z = z + STEP * drift(z) + STEP**0.5 * DIFFUSION * rng.standard_normal(z.shape)
    return np.stack(seen, 1)


@model(
    "dynamics-learner",
    "Iterative Study EdgeScorer",
    "graphs of stochastic dynamics, by SCOTCH or rivals",
    examples=(
        Example("real-vector", {"variables": 4, "paths": 3, "points": 8, "gap": 0.1, "steps": 3}),
        Example("real-vector", {"variables": 4, "paths": 3, "points": 8, "gap": 0.1, "steps": 3, "learner": "ode"}),
        Example("real-vector", {"variables": 4, "paths": 3, "points": 12, "gap": 0.1, "learner": "slopes"}),
    ),
)
class DynamicsLearner(Study):
    """Edge scores (d, d) at [cause, effect] for one set of paths of a stochastic Lorenz-96 system.

    Args:
        info: of the data, which are not looked at.
        variables, paths, points: how many, at least 4, 1 and 3, before points are dropped.
        gap: between points, in units of time.
        dropped: chance of each point but the first two, for all paths at once.
        learner: ``sde``, the latent equation with a posterior over graphs; ``sde-even``, the same with the gaps between
            observations taken for equal; ``ode``, penalised neural ODE; ``var``, Granger's score of first-order linear
            autoregression on paths interpolated where points are dropped; ``slopes``, the same of quadratic regressions
            of slopes between neighbouring points.
        sparsity: nats an edge for ``sde``; weight of the group lasso for ``ode``.
        noise: scale of the observations' noise for ``sde``, in standard deviations of a variable.
        steps: of Adam. 0 leaves all edges alike for ``sde``.
        rate: of Adam at first; it falls to 0 along a line.
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
        learner: Literal["sde", "sde-even", "ode", "var", "slopes"] = "sde",
        sparsity: NonNegativeFloat = 500.0,
        noise: PositiveFloat = 0.01,
        steps: NonNegativeInt = 40_000,
        rate: PositiveFloat = 0.003,
    ) -> None:
        super().__init__(info, problems=1)
        self.size = checks.whole("variables", variables, 4), paths, checks.whole("points", points, 3), gap
        self.dropped = checks.number("dropped", dropped, most=0.99)
        self.learner, self.sparsity, self.noise, self.steps, self.rate = learner, sparsity, noise, steps, rate

    def problem(self, rng: np.random.Generator) -> Problem:
        """``x`` (paths, T, d), standardised, ``times`` (T,) of points as whole numbers of ``gap``."""
        d, _, points, gap = self.size
        x = simulate(rng, *self.size)
        kept = rng.random(points) >= self.dropped
        kept[:2] = True
        order = rng.permutation(d)
        x = ((x - x.mean((0, 1))) / x.std((0, 1)))[:, kept][..., order]
        graph = graph_of(d)[np.ix_(order, order)]
        return Problem({"x": x, "times": np.flatnonzero(kept), "gap": gap}, {"graph": graph})

    @torch.enable_grad()
    def answer(self, given: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Arrays]:
        x, times, gap = given["x"], given["times"], given["gap"]
        if self.learner == "var":
            every = np.arange(times[0], times[-1] + 1)
            whole = np.apply_along_axis(lambda path: np.interp(every, times, path), 1, x)
            return {"scores": granger(whole[:, :-1], whole[:, 1:], np.ones(len(every) - 1), 1)}
        if self.learner == "slopes":
            lengths = gap * np.diff(times)
            return {"scores": granger(x[:, :-1], np.diff(x, axis=1) / lengths[:, None], lengths, 2)}
        if self.learner == "sde-even":
            gap, times = gap * float(np.diff(times).mean()), np.arange(len(times))
        draws = Generator().manual_seed(int(rng.integers(2**62)))
        scores = self.trained(torch.from_numpy(x).float(), torch.from_numpy(times), gap, draws)
        return {"scores": scores.detach().double().numpy()}

    def trained(self, x: Tensor, times: Tensor, gap: float, draws: Generator) -> Tensor:
        """Logits of edges, or norms of first-layer weights after proximal steps as Bellot et al. (2022) have them."""
        net: LatentSDE | PerVariable
        if self.learner == "ode":
            net = PerVariable(x.shape[2], WIDTH, draws)
            net.first.data *= TENTH
        else:
            net = LatentSDE(x.shape[2], self.noise, self.sparsity, draws)
        adam = torch.optim.Adam(net.parameters(), lr=self.rate)
        for step in range(self.steps):
            adam.param_groups[0]["lr"] = rate = self.rate * (1 - step / self.steps)
            adam.zero_grad()
            if isinstance(net, LatentSDE):
                weight = min(1.0, (step + 1) / (WARMING * self.steps))
                net.negative_bound(x, times, gap, weight, draws).backward()
            else:
                (ahead(net, x, times, gap) - x[:, 1:]).square().mean().backward()
            adam.step()
            if isinstance(net, PerVariable):
                norms = net.first.data.norm(dim=2, keepdim=True)
                net.first.data *= (1 - rate * self.sparsity / norms.clamp(min=1e-12)).clamp(min=0)
        return net.logits if isinstance(net, LatentSDE) else net.first.norm(dim=2).T


def ahead(net: PerVariable, x: Tensor, times: Tensor, gap: float) -> Tensor:
    """(n, T - 1, d): from each observation, by Euler's steps of length `gap`, to the time of the next."""
    z, lengths = x[:, :-1], times.diff()
    graph = torch.ones(*z.shape, z.shape[2])
    for step in range(int(lengths.max())):
        z = torch.where((step < lengths)[:, None], z + gap * net(z, graph), z)
    return z


def granger(x: Arrays, y: Arrays, weights: Arrays, degree: int) -> Arrays:
    """(d, d): log of the residual variance of y_j without x_i over that with it, at [i, j].

    Least squares of y (n, T, d), weighted by `weights` (T,), on polynomials of x (n, T, d) of at most `degree`.
    """
    d = x.shape[2]
    terms = [t for k in range(degree + 1) for t in combinations_with_replacement(range(d), k)]
    root = np.sqrt(np.tile(weights, len(x)))[:, None]
    rows, targets = x.reshape(-1, d), root * y.reshape(-1, d)
    features = root * np.stack([rows[:, list(t)].prod(1) for t in terms], 1)

    def residual(without: int) -> Arrays:
        some = features[:, [without not in t for t in terms]]
        return np.asarray(((targets - some @ np.linalg.lstsq(some, targets, rcond=None)[0]) ** 2).sum(0))

    return np.log(np.stack([residual(i) for i in range(d)]) / residual(-1))
