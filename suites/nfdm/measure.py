"""Samples that come along deterministic paths: how good few steps are, and how straight the paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from latentbench.core.capabilities import PathSampler
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.space import some_rows, stored
from latentbench.evaluation.view import View
from latentbench.metrics import samples
from latentbench.metrics.arrays import mean_and_se
from torch import Generator, Tensor

Settings = Mapping[str, Any]


@metric(
    "few_step_distance",
    "PathSampler",
    "data unit",
    "lower",
    "sliced Wasserstein distance of samples by few Euler steps and real rows as stored",
    settings={"steps": 10, "samples": 2_000, "projections": 200},
    lowest={"steps": 1, "samples": 10, "projections": 1},
    within=(0.0, None),
)
def few_step_distance(model: PathSampler, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Sliced Wasserstein distance of samples of `steps` Euler steps and as many real rows, both as stored.

    Detail `real_against_real` is the same figure for training rows in the samples' place.
    """
    n = min(int(settings["samples"]), len(view), len(view.train))
    rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator, device=generator.device)))
    real, other = (v.x[some_rows(v, n, generator).to(v.device)] for v in (view, view.train))
    made = model.sample_path(n, int(settings["steps"]), generator)[-1]
    real, other, made = (stored(view, y).flatten(1).double() for y in (real, other, made))
    value, floor = (
        samples.sliced_wasserstein(real, y, projections=int(settings["projections"]), rng=rng).value
        for y in (made, other)
    )
    return MetricValue(float(value), None, n, {"real_against_real": float(floor), "steps": int(settings["steps"])})


@metric(
    "path_straightness",
    "PathSampler",
    "1",
    "higher",
    "distance between the ends of a generative path by its length",
    settings={"steps": 100, "samples": 1_000},
    lowest={"steps": 2, "samples": 2},
    within=(0.0, 1.0),
)
def path_straightness(model: PathSampler, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Distance between the ends of a path by its length, mean over `samples` paths of `steps` Euler steps."""
    states = model.sample_path(int(settings["samples"]), int(settings["steps"]), generator)
    value, se = mean_and_se(straightness(states).cpu().numpy())
    return MetricValue(value, se, states.shape[1], {"steps": int(settings["steps"])})


def straightness(states: Tensor) -> Tensor:
    """(N,) in [0, 1], 1 for straight paths: |z_K - z_0| / sum_k |z_{k+1} - z_k| of states (K + 1, N, …).

    It does not depend on the speed along a path; a path that does not move counts as straight.

    Raises:
        UserError: less than two states.
    """
    if len(states) < 2:
        raise UserError(f"{len(states)} states make no path", where="states", fix="one step or more")
    z = states.flatten(2).double()
    length = (z[1:] - z[:-1]).norm(dim=2).sum(0)
    return torch.where(length > 0, (z[-1] - z[0]).norm(dim=1) / length.clamp(min=1e-300), torch.ones_like(length))
