"""How far the codes of the whole evaluation split, taken together, are from the prior; and what a code costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from latentbench.core.capabilities import Encoder, VariationalBound
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.likelihood import ROWS
from latentbench.evaluation.view import View
from latentbench.metrics.arrays import mean_and_se
from latentbench.metrics.fidelity.kernels import mmd

Settings = Mapping[str, Any]


@metric(
    "aggregate_mmd",
    "Encoder StandardNormalPrior",
    "squared MMD",
    "lower",
    "Gaussian-kernel distance of posterior draws over the split from the standard normal prior",
    settings={"bandwidth": 0.0},
    lowest={"bandwidth": 0.0},
    collapse_helps=True,
)
def aggregate_mmd(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Unbiased squared MMD between one posterior draw a row and as many standard normal ones, Gaussian kernel.

    `bandwidth` is the kernel's sigma; 0 takes D / sqrt 2 for codes of D dimensions, the width at which MMD-VAE trains.
    """
    z = _draws(model, view, generator)
    prior = torch.randn(z.shape, generator=generator, device=z.device)
    width = float(settings["bandwidth"]) or z.shape[1] / 2**0.5
    return mmd(prior.cpu().numpy(), z.cpu().numpy(), bandwidth=width)


@metric(
    "aggregate_log_det",
    "Encoder StandardNormalPrior",
    "nats",
    "lower",
    "absolute log-determinant of the covariance of posterior draws over the split, 0 for the prior",
    within=(0.0, None),
    collapse_helps=True,
)
def aggregate_log_det(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """|log det of the covariance of one posterior draw a row|, nats; 0 for the standard normal prior.

    Zhao et al. 2017, section 5, plot it with its sign, which `details` has as ``log_det``.
    """
    z = _draws(model, view, generator).double()
    log_det = float(torch.linalg.slogdet(torch.atleast_2d(torch.cov(z.T)))[1])
    return MetricValue(abs(log_det), None, len(z), {"log_det": log_det})


@metric(
    "rate",
    "VariationalBound",
    "nats",
    "higher",
    "KL of posterior and prior: what codes hold",
    within=(0.0, None),
)
def rate(model: VariationalBound, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Mean KL(q(z|x) || p(z)), nats a sample: what the code of a row costs, 0 where the code is not used."""
    rates = [model.elbo(view.x[rows], generator).rate for rows in view.blocks(ROWS)]
    value, se = mean_and_se(torch.cat(rates).cpu().numpy())
    return MetricValue(value, se, len(view))


def _draws(model: Encoder, view: View, generator: Generator) -> Tensor:
    """(N, D): one posterior draw a row."""
    return torch.cat([model.encode_sample(view.x[rows], generator) for rows in view.blocks(ROWS)])
