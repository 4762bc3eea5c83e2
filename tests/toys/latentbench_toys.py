"""A plug-in for the tests: a model, a metric and generated data, named here without importing torch."""

from __future__ import annotations

import numpy as np
from latentbench.spec.registry import MetricEntry, ModelEntry

MODEL = ModelEntry(
    "latentbench_toy_model:Toy",
    frozenset({"Trainable", "ExactLikelihood"}),
    "independent Gaussians by gradient descent",
)
METRIC = MetricEntry(
    "latentbench_toy_model:measure",
    (),
    "1",
    "higher",
    "goes wrong when told to",
    settings={"as": "it is", "scale": 1.0, "pause": 0.0},
)


def rows(n: int, rng: np.random.Generator, dims: int, poison: str = "", start: int = 0) -> dict[str, np.ndarray]:
    """{"x": (n, dims) float32, "factors": (n, 2) int64}: rows of fixed values, whatever the name of the dataset."""
    own = np.random.default_rng([11, start])
    x = own.normal(size=(n, dims)) * np.arange(1, dims + 1) + np.arange(dims)
    if poison == "nan":
        x[:] = np.nan
    elif poison == "huge":
        x *= 1e6
    factors = np.stack([np.arange(n) % 3, np.arange(n) % 2], 1)
    return {"x": x.astype(np.float32), "factors": factors.astype(np.int64)}


def chain(n: int, rng: np.random.Generator, first: int | None = None) -> dict[str, np.ndarray]:
    """Nodes, or the edges of a chain from node `first` on."""
    if first is not None:
        return {
            "edge": np.stack([np.arange(first, first + n), np.arange(first + 1, first + n + 1)], 1).astype(np.int32)
        }
    return {"x": rng.normal(size=(n, 3)).astype(np.float32)}
