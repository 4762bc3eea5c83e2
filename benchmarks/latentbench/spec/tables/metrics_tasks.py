"""Metrics of tasks, gradients and cost."""

from __future__ import annotations

from latentbench.spec.tables.entries import MetricEntry, metric

METRICS: dict[str, MetricEntry] = {
    "classification_error": metric(
        "prediction:classification_error",
        "Classifier",
        "%",
        "lower",
        "test rows that are given a wrong label",
        data=("labels",),
    ),
    "forecast_rmse": metric(
        "prediction:forecast_rmse", "Forecaster", "raw", "lower", "root mean square error of a series' continuation"
    ),
    "training_memory": metric(
        "footprint:training_memory",
        "Trainable",
        "MiB",
        "lower",
        "peak of what one step's gradients keep in memory, counted from the tensors that autograd saves",
        settings={"rows": 128},
        lowest={"rows": 1},
        counts=True,
    ),
    "parameters": metric("footprint:parameters", "Trainable", "million", "lower", "trainable parameters"),
    "gradient_cosine": metric(
        "gradients:gradient_cosine",
        "EstimatedGradient",
        "1",
        "higher",
        "cosine between the mean of gradient estimates and the exact gradient",
        settings={"rows": 10, "draws": 1024},
        lowest={"rows": 1, "draws": 2},
    ),
    "gradient_bias": metric(
        "gradients:gradient_bias",
        "EstimatedGradient",
        "1",
        "lower",
        "length of the bias of gradient estimates relative to the exact gradient, sampling noise taken off",
        settings={"rows": 10, "draws": 1024},
        lowest={"rows": 1, "draws": 2},
    ),
    "expected_cost": metric(
        "gradients:expected_cost", "ExpectedCost", "1", "lower", "exact objective of an optimisation without data"
    ),
    "step_ms": metric(
        "cost:step_ms",
        "Trainable",
        "ms",
        "lower",
        "median time of a loss and its gradient: depends on the machine, for comparison within one run of a suite",
        settings={"rows": 100, "steps": 20},
        lowest={"rows": 1, "steps": 1},
    ),
    "marginal_ms": metric(
        "subset_marginals:marginal_ms",
        "Marginals",
        "ms",
        "lower",
        "median time of a batch of marginals: depends on the machine, for comparison within one run of a suite",
        settings={"rows": 16, "repeats": 5},
        lowest={"rows": 1, "repeats": 1},
    ),
}
