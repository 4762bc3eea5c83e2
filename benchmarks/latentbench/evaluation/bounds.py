"""Variational bounds that come in parts and have no importance-weighted form: those of diffusion models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from latentbench.core.capabilities import BoundTerms
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics import likelihood

#: Rows that are drawn together, and between which times are spread: part of a seed's meaning.
ROWS = 100

Settings = Mapping[str, Any]


@metric(
    "nll_elbo",
    "BoundTerms",
    "nats",
    "lower",
    "upper bound on the negative log-likelihood of a diffusion model, with its parts",
    likelihood="elbo",
    settings={"samples": 1},
    lowest={"samples": 1},
)
def nll_elbo(model: BoundTerms, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Upper bound on the negative log-likelihood of the raw data, nats a sample, a mean of `samples` draws a row."""
    bound, parts = _mean_draw(model, view, settings, generator)
    value = likelihood.log_likelihood(-bound, view.log_abs_det)
    return MetricValue(-value.value, value.se, value.n, parts)


@metric(
    "bits_per_dim_elbo",
    "BoundTerms",
    "bits/dim",
    "lower",
    "upper bound of a diffusion model, with the preprocessing's Jacobian",
    likelihood="elbo",
    settings={"samples": 1},
    lowest={"samples": 1},
)
def bits_per_dim_elbo(model: BoundTerms, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Upper bound, bits a dimension; its parts, in nats a sample, are details."""
    bound, parts = _mean_draw(model, view, settings, generator)
    value = likelihood.bits_per_dim(-bound, view.dims, view.log_abs_det)
    return MetricValue(value.value, value.se, value.n, parts)


@metric(
    "bound_spread",
    "BoundTerms",
    "bits/dim",
    "lower",
    "standard deviation of a one-draw estimate of a row's bound",
    settings={"samples": 8},
    lowest={"samples": 2},
    within=(0.0, None),
)
def bound_spread(model: BoundTerms, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Standard deviation of a one-draw estimate of a row's bound, bits a dimension: root mean variance over rows.

    Times of draws of one row are independent, as each draw of a block spreads them anew.
    """
    variances = []
    for rows in view.blocks(ROWS):
        draws = [_sum(model.bound_terms(view.x[rows], generator)) for _ in range(int(settings["samples"]))]
        variances.append(torch.stack(draws).double().var(0))
    variance = torch.cat(variances)
    scale = 1.0 / (view.dims * likelihood.LN2)
    root = float(variance.mean().sqrt())
    # delta method: d sqrt(v) = dv / (2 sqrt(v))
    se = float(variance.std() / len(variance) ** 0.5 / (2 * root)) * scale if len(variance) > 1 and root > 0 else None
    return MetricValue(root * scale, se, len(view), {"draws": int(settings["samples"])})


def _mean_draw(
    model: BoundTerms, view: View, settings: Settings, generator: Generator
) -> tuple[Tensor, dict[str, float]]:
    """The bound of each row (N,) nats and the mean of each part, averaged over draws."""
    samples = int(settings["samples"])
    parts: dict[str, list[Tensor]] = {}
    for rows in view.blocks(ROWS):
        draws = [model.bound_terms(view.x[rows], generator) for _ in range(samples)]
        for name in draws[0]:
            parts.setdefault(name, []).append(torch.stack([draw[name] for draw in draws]).double().mean(0))
    whole = {name: torch.cat(blocks) for name, blocks in parts.items()}
    return _sum(whole), {name: float(part.mean()) for name, part in whole.items()}


def _sum(parts: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum(0)
