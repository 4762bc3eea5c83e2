"""Gradient estimators of a trained model against the gradient that they estimate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentbench.core.capabilities import EstimatedGradient, ExpectedCost
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics import gradients
from torch import Generator

Settings = Mapping[str, Any]


@metric(
    "gradient_cosine",
    "EstimatedGradient",
    "1",
    "higher",
    "cosine between the mean of gradient estimates and the exact gradient",
    settings={"rows": 10, "draws": 1024},
    lowest={"rows": 1, "draws": 2},
    within=(-1.0, 1.0),
)
def gradient_cosine(model: EstimatedGradient, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Cosine between the mean of `draws` estimates and the exact gradient, over the first `rows` rows together."""
    x = view.x[: int(settings["rows"])]
    estimates = model.gradient_estimates(x, int(settings["draws"]), generator)
    return gradients.cosine(estimates, model.exact_gradient(x))


@metric(
    "gradient_bias",
    "EstimatedGradient",
    "1",
    "lower",
    "length of the bias of gradient estimates relative to the exact gradient, sampling noise taken off",
    settings={"rows": 10, "draws": 1024},
    lowest={"rows": 1, "draws": 2},
    within=(0.0, None),
)
def gradient_bias(model: EstimatedGradient, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Relative bias of the estimates over the first `rows` rows together, from `draws` of them."""
    x = view.x[: int(settings["rows"])]
    estimates = model.gradient_estimates(x, int(settings["draws"]), generator)
    return gradients.relative_bias(estimates, model.exact_gradient(x))


@metric(
    "expected_cost",
    "ExpectedCost",
    "1",
    "lower",
    "exact objective of an optimisation without data",
)
def expected_cost(
    model: ExpectedCost,
    view: View,
    settings: Settings,
    generator: Generator,
) -> MetricValue:
    """The exact objective where training ended."""
    return MetricValue(float(model.expected_cost()))
