"""SAP as the paper defines it for ordered factors, and how far the means of codes are from uncorrelated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from latentbench.core.capabilities import Encoder
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.disentanglement import factors
from latentbench.evaluation.posterior import codes
from latentbench.evaluation.view import View
from latentbench.metrics import disentanglement
from latentbench.metrics.codes.prediction import squared_correlations
from torch import Generator

Settings = Mapping[str, Any]


@metric(
    "sap_ordered",
    "Encoder",
    "1",
    "higher",
    "separated attribute predictability by squared correlation, over the last factors of a row",
    settings={"factors": 4, "active": 0.01},
    lowest={"factors": 1, "active": 0.0},
    data=("factors",),
    within=(0.0, 1.0),
)
def sap_ordered(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Mean over factors of the gap between the two greatest R^2 of a linear regression on one mean (section 3).

    The last `factors` columns are scored, of sprites scale, orientation, x and y. Means whose variance is no more than
    `active` count 0. Detail `best` is the mean of the greatest R^2.
    """
    means = codes(model, view).numpy().astype(np.float64)
    means[:, means.var(0) <= settings["active"]] = 0.0
    scored = np.asarray(factors(view))[:, -int(settings["factors"]) :].astype(np.float64)
    details = {"best": float(squared_correlations(means, scored).max(0).mean())}
    return MetricValue(disentanglement.sap(means, scored, continuous=True), None, len(means), details)


@metric(
    "mean_correlation",
    "Encoder",
    "1",
    "lower",
    "root mean squared correlation between posterior means that vary",
    settings={"active": 0.01},
    lowest={"active": 0.0},
    within=(0.0, 1.0),
    collapse_helps=True,
)
def mean_correlation(model: Encoder, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Cov_p(x)[mu(x)] off its diagonal in units of standard deviations, so that codes of few dimensions compare with
    those of many: over pairs of the `active` (a detail) whose variance is above that; 0 without a pair.
    """
    means = codes(model, view).numpy().astype(np.float64)
    kept = means[:, means.var(0) > settings["active"]]
    d = kept.shape[1]
    squares = squared_correlations(kept, kept) if d > 1 else np.zeros((2, 2))
    np.fill_diagonal(squares, 0.0)
    return MetricValue(float((squares.sum() / max(d * (d - 1), 1)) ** 0.5), None, len(means), {"active": d})
