"""Names that a suite may use for models and metrics, with what is known of them before anything is imported.

One line each, in tables by family. Nothing here imports torch, so `list`, `show` and `validate` answer at once; tests
hold every line against the class or function that it names. Third parties add theirs through the entry-point groups
``latentbench.models`` and ``latentbench.metrics``, whose objects are `ModelEntry` or `MetricEntry`.
"""

from benchmarks.spec.registry.constructors import parameters
from benchmarks.spec.registry.entries import Better, Likelihood, MetricEntry, ModelEntry
from benchmarks.spec.registry.lookup import METRICS, MODELS, add_folder, find_metric, find_model, metrics, models

__all__ = [
    "METRICS",
    "MODELS",
    "Better",
    "Likelihood",
    "MetricEntry",
    "ModelEntry",
    "add_folder",
    "find_metric",
    "find_model",
    "metrics",
    "models",
    "parameters",
]
