"""The objective that is minimised, as a number: on grey values it bounds no likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from latentbench.core.capabilities import VariationalBound
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics import likelihood
from torch import Generator

Settings = Mapping[str, Any]


@metric(
    "cross_entropy_bound",
    "VariationalBound",
    "nats",
    "lower",
    "rate plus cross-entropy with grey values: a training objective, no likelihood",
    settings={"split": "test", "samples": 1, "rows": 10_000},
    lowest={"samples": 1, "rows": 1},
)
def cross_entropy_bound(model: VariationalBound, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Mean of rate + distortion over the first `rows` rows of a split, nats: the objective that is minimised.

    On grey values the distortion is a cross-entropy, and the number bounds no log-likelihood.
    """
    if settings["split"] not in ("train", "test"):
        raise UserError(f"split is {settings['split']!r}", where="cross_entropy_bound", fix="train or test")
    chosen = view.train if settings["split"] == "train" else view
    x = chosen.x[: int(settings["rows"])]
    rates, distortions = [], []
    for rows in x.split(500):
        draws = [model.elbo(rows, generator) for _ in range(int(settings["samples"]))]
        rates.append(torch.stack([d.rate for d in draws]).mean(0))
        distortions.append(torch.stack([d.distortion for d in draws]).mean(0))
    value = likelihood.elbo(torch.cat(rates), torch.cat(distortions))
    return MetricValue(-value.value, value.se, value.n, value.details)
