"""From a record back to the run that it describes; the record may come from anybody."""

from __future__ import annotations

import os
from glob import escape
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latentbench.core.errors import UserError
from latentbench.core.paths import results_dir, shown
from latentbench.core.seeds import Axis
from latentbench.data.registry import load_entry, target_of
from latentbench.planning.plan import MetricSpec, RunSpec, plan
from latentbench.records.archive import record_files, suites_with_records
from latentbench.records.former import asks_the_same, model_name
from latentbench.records.pack import pack_of
from latentbench.records.record import Record, read_record
from latentbench.spec.claims import Identifier
from latentbench.spec.loading import load_suite
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
    """A record by its file, its folder, or its run identifier (or the start of one, if that is a single run's), with
    its suite and a slash before it where runs of several suites are called so.

    Where several records of one run (method, dataset, tier, seed) fit, it is the one that counts for its suite today,
    else the newest.

    Raises:
        UserError: there is none, or several runs have names that begin so.
    """
    given = Path(name)
    if pack_of(given) is not None:
        return given, read_record(given)
    for path in (given, given / "record.json"):
        if os.path.isfile(path):  # False also for what can be no path
            return path, read_record(path)
    root = results_dir()
    within, _, start = name.rpartition("/")
    found = [
        (suite, *each)
        for suite in suites_with_records(root)
        if within in ("", suite)
        for each in record_files(suite, root, prefix=start)
    ]
    if not found:
        raise UserError(f"no record {name[:100]!r}", fix="give a run identifier as in results/runs, or a record's file")
    fitting = [each for each in found if each[1] == start] or found
    cells = list(dict.fromkeys((suite, run.rpartition("--")[0]) for suite, run, _ in fitting))
    cells = [each for each in cells if each[1] == start] or cells
    if len(cells) > 1:
        names = ", ".join("/".join(each) for each in cells[:3])
        raise UserError(f"{name!r} fits {len(cells)} runs", fix=f"give more of the name: {names} …")
    candidates = [(run, file) for suite, run, file in fitting if (suite, run.rpartition("--")[0]) == cells[0]]
    path = Path(candidates[0][1] if len({run for run, _ in candidates}) == 1 else _that_counts(cells[0], candidates))
    return path, read_record(path)


def _that_counts(cell: tuple[str, str], candidates: list[tuple[str, str]]) -> str:
    """The file of the record that counts for a cell of a suite (its own and the cell's name), else of the newest."""
    from latentbench.records.archive import collect

    newest = max(candidates, key=lambda each: read_record(Path(each[1])).provenance.ended)
    record = read_record(Path(newest[1]))
    try:
        runs = plan(load_suite(record.suite), record.tier, seeds=[record.seed], methods=[escape(record.method)])
    except UserError:  # a suite that is not here, or has changed
        return newest[1]
    return collect(runs).files.get(cell[1], newest[1])


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
