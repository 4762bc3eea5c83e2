"""What a trained model's codes do over the evaluation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from latentbench.core.capabilities import Encoder, GaussianEncoder
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics import posterior

Settings = Mapping[str, Any]
BLOCK = 512


@metric(
    "active_units",
    "Encoder",
    "units",
    "higher",
    "code dimensions whose posterior mean varies over the data",
    settings={"threshold": 0.01},
    lowest={"threshold": 0.0},
    counts=True,
    within=(0.0, None),
)
def active_units(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Code dimensions whose posterior mean varies over the data by more than `threshold` (Burda et al. 2016)."""
    found = posterior.active_units(codes(model, view), settings["threshold"])
    collapsed = {"outcomes": ("posterior-collapse",)} if found.value == 0 else {}
    return MetricValue(found.value, found.se, found.n, {**found.details, **collapsed})


@metric(
    "total_correlation",
    "GaussianEncoder",
    "nats",
    "lower",
    "total correlation of the aggregate posterior; `saturated` where the rate nears the log of the number of rows",
    settings={"samples": 10_000},
    lowest={"samples": 2},
    version=2,
    collapse_helps=True,
)
def total_correlation(model: GaussianEncoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Total correlation of the aggregate posterior over the split, nats (Chen et al. 2018, eq. 2).

    Overrated where posteriors hardly overlap: see `_with_saturation`.
    """
    parts = _aggregate(model, view, settings, generator)
    return _with_saturation(parts.total_correlation, parts)


@metric(
    "mutual_information",
    "GaussianEncoder",
    "nats",
    "higher",
    "mutual information of datum and code under the aggregate posterior; `saturated` as total_correlation is",
    settings={"samples": 10_000},
    lowest={"samples": 2},
    version=2,
)
def mutual_information(model: GaussianEncoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Mutual information of datum and code under the aggregate posterior of the split, nats; at most log N.

    Underrated where posteriors hardly overlap: see `_with_saturation`.
    """
    parts = _aggregate(model, view, settings, generator)
    return _with_saturation(parts.mutual_information, parts)


def _aggregate(
    model: GaussianEncoder, view: View, settings: Settings, generator: Generator
) -> posterior.AggregatePosterior:
    means, log_variances = gaussians(model, view)
    return posterior.aggregate_posterior(
        means, log_variances, generator=generator, samples=int(settings["samples"]), estimator="mixture"
    )


def _with_saturation(value: MetricValue, parts: posterior.AggregatePosterior) -> MetricValue:
    """Details `mutual_information`, `log_n`, `own_share` and `saturated`; saturation is an outcome of the run, too.

    A code's own posterior has a share of 1/N … 1 in the mixture at that code. Where the mean share is above
    `posterior.SATURATED`, the split is too small for so high a rate and the number is not the population's.
    """
    details = {
        **value.details,
        "mutual_information": parts.mutual_information.value,
        "log_n": parts.log_n,
        "own_share": parts.own_share,
        "saturated": parts.saturated,
        **({"outcomes": ("saturated",)} if parts.saturated else {}),
    }
    return MetricValue(value.value, value.se, value.n, details)


def codes(model: Encoder, view: View) -> Tensor:
    """(N, D) posterior means."""
    return torch.cat([model.encode(view.x[rows]) for rows in view.blocks(BLOCK)]).cpu()


def gaussians(model: GaussianEncoder, view: View) -> tuple[Tensor, Tensor]:
    """(N, D) means and log-variances."""
    pairs = [model.encode_gaussian(view.x[rows]) for rows in view.blocks(BLOCK)]
    return torch.cat([m for m, _ in pairs]), torch.cat([v for _, v in pairs])
