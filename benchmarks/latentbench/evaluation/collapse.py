"""Whether a variational posterior has fallen onto the prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Generator

from latentbench.core.capabilities import GaussianEncoder
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.posterior import gaussians
from latentbench.evaluation.view import View
from latentbench.metrics import posterior

Settings = Mapping[str, Any]


@metric(
    "posterior_collapse",
    "GaussianEncoder StandardNormalPrior",
    "share",
    "lower",
    "share of code dimensions whose posterior is the prior's for all but a few rows",
    settings={"epsilon": 0.01, "delta": 0.01},
    lowest={"epsilon": 0.0, "delta": 0.0},
    within=(0.0, 1.0),
)
def posterior_collapse(model: GaussianEncoder, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Share of code dimensions that are (epsilon, delta)-collapsed (Lucas et al. 2019); all of them is an outcome."""
    means, log_variances = gaussians(model, view)
    found = posterior.posterior_collapse(
        means.cpu(), log_variances.cpu(), float(settings["epsilon"]), float(settings["delta"])
    )
    collapsed = {"outcomes": ("posterior-collapse",)} if found.value == 1 else {}
    return MetricValue(found.value, found.se, found.n, {**found.details, **collapsed})
