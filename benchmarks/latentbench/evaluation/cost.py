"""What a model costs, measured on the machine at hand."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator

from latentbench.core.types import Batch, MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View

WARM_UP = 3


@metric(
    "step_ms",
    "Trainable",
    "ms",
    "lower",
    "median time of a loss and its gradient: depends on the machine, for comparison within one run of a suite",
    settings={"rows": 100, "steps": 20},
    lowest={"rows": 1, "steps": 1},
    within=(0.0, None),
)
def step_ms(model: Any, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Median milliseconds of a loss and its gradient on a batch of `rows` training rows, over `steps` repetitions.

    The optimiser's update is left out. Repetitions that other work on the machine slows down move the median little.
    """
    x = view.train.x[: int(settings["rows"])]
    batch = Batch(x, len(view.train), columns={})
    seconds = []
    for i in range(WARM_UP + int(settings["steps"])):
        _wait(x.device)
        start = time.perf_counter()
        with torch.enable_grad():
            model.loss(batch, generator)["loss"].backward()
        _wait(x.device)
        if i >= WARM_UP:
            seconds.append(time.perf_counter() - start)
        if isinstance(model, torch.nn.Module):
            model.zero_grad()
    ms = 1e3 * np.asarray(seconds)
    return MetricValue(float(np.median(ms)), None, len(ms), {"least": float(ms.min()), "rows": len(x)})


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
