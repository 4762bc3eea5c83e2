"""Where densities are summed or integrated: every state of small data, a grid, or random points where there are more
dimensions than two."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentbench.contracts import synthetic
from latentbench.contracts.subject import Subject, generator

#: States that may be enumerated: with an exact likelihood, and where each needs many importance weights.
MOST_STATES, MOST_WEIGHED = 1 << 16, 1 << 8
#: Points of a grid a dimension, random points, those of a density that costs little, and how far a grid reaches beyond
#: samples, in their ranges.
GRID, POINTS, MANY, REACH = {1: 1001, 2: 61}, 10_000, 50_000, 0.75
#: Samples of the model by which a space is placed.
PLACED = 2000


@dataclass(frozen=True)
class Space:
    """Points that stand for all of a space.

    Attributes:
        x: (M, *shape).
        log_volume: (M,) float64, of what each stands for.
        kind: ``states``, ``grid`` or ``random``.
        said: what it is, for messages.
    """

    x: Tensor
    log_volume: Tensor
    kind: str
    said: str


def states(kind: synthetic.Kind) -> Space | None:
    """Every state of binary or discrete data; None if they are too many or there is no end of them."""
    levels = {"binary": 2, "discrete": kind.levels or 0}.get(kind.support, 0)
    dims = math.prod(kind.shape)
    if not levels or dims * math.log(levels) > math.log(MOST_STATES) + 1e-9:
        return None
    index = torch.arange(levels**dims)
    x = torch.stack([(index // levels**d) % levels for d in range(dims)], 1).float()
    if kind.make is synthetic.KINDS["tokens"].make:  # after the end mark nothing but padding
        ended = (x == 0).long().cumsum(1) - (x == 0).long() > 0
        x = x[~(ended & (x != 0)).any(1)]
    return Space(x.view(-1, *kind.shape), torch.zeros(len(x), dtype=torch.float64), "states", f"all {len(x)} states")


def some(space: Space, points: int = POINTS) -> Space:
    """Random states, which stand for all."""
    chosen = torch.randint(len(space.x), (points,), generator=generator(13))
    volume = torch.full((points,), math.log(len(space.x) / points), dtype=torch.float64)
    return Space(space.x[chosen], volume, "random", f"{points} random states of {len(space.x)}")


def _samples(subject: Subject, model: Any) -> Tensor:
    """(n, D) float64 rows about which the density lies: the model's own samples, or its data."""
    with torch.no_grad():
        x = model.sample(PLACED, generator(11)) if "Sampler" in subject.can else subject.x
    return x.flatten(1).double()


def real(subject: Subject, model: Any, *, grid: int | None = None, points: int = POINTS) -> Space:
    """A grid over one or two real dimensions, of `grid` points each; else, and where `grid` is 0, `points` random ones
    of a kernel density about the model's samples."""
    near, shape = _samples(subject, model), subject.x.shape[1:]
    dims = near.shape[1]
    if grid != 0 and dims in GRID:
        side = grid or GRID[dims]
        low, high = near.amin(0), near.amax(0)
        reach = REACH * (high - low).clamp_min(1e-3)
        axes = [torch.linspace(a, b, side, dtype=torch.float64) for a, b in zip(low - reach, high + reach)]
        x = torch.cartesian_prod(*axes).view(-1, dims)
        volume = math.log(math.prod(float(a[1] - a[0]) for a in axes))
        said = f"a grid over {dims} real dimension{'s' if dims > 1 else ''}"
        return Space(x.float().view(-1, *shape), torch.full((len(x),), volume, dtype=torch.float64), "grid", said)
    return _random(near, shape, points)


def nearest(space: Space, x: Tensor) -> Tensor:
    """Which point of a grid lies nearest to each x (n, *shape), (n,); what lies outside goes to its border."""
    points = space.x.flatten(1)
    index = torch.zeros(len(x), dtype=torch.long)
    for row, axis in zip(x.flatten(1).T, points.T):
        values = axis.unique()
        step = (values[-1] - values[0]) / (len(values) - 1)
        at = ((row - values[0]) / step).round().long().clamp(0, len(values) - 1)
        index = index * len(values) + at  # the last coordinate changes fastest
    return index


def _random(near: Tensor, shape: torch.Size, points: int) -> Space:
    """`points` points of a mixture about `near` (n, D): its Gaussian, narrow kernels, and wide ones."""
    draws, dims = generator(12), near.shape[1]
    covariance = torch.cov(near.T).reshape(dims, dims)
    root = torch.linalg.cholesky(covariance + 1e-6 * covariance.diagonal().mean().clamp_min(1e-12) * torch.eye(dims))
    white = torch.linalg.solve_triangular(root, near.T, upper=False).T
    kernels = ((white.mean(0, keepdim=True), 1.2, 0.4), (white[:400], 0.4, 0.4), (white[:400], 2.5, 0.2))
    parts = []
    for centres, width, share in kernels:
        n = round(share * points)
        at = centres[torch.randint(len(centres), (n,), generator=draws)]
        parts.append(at + width * torch.randn(n, dims, generator=draws, dtype=torch.float64))
    y = torch.cat(parts)
    x = (y @ root.T).float()
    log_r = torch.stack(
        [
            math.log(share / len(centres))
            - dims * math.log(width)
            + (-0.5 * torch.cdist(y, centres).square() / width**2).logsumexp(1)
            for centres, width, share in kernels
        ]
    ).logsumexp(0)
    log_r = log_r - 0.5 * dims * math.log(2 * math.pi) - root.diagonal().log().sum()
    said = f"{points} random points in {dims} dimensions"
    return Space(x.view(-1, *shape), -log_r - math.log(points), "random", said)
