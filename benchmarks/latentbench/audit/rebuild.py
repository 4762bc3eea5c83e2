"""From a record back to the run that it describes; the record may come from anybody."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latentbench.core.errors import UserError
from latentbench.core.paths import results_dir, shown
from latentbench.core.seeds import Axis
from latentbench.data.registry import load_entry, target_of
from latentbench.planning.plan import MetricSpec, RunSpec
from latentbench.records.archive import record_files, suites_with_records
from latentbench.records.former import asks_the_same, model_name
from latentbench.records.pack import pack_of
from latentbench.records.record import Record, read_record
from latentbench.spec.claims import Identifier
from latentbench.spec.protocol import Training
from latentbench.spec.registry import metrics, models
from latentbench.spec.suite import HoldOut

_Role = Literal["train", "valid", "test"]
_Seed = Annotated[int, Field(ge=0, lt=1 << 63)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Data(_Strict):
    source: str = Field(max_length=100)
    split: dict[_Role, Annotated[str, Field(max_length=1000)]]
    stored: dict[str, Any]
    preprocess: list[str | dict[str, Any]]
    limit: dict[_Role, int]
    main: str | None = Field(None, max_length=100)
    parts: dict[str, dict[str, Any]] | None = Field(None, max_length=100)
    roles: dict[str, str] | None = Field(None, max_length=1000)
    hold_out: HoldOut | None = None


class _Metric(_Strict):
    key: Identifier
    name: str
    version: int
    settings: dict[str, Any]


class _Specification(_Strict):
    """What `RunSpec.settled` writes."""

    model: str
    params: dict[str, Any]
    data: _Data
    training: dict[str, Any]
    metrics: list[_Metric]
    seed: _Seed
    axes: dict[Axis, _Seed] = {}
    versions: dict[str, int] = {}


class _Names(_Strict):
    """What becomes part of a file's name or of a command line."""

    suite: Identifier
    method: Identifier
    dataset: Identifier
    seed: _Seed


def find_record(name: str) -> tuple[Path, Record]:
    """A record by its file, its folder, or its run identifier (or the start of one, if that is unique).

    Raises:
        UserError: there is none, or several.
    """
    given = Path(name)
    if pack_of(given) is not None:
        return given, read_record(given)
    for path in (given, given / "record.json"):
        if os.path.isfile(path):  # False also for what can be no path
            return path, read_record(path)
    root = results_dir()
    found = [each for suite in suites_with_records(root) for each in record_files(suite, root, prefix=name)]
    if not found:
        raise UserError(f"no record {name[:100]!r}", fix="give a run identifier as in results/runs, or a record's file")
    exact = [each for each in found if each[0] == name] or found
    if len({run for run, _ in exact}) > 1:
        names = ", ".join(run for run, _ in exact[:3])
        raise UserError(f"{name!r} fits {len(exact)} records", fix=f"give more of the name: {names} …")
    return (path := Path(exact[0][1])), read_record(path)


def hash_holds(spec: RunSpec, record: Record) -> bool:
    """Whether what a record asks for hashes to what it says."""
    return record.hashes["spec"] == spec.spec_hash or asks_the_same(record, spec)


def rebuild(record: Record, where: Path) -> RunSpec:
    """The specification that a record holds: checked in form, its names looked up, and none of them imported.

    Raises:
        UserError: a model or metric that is not registered, or a specification of another shape.
    """

    def refuse(what: str, fix: str = "it was made by another version, or edited") -> UserError:
        return UserError(what, where=shown(where), fix=fix)

    try:
        _Names(suite=record.suite, method=record.method, dataset=record.dataset, seed=record.seed)
        spec = _Specification.model_validate(record.spec)
        Training.model_validate(spec.training)
    except ValidationError as e:
        fault = e.errors(include_url=False)[0]
        place = ".".join(str(p) for p in fault["loc"])
        raise refuse(f"its specification cannot be read: {place[:100]}: {fault['msg']}") from None
    if spec.seed != record.seed:
        raise refuse(f"its seed is {record.seed} in one place and {spec.seed} in another")
    name = model_name(spec.model)
    if name not in models():
        raise refuse(
            f"no registered model is {spec.model[:200]!r}",
            "install the plug-in that provides it, or name its folder: latentbench --plugins FOLDER …",
        )
    if unknown := [m.name for m in spec.metrics if m.name not in metrics()]:
        raise refuse(
            f"no registered metric {unknown[0][:200]!r}",
            "install the plug-in that provides it, or name its folder: latentbench --plugins FOLDER …",
        )
    oracle = load_entry(spec.data.source).oracle
    return RunSpec(
        suite=record.suite,
        suite_version=record.version,
        tier=record.tier,
        method=record.method,
        dataset=record.dataset,
        seed=record.seed,
        model=name,
        target=models()[name].target,
        params=spec.params,
        data=record.spec["data"],
        training=spec.training,
        metrics=tuple(MetricSpec(m.key, m.name, m.version, metrics()[m.name].target, m.settings) for m in spec.metrics),
        exact=record.exact,
        axes=spec.axes,
        versions=spec.versions,
        oracle=target_of("oracle", oracle) if oracle else None,
    )
