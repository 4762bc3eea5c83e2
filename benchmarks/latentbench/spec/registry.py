"""Names that a suite may use for models and metrics, with what is known of them before anything is imported.

Each declares itself beside its class or function (`latentbench.declare`) and is found by reading sources, so `list`,
`show` and `validate` answer without torch. Third parties add theirs in plug-in folders, or through the entry-point
groups ``latentbench.models`` and ``latentbench.metrics``, whose objects are `ModelEntry` or `MetricEntry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

from latentbench.core import plugins
from latentbench.core.errors import UserError, did_you_mean
from latentbench.declare import Better, Example, Likelihood, MetricEntry, ModelEntry
from latentbench.discovery import finding
from latentbench.discovery.constructors import parameters, read_module
from latentbench.discovery.reading import Declared

__all__ = [
    "Better",
    "Example",
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

E_ = TypeVar("E_", ModelEntry, MetricEntry)


@cache
def models() -> dict[str, ModelEntry]:
    """All models: ours, papers', those of installed plug-ins and those in the folders that the user names."""
    declared = {name: _model(d) for name, d in finding.found("model").items()}
    return {**_plugins("latentbench.models", ModelEntry), **declared}


@cache
def metrics() -> dict[str, MetricEntry]:
    """All metrics: ours, papers', those of installed plug-ins and those in the folders that the user names."""
    declared = {name: _metric(d) for name, d in finding.found("metric").items()}
    return {**_plugins("latentbench.metrics", MetricEntry), **declared}


def _model(declared: Declared) -> ModelEntry:
    given = declared.arguments
    return ModelEntry(
        target=declared.target,
        can=frozenset(given["can"].split()),
        summary=given["summary"],
        scalars=tuple(given["scalars"]),
        whole_batch=given["whole_batch"],
        draws=given["draws"],
        version=given["version"],
        examples=tuple(Example(**e) for e in given["examples"]),
        unless=given["unless"] or {},
        players=tuple(given["players"]),
        updates=tuple(given["updates"]),
        stages=tuple(given["stages"]),
    )


def _metric(declared: Declared) -> MetricEntry:
    given = declared.arguments
    return MetricEntry(
        target=declared.target,
        needs=tuple(given["needs"].split()),
        unit=given["unit"],
        better=given["better"],
        summary=given["summary"],
        likelihood=given["likelihood"],
        settings=given["settings"] or {},
        data=tuple(given["data"]),
        version=given["version"],
        lowest=given["lowest"] or {},
        counts=given["counts"],
        within=tuple(given["within"]),
        tightens=tuple(given["tightens"]),
        collapse_helps=given["collapse_helps"],
    )


def add_folder(folder: Path) -> None:
    """Know the models and metrics of one more plug-in folder, in this process and those that it starts."""
    plugins.add_folder(folder)
    forget()


def forget() -> None:
    """Look again for what is declared."""
    finding.forget()
    models.cache_clear()
    metrics.cache_clear()
    parameters.cache_clear()
    read_module.cache_clear()


def _plugins(group: str, kind: type[E_]) -> dict[str, E_]:
    if not plugins.packages():
        return {}
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


def find_model(name: str) -> ModelEntry:
    return _find(name, models(), "model")


def find_metric(name: str) -> MetricEntry:
    return _find(name, metrics(), "metric")


def _find(name: str, table: Mapping[str, E_], what: str) -> E_:
    if name not in table:
        raise UserError(f"unknown {what} {name!r}", fix=did_you_mean(name, table))
    return table[name]
