"""Marginals of any subset: how well, and how fast."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from latentbench.core.capabilities import KnownTarget, Marginals
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from scipy import stats
from torch import Generator, Tensor

Settings = Mapping[str, Any]


def subset(n: int, dims: int, share: float, generator: Generator, device: torch.device) -> Tensor:
    """One random subset of round(share * dims) variables, the same for n rows: (n, dims) of zeros and ones."""
    place = torch.rand((dims,), generator=generator, device=device).argsort()
    mask = torch.zeros(dims, device=device)
    mask[place[: max(1, round(share * dims))]] = 1.0
    return mask.expand(n, -1)


@metric(
    "marginal_correlation",
    "Marginals",
    "1",
    "higher",
    "Spearman's correlation of log-marginals with those of an ensemble of conditional chains",
    settings={"rows": 100, "subsets": 5, "orders": 5},
    lowest={"rows": 3, "subsets": 1, "orders": 1},
    within=(-1.0, 1.0),
)
def marginal_correlation(model: Marginals, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Spearman's correlation over test rows of log p(x_s) with the mean of `orders` chains of conditionals.

    For `subsets` random subsets s of half of the variables; the mean over them.
    """
    x = view.x[: int(settings["rows"])]
    found = []
    for _ in range(int(settings["subsets"])):
        observed = subset(len(x), view.dims, 0.5, generator, x.device)
        reference = model.log_marginal_ensemble(x, observed, int(settings["orders"]), generator)
        found.append(stats.spearmanr(model.log_marginal(x, observed).cpu(), reference.cpu()).statistic)
    return MetricValue(float(np.mean(found)), None, len(x), {"least": float(np.min(found))})


@metric(
    "marginal_ms",
    "Marginals",
    "ms",
    "lower",
    "median time of a batch of marginals: depends on the machine, for comparison within one run of a suite",
    settings={"rows": 16, "repeats": 5},
    lowest={"rows": 1, "repeats": 1},
    within=(0.0, None),
)
def marginal_ms(model: Marginals, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Median milliseconds for the marginals of `rows` rows, half of the variables observed, over `repeats`."""
    x = view.x[: int(settings["rows"])]
    observed = subset(len(x), view.dims, 0.5, generator, x.device)
    seconds = []
    for _ in range(1 + int(settings["repeats"])):
        start = time.perf_counter()
        model.log_marginal(x, observed).sum().item()  # `item` waits for the device
        seconds.append(time.perf_counter() - start)
    ms = 1e3 * np.asarray(seconds[1:])
    return MetricValue(float(np.median(ms)), None, len(ms), {"least": float(ms.min()), "rows": len(x)})


@metric(
    "kl_to_target",
    "KnownTarget",
    "nats",
    "lower",
    "KL divergence to a known distribution, all states",
    within=(0.0, None),
)
def kl_to_target(model: KnownTarget, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """KL(model || target), nats, summed over all states."""
    states, log_target = model.target()
    log_p = torch.cat([model.log_model(s) for s in states.split(4096)]).double()
    return MetricValue(float((log_p.exp() * (log_p - log_target)).sum()), None, len(states))


@metric(
    "marginal_error",
    "KnownTarget",
    "nats",
    "lower",
    "mean absolute error of log-marginals of random subsets against the exact ones",
    settings={"subsets": 200},
    lowest={"subsets": 2},
    within=(0.0, None),
)
def marginal_error(model: KnownTarget, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Mean |log p(x_s) - log p*(x_s)|, nats, over subsets of random sizes, with x drawn from the target."""
    states, log_target = model.target()
    probability, errors = log_target.exp(), []
    for _ in range(int(settings["subsets"])):
        share = float(torch.rand((), generator=generator, device=states.device))
        observed = subset(1, states.shape[1], share, generator, states.device)
        x = states[torch.multinomial(probability, 1, generator=generator)]
        agrees = ((states == x) | (observed == 0)).all(-1)
        errors.append(float((model.log_marginal(x, observed) - log_target[agrees].logsumexp(0)).abs()))
    value = np.asarray(errors)
    return MetricValue(float(value.mean()), float(value.std(ddof=1) / np.sqrt(len(value))), len(value))
