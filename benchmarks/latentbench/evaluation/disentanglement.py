"""How a trained model's codes relate to the ground-truth factors of the evaluation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Generator

from latentbench.core.capabilities import Encoder, GaussianEncoder
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.posterior import codes, gaussians
from latentbench.evaluation.view import View
from latentbench.metrics.codes import information

Settings = Mapping[str, Any]


@metric(
    "mig",
    "Encoder",
    "1",
    "higher",
    "mutual information gap of posterior means (disentanglement_lib's bins)",
    settings={"bins": 20},
    lowest={"bins": 2},
    data=("factors",),
    within=(0.0, 1.0),
)
def mig(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Mutual information gap of posterior means, `bins` equal-width bins (disentanglement_lib's convention)."""
    return MetricValue(information.mig(codes(model, view), factors(view), bins=int(settings["bins"])), None, len(view))


@metric(
    "mig_gaussian",
    "GaussianEncoder",
    "1",
    "higher",
    "mutual information gap under the full posterior (Chen et al. 2018)",
    settings={"samples": 10_000},
    lowest={"samples": 2},
    data=("factors",),
    within=(0.0, 1.0),
)
def mig_gaussian(model: GaussianEncoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Mutual information gap under the full posterior q(z|x), entropies from `samples` draws (Chen et al. 2018)."""
    means, log_variances = gaussians(model, view)
    return information.mig_gaussian(
        means, log_variances, factors(view), generator=generator, samples=int(settings["samples"])
    )


def factors(view: View) -> Any:
    """(N, K) integers.

    Raises:
        UserError: the dataset has no ground-truth factors.
    """
    if "factors" not in view.columns:
        raise UserError("this metric needs ground-truth factors", fix="use a dataset with a column `factors`")
    return view.columns["factors"][:]
