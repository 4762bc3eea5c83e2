"""Bounds of predictions of a part from the rest, and what summing over classes costs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from latentbench.core.capabilities import ConditionalBound
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, MetricValue
from latentbench.declare import metric
from latentbench.evaluation.likelihood import ROWS, SAMPLES
from latentbench.evaluation.view import View
from latentbench.metrics import likelihood
from latentbench.models.discrete.score import Enumerate
from latentbench.papers.gumbel_softmax.class_vae import ClassVAE
from torch import Generator, Tensor

Settings = Mapping[str, Any]

#: Steps that are not timed.
WARM_UP = 3


@metric(
    "conditional_nll_iw",
    "ConditionalBound",
    "nats",
    "lower",
    "importance-weighted upper bound on the negative log-likelihood of a part given the rest",
    likelihood="importance-weighted",
    settings={"k": 1_000},
    lowest={"k": 1},
)
def conditional_nll_iw(model: ConditionalBound, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """-log of the mean of p(part | rest, h_i) over k draws h_i, nats a sample; falls to the likelihood's as k grows."""
    blocks = [view.x[rows] for rows in view.blocks(ROWS)]

    def draw(k: int) -> Tensor:
        return torch.cat([model.log_conditional_weights(x, k, generator) for x in blocks], dim=1)

    bound, _ = likelihood.importance_weighted(draw, int(settings["k"]), chunk=SAMPLES)
    value = bound.summary()
    return MetricValue(-value.value, value.se, value.n, value.details)


@metric(
    "step_speedup",
    "Trainable VariationalBound Classifier",
    "times",
    "higher",
    "time of a step that sums over the classes, in steps of the estimator's",
    settings={"rows": 100, "steps": 20},
    lowest={"rows": 1, "steps": 1},
)
def step_speedup(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """How many times as fast a loss and its gradient are with the model's estimator as with `Enumerate` in its place.

    Both are timed in turn on the same `rows` training rows, without labels, `steps` times after three that do not
    count; the value is the ratio of the medians, so other work on the machine weighs on both.

    Raises:
        UserError: the model's class is not sampled by an estimator.
    """
    if not isinstance(model, ClassVAE):
        raise UserError(f"{type(model).__name__} samples no class", where="step_speedup", fix="measure class-vae")
    summed = deepcopy(model)
    summed.estimator = Enumerate(view.x[0].numel())
    batch = Batch(view.train.x[: int(settings["rows"])], len(view.train))
    seconds: tuple[list[float], list[float]] = ([], [])
    for i in range(WARM_UP + int(settings["steps"])):
        for candidate, times in zip((model, summed), seconds):
            _wait(batch.x.device)
            start = time.perf_counter()
            with torch.enable_grad():
                candidate.loss(batch, generator)["loss"].backward()
            _wait(batch.x.device)
            if i >= WARM_UP:
                times.append(1e3 * (time.perf_counter() - start))
            candidate.zero_grad()
    sampled_ms, summed_ms = (float(np.median(times)) for times in seconds)
    details = {"sampled_ms": sampled_ms, "summed_ms": summed_ms}
    return MetricValue(summed_ms / sampled_ms, None, int(settings["steps"]), details)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
