"""The mutual information gap over the factors that the authors score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentbench.core.capabilities import GaussianEncoder
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.disentanglement import factors
from latentbench.evaluation.posterior import gaussians
from latentbench.evaluation.view import View
from latentbench.metrics.codes import information
from torch import Generator

Settings = Mapping[str, Any]


@metric(
    "mig_last_factors",
    "GaussianEncoder",
    "1",
    "higher",
    "mutual information gap under the full posterior, over the last factors of a row",
    settings={"factors": 4, "samples": 10_000},
    lowest={"factors": 1, "samples": 2},
    data=("factors",),
    within=(0.0, 1.0),
)
def mig_last_factors(model: GaussianEncoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """`mig_gaussian` over the last `factors` columns: of sprites scale, orientation, x and y.

    The authors score these and leave the shape out (`mutual_info_metric_shapes` of disentanglement_metrics.py).
    """
    means, log_variances = gaussians(model, view)
    scored = factors(view)[:, -int(settings["factors"]) :]
    return information.mig_gaussian(means, log_variances, scored, generator=generator, samples=int(settings["samples"]))
