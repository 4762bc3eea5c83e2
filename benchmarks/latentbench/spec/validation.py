"""Whether what a suite says can be done: names, parameters, capabilities, cells of claims. It imports no model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from latentbench.core.capabilities import ANSWERS
from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.paths import safe_name
from latentbench.core.plugins import PAPERS
from latentbench.core.yamlfile import Path_
from latentbench.data.registry import load_entry, names
from latentbench.data.splits import parse
from latentbench.discovery.ranges import fault
from latentbench.spec.cells import claims, reported
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.registry import MetricEntry, ModelEntry, metrics, models, parameters
from latentbench.spec.suite import Override, Suite
from latentbench.spec.training_checks import stage_models, training_problems


def problems(loaded: LoadedSuite) -> list[UserError]:
    """Everything that is wrong with a suite whose form is right, each with file, line and the way to mend it.

    What is wrong alike in several cells of a claim is said once.
    """
    found = [
        *_names(loaded),
        *_models(loaded),
        *training_problems(loaded),
        *_datasets(loaded),
        *_metrics(loaded),
        *_selectors(loaded),
        *reported(loaded),
        *claims(loaded),
    ]
    return list({str(f): f for f in found}.values())


def _names(loaded: LoadedSuite) -> Iterator[UserError]:
    """The names of method and dataset become the parts of a run's name, joined by ``--``, and must stay distinct."""
    tables: list[tuple[str, Iterable[str]]] = [("methods", loaded.suite.methods), ("datasets", loaded.suite.datasets)]
    for table, entries in tables:
        seen: dict[str, str] = {}
        for name in entries:
            safe = safe_name(name)
            if "--" in safe:
                yield loaded.file.error(
                    f"name {name!r} holds `--`, which parts names", (table, name), "one dash is free"
                )
            elif (other := seen.setdefault(safe, name)) != name:
                yield loaded.file.error(
                    f"names {other!r} and {name!r} are both {safe!r} in file names", (table, name), "rename one of them"
                )


def _models(loaded: LoadedSuite) -> Iterator[UserError]:
    for name, method in loaded.suite.methods.items():
        at: Path_ = ("methods", name)
        if method.model not in models():
            yield loaded.file.error(
                f"unknown model {method.model!r}", (*at, "model"), did_you_mean(method.model, models())
            )
            continue
        yield from _params(loaded, method.model, method.params, (*at, "params"))
    for model, params, place in stage_models(loaded):
        if model in models():
            yield from _params(loaded, model, params, place)
    for name, data in loaded.suite.datasets.items():
        on_it = [m.model for m in loaded.suite.methods.values() if m.runs_on(name) and m.model in models()]
        for model in dict.fromkeys(on_it if data.params else ()):
            yield from _params(loaded, model, data.params, ("datasets", name, "params"))
    for place, override in _overrides(loaded.suite):
        reached = [m.model for name, m in loaded.suite.methods.items() if _reaches(loaded.suite, override, name)]
        for model in dict.fromkeys(m for m in reached if m in models()):
            yield from _params(loaded, model, override.params, (*place, "params"))


def _reaches(suite: Suite, override: Override, method: str) -> bool:
    """Whether an override changes any run of a method."""
    return any(suite.methods[method].runs_on(d) and override.matches(method, d) for d in suite.datasets)


def _overrides(suite: Suite) -> list[tuple[Path_, Override]]:
    """Every override with its place in the file."""
    places: list[tuple[Path_, Override]] = [(("overrides", i), o) for i, o in enumerate(suite.overrides)]
    return places + [
        (("tiers", t, "overrides", i), o) for t, s in suite.tiers.items() for i, o in enumerate(s.overrides)
    ]


def _params(loaded: LoadedSuite, model: str, params: Mapping[str, Any], at: Path_) -> Iterator[UserError]:
    """Parameters that the model's constructor does not take, or not with that value."""
    known = parameters(models()[model].target)
    for name, value in params.items():
        if name not in known:
            hint = did_you_mean(name, known) if known else "it has none"
            yield loaded.file.error(f"model {model!r} has no parameter {name!r}", (*at, name), hint)
        elif wrong := fault(known[name], value):
            yield loaded.file.error(f"{name} of model {model!r} is {value!r}", (*at, name), f"it should be {wrong}")


def _datasets(loaded: LoadedSuite) -> Iterator[UserError]:
    for name, dataset in loaded.suite.datasets.items():
        at: Path_ = ("datasets", name)
        source = dataset.source or name
        if source not in names():
            place = (*at, "source") if dataset.source else at
            yield loaded.file.error(f"unknown dataset {source!r}", place, did_you_mean(source, names()))
            continue
        try:
            entry = load_entry(source)
            scheme = dict(dataset.split) if dataset.split else entry.protocol(dataset.protocol)
        except UserError as e:
            yield loaded.file.error(e.what, (*at, "protocol"), e.fix)
            continue
        for role in ("train", "test"):
            if role not in scheme:
                yield loaded.file.error(
                    f"dataset {name!r} has no {role} split here",
                    at,
                    f"give `protocol` ({', '.join(entry.protocols) or 'none declared'}) or `split`",
                )
        if dataset.hold_out is not None:
            part = entry.parts.get(dataset.hold_out.part)
            if part is None or part.role != "edges":
                yield loaded.file.error(
                    f"dataset {name!r} has no edges {dataset.hold_out.part!r} to hold out",
                    (*at, "hold_out"),
                    did_you_mean(dataset.hold_out.part, [n for n, p in entry.parts.items() if p.role == "edges"]),
                )
            if dataset.hold_out.valid is None and "valid" in scheme:
                yield loaded.file.error(
                    f"dataset {name!r} holds out no edges for its validation split",
                    (*at, "hold_out"),
                    "give `valid`, or a protocol without validation",
                )
        try:
            rows = {k: s.rows for k, s in entry.splits.items()}
            parts = {role: parse(expression, rows) for role, expression in scheme.items() if role in ("train", "test")}
        except UserError as e:
            yield loaded.file.error(e.what, (*at, "split"), e.fix)
            continue
        if (
            not dataset.overlap
            and dataset.hold_out is None
            and any(
                a.name == b.name and a.listed is None and b.listed is None and a.start < b.stop and b.start < a.stop
                for a in parts.get("train", [])
                for b in parts.get("test", [])
            )
        ):
            yield loaded.file.error(
                f"dataset {name!r} is tested on rows that it is trained on",
                (*at, "split"),
                "choose another split, or say `overlap: true` where the paper does the same",
            )


def _entry(loaded: LoadedSuite, key: str) -> MetricEntry | None:
    return metrics().get(loaded.suite.metric_name(key))


def _metrics(loaded: LoadedSuite) -> Iterator[UserError]:
    suite = loaded.suite
    for key, metric in suite.metrics.items():
        at: Path_ = ("metrics", key)
        entry = _entry(loaded, key)
        if entry is None:
            place = (*at, "metric") if metric.metric else at
            yield loaded.file.error(
                f"unknown metric {suite.metric_name(key)!r}", place, did_you_mean(suite.metric_name(key), metrics())
            )
            continue
        if twin := _catalogued(suite.metric_name(key), entry):
            yield loaded.file.error(
                f"metric {suite.metric_name(key)!r} of the paper's own measures what {twin!r} measures for all papers",
                at,
                f"take {twin!r}, or call it by what sets it apart",
            )
        yield from _settings(loaded, key, entry, metric.settings, (*at, "settings"))
        for method, spec in suite.methods.items():
            model = models().get(spec.model)
            params = {**spec.params}
            for _, override in _overrides(suite):
                params |= override.params if _reaches(suite, override, method) else {}
            used = any(metric.applies(method, d) and spec.runs_on(d) for d in suite.datasets)
            if model is not None and used and (lacks := missing(model, entry, params)):
                yield loaded.file.error(
                    f"metric {key!r} needs {lacks}, which model {spec.model!r} of method {method!r} lacks",
                    at,
                    f"leave the method out with `methods:` in metric {key!r}",
                )
        for dataset, data in suite.datasets.items():
            if not entry.data or not any(
                metric.applies(n, dataset) and m.runs_on(dataset) for n, m in suite.methods.items()
            ):
                continue
            if (data.source or dataset) in names():
                yield from _data_needs(loaded, key, entry, dataset, data.source or dataset)
    for tier, tier_spec in suite.tiers.items():
        yield from _changes(loaded, tier_spec.metrics, ("tiers", tier, "metrics"))
        for i, override in enumerate(tier_spec.overrides):
            yield from _changes(loaded, override.metrics, ("tiers", tier, "overrides", i, "metrics"))
    for i, override in enumerate(suite.overrides):
        yield from _changes(loaded, override.metrics, ("overrides", i, "metrics"))


#: What metrics of studies need.
STUDIES = frozenset({"Study", *ANSWERS})


def _catalogued(name: str, entry: MetricEntry) -> str | None:
    """The metric of studies, in the kit, that a paper's own one of studies is named after; None if there is none."""
    if not entry.target.startswith(f"{PAPERS}.") or not STUDIES & {*entry.needs}:
        return None
    words = set(name.split("_"))
    for other, known in metrics().items():
        if not known.target.startswith(f"{PAPERS}.") and STUDIES & {*known.needs} and other.rpartition("_")[2] in words:
            return other
    return None


def _changes(loaded: LoadedSuite, changes: dict[str, dict[str, Any]], at: Path_) -> Iterator[UserError]:
    for key, settings in changes.items():
        if key not in loaded.suite.metrics:
            yield loaded.file.error(
                f"no metric {key!r} in this suite", (*at, key), did_you_mean(key, loaded.suite.metrics)
            )
        elif (entry := _entry(loaded, key)) is not None:
            yield from _settings(loaded, key, entry, settings, (*at, key))


def _settings(
    loaded: LoadedSuite, key: str, entry: MetricEntry, settings: dict[str, Any], at: Path_
) -> Iterator[UserError]:
    for name, value in settings.items():
        if name not in entry.settings:
            hint = did_you_mean(name, entry.settings) if entry.settings else "it has none"
            yield loaded.file.error(f"metric {key!r} has no setting {name!r}", (*at, name), hint)
            continue
        default, lowest = entry.settings[name], entry.lowest.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(default, int | float) and not isinstance(default, bool) and not number:
            yield loaded.file.error(f"{name} of metric {key!r} is {value!r}", (*at, name), "give a number")
        elif number and lowest is not None and not value >= lowest:
            yield loaded.file.error(f"{name} of metric {key!r} is {value}", (*at, name), f"give {lowest:g} or more")


def missing(model: ModelEntry, metric: MetricEntry, params: Mapping[str, Any]) -> str:
    """The capabilities that a metric needs and a model with `params` lacks, in words; empty if there are none."""
    can = model.can_with(params)
    lacks = [n for n in metric.needs if not any(option in can for option in n.split("|"))]
    return " and ".join(n.replace("|", " or ") for n in lacks)


def _data_needs(loaded: LoadedSuite, key: str, entry: MetricEntry, dataset: str, source: str) -> Iterator[UserError]:
    data = load_entry(source)
    offers = {
        "links": loaded.suite.datasets[dataset].hold_out is not None,
        "oracle": data.oracle is not None,
        "factors": bool(data.factors),
        "labels": any("y" in data.columns_of(split) for split in data.splits),
        "images": data.modality == "image",
        "words": data.modality == "text",
    }
    for need in entry.data:
        if not offers.get(need, False):
            yield loaded.file.error(
                f"metric {key!r} needs {need}, which dataset {dataset!r} lacks",
                ("metrics", key),
                f"leave the dataset out with `datasets:` in metric {key!r}",
            )


def _selectors(loaded: LoadedSuite) -> Iterator[UserError]:
    """Patterns that select nothing are misspelt."""
    suite = loaded.suite
    for name, method in suite.methods.items():
        yield from _globs(loaded, method.datasets, suite.datasets, ("methods", name, "datasets"))
    for key, metric in suite.metrics.items():
        yield from _globs(loaded, metric.methods, suite.methods, ("metrics", key, "methods"))
        yield from _globs(loaded, metric.datasets, suite.datasets, ("metrics", key, "datasets"))
    for tier, spec in suite.tiers.items():
        yield from _globs(loaded, spec.methods, suite.methods, ("tiers", tier, "methods"))
        yield from _globs(loaded, spec.datasets, suite.datasets, ("tiers", tier, "datasets"))
    for at, override in _overrides(suite):
        yield from _globs(loaded, override.methods, suite.methods, (*at, "methods"))
        yield from _globs(loaded, override.datasets, suite.datasets, (*at, "datasets"))


def _globs(loaded: LoadedSuite, patterns: Iterable[str], table: Iterable[str], at: Path_) -> Iterator[UserError]:
    table = list(table)
    for i, pattern in enumerate(patterns):
        if not any(fnmatchcase(name, pattern) for name in table):
            place = (*at, i) if (*at, i) in loaded.file.lines else at
            yield loaded.file.error(
                f"{at[-1]} pattern {pattern!r} selects nothing", place, did_you_mean(pattern, table)
            )
