"""Graphs of dynamics by SCOTCH and by its rivals: a penalised neural ODE, and regressions."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Generator, Tensor

from .latent_sde import WIDTH, LatentSDE, PerVariable
from .systems import Arrays, DynamicsStudy

Learner = Literal["sde", "sde-even", "ode", "var", "slopes"]
EXAMPLES = (
    Example("real-vector", {"variables": 4, "paths": 3, "points": 8, "gap": 0.1, "steps": 3}),
    Example("real-vector", {"variables": 4, "paths": 3, "points": 8, "gap": 0.1, "steps": 3, "learner": "ode"}),
    Example("real-vector", {"variables": 4, "paths": 3, "points": 12, "gap": 0.1, "learner": "slopes"}),
)
SMALL = 0.1  # factor of the neural ODE's first layer at the start, which the lasso would be slow to undo
WARMING = 0.25  # share of steps in which the weight of divergences rises to 1


@model(
    "dynamics-learner",
    "Iterative Study EdgeScorer",
    "graphs of stochastic dynamics, by SCOTCH or rivals",
    examples=EXAMPLES,
)
class DynamicsLearner(DynamicsStudy):
    """Edge scores (d, d) at [cause, effect] for one set of paths.

    Args:
        info, settings: see `DynamicsStudy`.
        learner: ``sde``, the latent equation with a posterior over graphs; ``sde-even``, the same with the gaps between
            observations taken for equal; ``ode``, penalised neural ODE; ``var``, Granger's score of first-order linear
            autoregression on paths interpolated where points are dropped; ``slopes``, the same of quadratic regressions
            of slopes between neighbouring points.
        sparsity: nats an edge for ``sde``; weight of the group lasso for ``ode``.
        noise: scale of the observations' noise for ``sde``, in standard deviations of a variable.
        steps: of Adam. 0 leaves all edges alike.
        rate: of Adam at first; it falls to 0 along a line.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        learner: Learner = "sde",
        sparsity: NonNegativeFloat = 500.0,
        noise: PositiveFloat = 0.01,
        steps: NonNegativeInt = 40_000,
        rate: PositiveFloat = 0.003,
        **settings: Any,
    ) -> None:
        super().__init__(info, **settings)
        self.learner, self.sparsity, self.noise, self.steps, self.rate = learner, sparsity, noise, steps, rate

    @torch.enable_grad()
    def answer(self, given: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Arrays]:
        x, times, gap = given["x"], given["times"], given["gap"]
        if self.learner == "var":
            whole = interpolated(x, times)
            return {"scores": granger(whole[:, :-1], whole[:, 1:], np.ones(whole.shape[1] - 1), 1)}
        if self.learner == "slopes":
            lengths = gap * np.diff(times)
            return {"scores": granger(x[:, :-1], np.diff(x, axis=1) / lengths[:, None], lengths, 2)}
        if self.learner == "sde-even":
            gap, times = gap * float(np.diff(times).mean()), np.arange(len(times))
        data, draws = torch.from_numpy(x).float(), Generator().manual_seed(int(rng.integers(2**62)))
        learn = self.by_ode if self.learner == "ode" else self.by_sde
        return {"scores": learn(data, torch.from_numpy(times), gap, draws).detach().double().numpy()}

    def by_sde(self, x: Tensor, times: Tensor, gap: float, draws: Generator) -> Tensor:
        net = LatentSDE(x.shape[2], self.noise, self.sparsity, draws)
        adam = torch.optim.Adam(net.parameters(), lr=self.rate)
        for step in range(self.steps):
            adam.param_groups[0]["lr"] = self.rate * (1 - step / self.steps)
            weight = min(1.0, (step + 1) / (WARMING * self.steps))
            adam.zero_grad()
            net.negative_bound(x, times, gap, weight, draws).backward()
            adam.step()
        return net.logits

    def by_ode(self, x: Tensor, times: Tensor, gap: float, draws: Generator) -> Tensor:
        """Norms of first-layer weights, by proximal steps as Bellot et al. (2022) have them."""
        net = PerVariable(x.shape[2], WIDTH, draws)
        net.first.data *= SMALL
        adam = torch.optim.Adam(net.parameters(), lr=self.rate)
        for step in range(self.steps):
            adam.param_groups[0]["lr"] = rate = self.rate * (1 - step / self.steps)
            adam.zero_grad()
            (ahead(net, x, times, gap) - x[:, 1:]).square().mean().backward()
            adam.step()
            with torch.no_grad():
                norms = net.first.norm(dim=2, keepdim=True)
                net.first *= (1 - rate * self.sparsity / norms.clamp(min=1e-12)).clamp(min=0)
        return net.first.norm(dim=2).T


def ahead(net: PerVariable, x: Tensor, times: Tensor, gap: float) -> Tensor:
    """(n, T - 1, d): from each observation, by Euler's steps of length `gap`, to the time of the next."""
    z, lengths = x[:, :-1], times.diff()
    graph = torch.ones(*z.shape, z.shape[2])
    for step in range(int(lengths.max())):
        z = torch.where((step < lengths)[:, None], z + gap * net(z, graph), z)
    return z


def interpolated(x: Arrays, times: Arrays) -> Arrays:
    """(n, T, d) at times (T,) to (n, S, d) at each whole time from the first to the last, along lines."""
    every = np.arange(times[0], times[-1] + 1)
    right = np.clip(np.searchsorted(times, every), 1, None)
    share = ((every - times[right - 1]) / (times[right] - times[right - 1]))[:, None]
    return (1 - share) * x[:, right - 1] + share * x[:, right]


def granger(x: Arrays, y: Arrays, weights: Arrays, degree: int) -> Arrays:
    """(d, d): log of the residual variance of y_j without x_i over that with it, at [i, j].

    Least squares on polynomials of x, of at most that degree.

    Args:
        x, y: (n, T, d).
        weights: (T,) of squares.
    """
    d = x.shape[2]
    terms = [t for k in range(degree + 1) for t in combinations_with_replacement(range(d), k)]
    root = np.sqrt(np.tile(weights, len(x)))[:, None]
    rows, targets = x.reshape(-1, d), root * y.reshape(-1, d)
    features = root * np.stack([rows[:, list(t)].prod(1) for t in terms], 1)

    def residual(columns: list[int]) -> Arrays:
        fit = np.linalg.lstsq(features[:, columns], targets, rcond=None)[0]
        return np.asarray(((targets - features[:, columns] @ fit) ** 2).sum(0))

    full = residual(list(range(len(terms))))
    without = [residual([k for k, t in enumerate(terms) if i not in t]) for i in range(d)]
    return np.log(np.stack(without) / full)
