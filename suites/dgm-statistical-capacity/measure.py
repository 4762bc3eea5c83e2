"""How heavy the tail of samples is, beside that of data whose extreme quantiles are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from latentbench.core.capabilities import Sampler
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.space import samples, stored
from latentbench.evaluation.view import View
from torch import Generator

from .heavy import StudentClusters

Settings = Mapping[str, Any]


def hill(sizes: np.ndarray, top: int) -> float:
    """Hill's (1975) tail index of the `top` largest of positive numbers (N,): the inverse mean of their log excess."""
    largest = np.sort(sizes)[-top - 1 :]
    return float(1.0 / np.log(largest[1:] / largest[0]).mean())


@metric(
    "tail_index",
    "Sampler",
    "1",
    "lower",
    "Hill's index of the first coordinate of samples; its part `law` is that of as many draws of the data's law",
    settings={"samples": 100_000, "share": 0.002},
    lowest={"samples": 1000, "share": 1e-6},
    data=("oracle",),
    within=(0.0, None),
)
def tail_index(model: Sampler, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Of the `share` of samples with the largest first coordinate; the lower, the heavier the tail."""
    drawn, law = _sizes(model, view, settings, generator)
    top = max(2, round(float(settings["share"]) * len(drawn)))
    index = hill(drawn, top)
    return MetricValue(index, index / math.sqrt(top), len(drawn), {"law": hill(law, top)})


@metric(
    "extreme_quantile_error",
    "Sampler",
    "1",
    "lower",
    "distance in logs of an extreme quantile of samples from the law's; its part `floor` is that of draws of the law",
    settings={"samples": 100_000, "level": 5e-4},
    lowest={"samples": 1000, "level": 1e-9},
    data=("oracle",),
    within=(0.0, None),
)
def extreme_quantile_error(model: Sampler, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """|log q - log q*|, where the size of the first coordinate exceeds q* with probability `level`, exactly."""
    drawn, law = _sizes(model, view, settings, generator)
    level = float(settings["level"])
    if level * len(drawn) < 5:
        raise UserError(f"{level:g} of {len(drawn)} samples are too few", where="level", fix="more samples")
    exact = _law(view).exceedance(level)
    found, floor = (abs(math.log(np.quantile(x, 1.0 - level) / exact)) for x in (drawn, law))
    ratio = float(np.quantile(drawn, 1.0 - level) / exact)
    return MetricValue(found, None, len(drawn), {"floor": floor, "ratio": ratio})


def _law(view: View) -> StudentClusters:
    if not isinstance(view.oracle, StudentClusters):
        raise UserError("this metric knows the tails of `student-clusters` alone", fix="limit it with `datasets:`")
    return view.oracle


def _sizes(model: Sampler, view: View, settings: Settings, generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    """(N,) sizes of the first coordinate of samples as stored, and of as many draws of the law."""
    law, n = _law(view), int(settings["samples"])
    drawn = stored(view, samples(model, n, generator))[:, 0].abs().double().numpy()
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    return drawn, np.abs(law.draw(n, np.random.default_rng(seed))[:, 0])
