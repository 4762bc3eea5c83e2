"""What a trained model's codes do over the evaluation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from benchmarks.core.capabilities import Encoder, GaussianEncoder
from benchmarks.core.types import MetricValue
from benchmarks.evaluation.view import View
from benchmarks.metrics import posterior

Settings = Mapping[str, Any]
BLOCK = 512


def active_units(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Code dimensions whose posterior mean varies over the data by more than `threshold` (Burda et al. 2016)."""
    found = posterior.active_units(codes(model, view), settings["threshold"])
    collapsed = {"outcomes": ("posterior-collapse",)} if found.value == 0 else {}
    return MetricValue(found.value, found.se, found.n, {**found.details, **collapsed})


def total_correlation(model: GaussianEncoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Total correlation of the aggregate posterior over the split, nats (Chen et al. 2018, eq. 2)."""
    means, log_variances = gaussians(model, view)
    parts = posterior.aggregate_posterior(
        means, log_variances, generator=generator, samples=int(settings["samples"]), estimator="mixture"
    )
    return parts.total_correlation


def mutual_information(model: GaussianEncoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Mutual information of datum and code under the aggregate posterior of the split, nats; at most log N."""
    means, log_variances = gaussians(model, view)
    parts = posterior.aggregate_posterior(
        means, log_variances, generator=generator, samples=int(settings["samples"]), estimator="mixture"
    )
    return parts.mutual_information


def codes(model: Encoder, view: View) -> Tensor:
    """(N, D) posterior means."""
    return torch.cat([model.encode(view.x[rows]) for rows in view.blocks(BLOCK)]).cpu()


def gaussians(model: GaussianEncoder, view: View) -> tuple[Tensor, Tensor]:
    """(N, D) means and log-variances."""
    pairs = [model.encode_gaussian(view.x[rows]) for rows in view.blocks(BLOCK)]
    return torch.cat([m for m, _ in pairs]), torch.cat([v for _, v in pairs])
