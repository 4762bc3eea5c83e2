"""Names that a suite may use for models and metrics, with what is known of them before anything is imported.

One line each, in tables by family (`latentbench.spec.tables`). Nothing here imports torch, so `list`, `show` and
`validate` answer at once; tests hold every line against the class or function that it names. Third parties add theirs
through the entry-point groups ``latentbench.models`` and ``latentbench.metrics``, whose objects are `ModelEntry` or
`MetricEntry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

from latentbench.core import plugins
from latentbench.core.errors import UserError, did_you_mean
from latentbench.spec.tables import (
    metrics_codes,
    metrics_likelihoods,
    metrics_samples,
    metrics_tasks,
    models_densities,
    models_flows,
    models_latent,
    models_stepwise,
)
from latentbench.spec.tables.constructors import parameters
from latentbench.spec.tables.entries import Better, Likelihood, MetricEntry, ModelEntry

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

MODELS: dict[str, ModelEntry] = {
    **models_latent.MODELS,
    **models_flows.MODELS,
    **models_densities.MODELS,
    **models_stepwise.MODELS,
}
METRICS: dict[str, MetricEntry] = {
    **metrics_likelihoods.METRICS,
    **metrics_codes.METRICS,
    **metrics_samples.METRICS,
    **metrics_tasks.METRICS,
}

E_ = TypeVar("E_", ModelEntry, MetricEntry)


@cache
def models() -> dict[str, ModelEntry]:
    """All models: ours, those of installed plug-ins and those in the folders that the user names."""
    return {**_plugins("latentbench.models", ModelEntry), **_folders("MODELS", ModelEntry), **MODELS}


@cache
def metrics() -> dict[str, MetricEntry]:
    """All metrics: ours, those of installed plug-ins and those in the folders that the user names."""
    return {**_plugins("latentbench.metrics", MetricEntry), **_folders("METRICS", MetricEntry), **METRICS}


def add_folder(folder: Path) -> None:
    """Know the models and metrics of one more plug-in folder, in this process and those that it starts."""
    plugins.add_folder(folder)
    models.cache_clear()
    metrics.cache_clear()


def _plugins(group: str, kind: type[E_]) -> dict[str, E_]:
    from importlib.metadata import entry_points

    found: dict[str, E_] = {}
    for point in entry_points(group=group):
        entry = point.load()
        if not isinstance(entry, kind):
            raise UserError(
                f"plug-in {point.name!r} of group {group!r} is no {kind.__name__}",
                where=point.value,
                fix=f"point it at a latentbench.spec.registry.{kind.__name__}",
            )
        found[point.name] = entry
    return found


def _folders(table: str, kind: type[E_]) -> dict[str, E_]:
    found: dict[str, E_] = {}
    for module in plugins.modules():
        for name, entry in dict(getattr(module, table, {})).items():
            if not isinstance(entry, kind):
                raise UserError(
                    f"{table}[{name!r}] is no {kind.__name__}",
                    where=str(module.__file__),
                    fix=f"make it a latentbench.spec.registry.{kind.__name__}",
                )
            if name in (MODELS if kind is ModelEntry else METRICS):
                raise UserError(
                    f"{table}[{name!r}] has the name of one of latentbench's own",
                    where=str(module.__file__),
                    fix="choose another name",
                )
            found[str(name)] = entry
    return found


def find_model(name: str) -> ModelEntry:
    return _find(name, models(), "model")


def find_metric(name: str) -> MetricEntry:
    return _find(name, metrics(), "metric")


def _find(name: str, table: Mapping[str, E_], what: str) -> E_:
    if name not in table:
        raise UserError(f"unknown {what} {name!r}", fix=did_you_mean(name, table))
    return table[name]
