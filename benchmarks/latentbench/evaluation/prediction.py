"""Predictions: labels of images, and what follows a series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator

from latentbench.core.capabilities import Classifier, Forecaster
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics import prediction

#: Rows that are predicted together.
ROWS = 500

Settings = Mapping[str, Any]


@metric(
    "classification_error",
    "Classifier",
    "%",
    "lower",
    "test rows that are given a wrong label",
    data=("labels",),
    within=(0.0, 100.0),
)
def classification_error(
    model: Classifier,
    view: View,
    settings: Settings,  # noqa: ARG001
    generator: Generator,  # noqa: ARG001
) -> MetricValue:
    """Share of test rows whose likeliest label is not column ``y``, per cent."""
    found = torch.cat([model.classify(view.x[rows]).argmax(-1) for rows in view.blocks(ROWS)])
    right = prediction.accuracy(found.cpu().numpy(), view.columns["y"][:])
    return MetricValue(100 * (1 - right.value), None if right.se is None else 100 * right.se, right.n)


@metric(
    "forecast_rmse",
    "Forecaster",
    "raw",
    "lower",
    "root mean square error of a series' continuation",
    within=(0.0, None),
)
def forecast_rmse(
    model: Forecaster,
    view: View,
    settings: Settings,  # noqa: ARG001
    generator: Generator,  # noqa: ARG001
) -> MetricValue:
    """Root mean square error of the predicted continuation against column ``future``, over steps and coordinates."""
    if "future" not in view.columns:
        raise UserError("forecast_rmse needs the column `future`", fix="choose series whose continuation is known")
    future = view.columns["future"][:]
    columns = {k: torch.from_numpy(v[:].copy()).to(view.device) for k, v in view.columns.items() if k != "future"}
    found = [
        model.forecast(view.x[rows], {k: v[rows] for k, v in columns.items()}, future.shape[1])
        for rows in view.blocks(ROWS)
    ]
    errors = torch.cat(found).double().cpu().numpy() - future
    each = np.sqrt((errors**2).mean((1, 2)))  # of a series: those are independent of each other, its steps are not
    return prediction.rmse(each, np.zeros_like(each))
