"""From a suite, a tier and seeds to a list of runs: a pure function, torch-free and fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from typing import Any

from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.paths import safe_name
from latentbench.core.seeds import Axis, Seeds
from latentbench.data.registry import Entry, load_entry, target_of
from latentbench.discovery import finding
from latentbench.planning.engines import todays_era
from latentbench.planning.fingerprint import canonical, code_hash, digest, engine_hash, joined
from latentbench.planning.settling import as_stage, layered, settle_training
from latentbench.spec.claims import Tier
from latentbench.spec.layers import merge
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.protocol import Training, TrainingProtocol, TrainingStage
from latentbench.spec.registry import MetricEntry, find_metric, find_model
from latentbench.spec.suite import Suite, TierSpec

#: Runs of a suite at a tier: beyond, it is a mistake, or meant to fill the memory.
MOST_RUNS = 100_000
#: What a split may be for.
ROLES = ("train", "valid", "test")


@dataclass(frozen=True)
class MetricSpec:
    """One metric of one run, settled.

    Attributes:
        key: its name in the suite and in tables.
        name, version, target: the registry entry.
        settings: every setting, defaults filled in.
    """

    key: str
    name: str
    version: int
    target: str
    settings: dict[str, Any]

    @property
    def entry(self) -> MetricEntry:
        return find_metric(self.name)


@dataclass(frozen=True)
class RunSpec:
    """One method, one dataset, one tier, one seed, with everything that the run needs to know.

    `model` is its registered name, and `versions` has the versions of ``model <name>`` and ``step <name>`` that are not
    the first; `axes` gives the axes of the seed that take another one; `data` has source, split (role -> expression),
    stored (how rows are kept), preprocess, limit; `training` is a whole `latentbench.spec.protocol.Training`, dumped.
    """

    suite: str
    suite_version: int
    tier: Tier
    method: str
    dataset: str
    seed: int
    model: str
    target: str
    params: dict[str, Any]
    data: dict[str, Any]
    training: dict[str, Any]
    metrics: tuple[MetricSpec, ...]
    exact: bool = False
    axes: dict[Axis, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    oracle: str | None = field(default=None, compare=False)

    @cached_property
    def spec_hash(self) -> str:
        """Hash of what was asked for: names and prose do not count, every number does."""
        return spec_hash_of(self.settled())

    @property
    def seeds(self) -> Seeds:
        """The seed, with those of the axes that take another one."""
        return Seeds(self.seed, self.axes)

    def settled(self) -> dict[str, Any]:
        """The resolved specification, as it goes into the hash and the record: everything by name and version."""
        return {
            "model": self.model,
            "params": self.params,
            "data": self.data,
            "training": self.training,
            "metrics": [
                {"key": m.key, "name": m.name, "version": m.version, "settings": m.settings} for m in self.metrics
            ],
            "seed": self.seed,
            **({"axes": self.axes} if self.axes else {}),
            **({"versions": self.versions} if self.versions else {}),
        }

    def roots(self) -> dict[str, str]:
        """What the run's own code starts from, by what it is in the run -> ``module:name``."""
        found = {f"model {name}": find_model(name).target for name in _stage_models(self.training)}
        found |= {f"model {self.model}": self.target} | {f"metric {m.name}": m.target for m in self.metrics}
        found |= {f"step {name}": finding.found("step")[name].target for name in _steps(self.data["preprocess"])}
        return found | ({f"oracle {self.data['source']}": self.oracle} if self.oracle else {})

    @cached_property
    def code_hash(self) -> str:
        """Hash of the definitions that the run's model, metrics, steps and oracle reach.

        Raises:
            UserError: there is no source of one of them.
        """
        try:
            return code_hash(self.roots())
        except LookupError as e:
            raise UserError(str(e), where=f"suite {self.suite}, method {self.method}", fix="install it whole") from None

    @property
    def all_code(self) -> str:
        """Hash of everything that the run executes, the engine included, as it is here."""
        return joined({"code": self.code_hash, "engine": engine_hash()})

    def fingerprint(self, data_hash: str) -> str:
        """The run's identity, once the content hash of its dataset is known."""
        return digest([self.spec_hash, data_hash, self.code_hash, todays_era()])

    def of_stage(self, stage: TrainingStage) -> RunSpec:
        """The run that a stage with a `model` of its own is: it measures nothing, and knows nothing of what follows it.

        Its fingerprint is made of the stage's model, parameters, training and seed, of code, and of this run's data but
        for the test split: whatever else runs differ in, they share it.
        """
        assert stage.model is not None
        protocol = stage.model_dump(mode="json", include=set(TrainingProtocol.model_fields))
        around = {key: self.training[key] for key in ("precision", "tf32", "deterministic")}
        seen = {key: {k: v for k, v in self.data[key].items() if k != "test"} for key in ("split", "limit")}
        return replace(
            self,
            method=f"{self.method}/{stage.name}",
            seed=self.seed if stage.seed is None else stage.seed,
            axes=self.axes if stage.seed is None else {},
            model=stage.model,
            target=find_model(stage.model).target,
            params=dict(stage.params),
            data={**self.data, **seen},
            training=Training.model_validate({**protocol, **around}).model_dump(mode="json"),
            metrics=(),
            exact=False,
            versions=_versions(stage.model, {}, self.data["preprocess"]),
            oracle=None,
        )

    @cached_property
    def cell(self) -> str:
        """Method, dataset, tier and seed as one readable name, unique within a suite."""
        seed = "".join((f"s{self.seed}", *(f".{axis}{n}" for axis, n in sorted(self.axes.items()))))
        return "--".join((safe_name(self.method), safe_name(self.dataset), self.tier, seed))

    def run_id(self, data_hash: str) -> str:
        return f"{self.cell}--{self.fingerprint(data_hash)[:10]}"


def spec_hash_of(settled: Mapping[str, Any]) -> str:
    """The hash of a resolved specification as `RunSpec.settled` gives it and records keep it.

    Settings of training at their defaults stay out, so that an option which a later version adds outdates nothing; what
    the defaults are is part of the code's hash.
    """
    return digest({**settled, "training": _telling(canonical(settled["training"]))})


@lru_cache(maxsize=1024)
def _telling(training: str) -> dict[str, Any]:
    """The settings of a whole training, given as JSON, that are not at their defaults; the same for all seeds."""
    return Training.model_validate_json(training).model_dump(mode="json", exclude_defaults=True)


def plan(
    loaded: LoadedSuite,
    tier: Tier,
    *,
    seeds: Sequence[int] | None = None,
    methods: Iterable[str] = (),
    datasets: Iterable[str] = (),
) -> list[RunSpec]:
    """The runs of a suite at a tier, in the suite's order of datasets and methods, seeds innermost.

    Args:
        loaded: the suite.
        tier: one of the suite's tiers.
        seeds: instead of the tier's own.
        methods, datasets: names or patterns to keep; empty keeps all.

    Raises:
        UserError: the suite has no such tier, or a name matches nothing in it.
    """
    suite = loaded.suite
    if tier not in suite.tiers:
        raise loaded.file.error(f"no tier {tier!r}", ("tiers",), "it has " + ", ".join(suite.tiers))
    spec = suite.tiers[tier]
    wanted_m = _select(suite.methods, methods, "method", loaded)
    wanted_d = _select(suite.datasets, datasets, "dataset", loaded)
    count = len(wanted_m) * len(wanted_d) * len(spec.seeds if seeds is None else seeds)
    if count > MOST_RUNS:
        raise loaded.file.error(f"tier {tier!r} may come to {count} runs", ("tiers", tier), f"{MOST_RUNS} are allowed")
    runs: list[RunSpec] = []
    for dataset in suite.datasets:
        if dataset not in wanted_d or not any(fnmatchcase(dataset, g) for g in spec.datasets):
            continue
        entry = load_entry(suite.datasets[dataset].source or dataset)
        for method in suite.methods:
            if method not in wanted_m or not any(fnmatchcase(method, g) for g in spec.methods):
                continue
            if not suite.methods[method].runs_on(dataset):
                continue
            runs += _cell(loaded, tier, spec, method, dataset, entry, spec.seeds if seeds is None else seeds)
    return runs


def _select(table: Iterable[str], patterns: Iterable[str], what: str, loaded: LoadedSuite) -> set[str]:
    table, patterns = list(table), list(patterns)
    if not patterns:
        return set(table)
    found: set[str] = set()
    for pattern in patterns:
        hits = [name for name in table if fnmatchcase(name, pattern)]
        if not hits:
            raise UserError(
                f"suite {loaded.suite.id!r} has no {what} {pattern!r}",
                where=f"--{what}",
                fix=did_you_mean(pattern, table, f"`latentbench show {loaded.suite.id}`"),
            )
        found.update(hits)
    return found


def _cell(
    loaded: LoadedSuite,
    tier: Tier,
    spec: TierSpec,
    method: str,
    dataset: str,
    entry: Entry,
    seeds: Sequence[int],
) -> list[RunSpec]:
    """The runs of one method on one dataset: everything but the seed is settled once."""
    suite, m, d = loaded.suite, loaded.suite.methods[method], loaded.suite.datasets[dataset]
    model = find_model(m.model)
    params, training, preprocess, limit, metric_settings = layered(loaded, spec, method, dataset)

    def find(name: str) -> dict[str, Any]:
        return as_stage(loaded, tier, spec, name, dataset, [preprocess, limit.get("train"), limit.get("valid")])

    try:
        settled = settle_training(loaded, training, method, tier, find)
    except UserError as e:
        if e.where:
            raise
        raise loaded.file.error(e.what, ("methods", method, "training", "in_stages"), e.fix) from None
    data = {
        "source": d.source or dataset,
        "split": dict(d.split) if d.split else {k: v for k, v in entry.protocol(d.protocol).items() if k in ROLES},
        "stored": _stored(entry),
        "preprocess": preprocess,
        "limit": {k: v for k, v in limit.items() if v is not None},
        **_parts(entry),
        **({"hold_out": d.hold_out.model_dump(exclude_none=True)} if d.hold_out else {}),
    }
    metrics = tuple(
        _metric(suite, key, metric_settings.get(key, {}))
        for key, v in suite.metrics.items()
        if v.applies(method, dataset)
    )
    versions = _versions(m.model, settled, preprocess)
    return [
        RunSpec(
            suite=suite.id,
            suite_version=suite.version,
            tier=tier,
            method=method,
            dataset=dataset,
            seed=seed,
            model=m.model,
            target=model.target,
            params=params,
            data=data,
            training=settled,
            metrics=metrics,
            exact=m.exact,
            versions=versions,
            oracle=target_of("oracle", entry.oracle) if entry.oracle else None,
        )
        for seed in (seeds[:1] if m.exact else seeds)
    ]


def _versions(model: str, training: Mapping[str, Any], preprocess: Sequence[str | Mapping[str, Any]]) -> dict[str, int]:
    """Versions that are not the first, of the models and steps that a run names."""
    found = {f"model {name}": find_model(name).version for name in (model, *_stage_models(training))}
    found |= {f"step {n}": finding.found("step")[n].arguments["version"] for n in _steps(preprocess)}
    return {name: version for name, version in found.items() if version != 1}


def _stage_models(training: Mapping[str, Any]) -> list[str]:
    """Models that stages of a training take in place of the method's."""
    return [stage["model"] for stage in training.get("in_stages", ()) if stage["model"] is not None]


def _steps(preprocess: Sequence[str | Mapping[str, Any]]) -> list[str]:
    """The steps that a pipeline names; one that there is not is left to whoever builds it."""
    names = (step if isinstance(step, str) else next(iter(step), "") for step in preprocess)
    return [name for name in names if name in finding.found("step")]


def _stored(entry: Entry) -> dict[str, Any]:
    """The declaration of the samples' column, which decides how preprocessing reads them."""
    column = entry.columns_of(next(iter(entry.splits))).get(entry.main)
    return {} if column is None else column.model_dump(mode="json", include={"shape", "dtype", "levels", "top"})


def _parts(entry: Entry) -> dict[str, Any]:
    """What decides which parts of the data a model sees, and what for, where anything but names does."""
    roles = {f"{s}.{n}": c.role for s in entry.splits for n, c in entry.columns_of(s).items() if c.role is not None}
    found: dict[str, Any] = {"main": entry.main} if entry.main != "x" else {}
    if entry.parts:
        found["parts"] = {name: part.model_dump(mode="json") for name, part in entry.parts.items()}
    return found | ({"roles": roles} if roles else {})


def _metric(suite: Suite, key: str, changes: dict[str, Any]) -> MetricSpec:
    entry = find_metric(suite.metric_name(key))
    settings = merge(merge(dict(entry.settings), suite.metrics[key].settings), changes)
    return MetricSpec(key, suite.metric_name(key), entry.version, entry.target, settings)
