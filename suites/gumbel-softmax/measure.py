"""Bounds of predictions of a part from the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from latentbench.core.capabilities import ConditionalBound
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.likelihood import ROWS, SAMPLES
from latentbench.evaluation.view import View
from latentbench.metrics import likelihood
from torch import Generator, Tensor

Settings = Mapping[str, Any]


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
