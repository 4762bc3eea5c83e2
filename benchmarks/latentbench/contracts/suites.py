"""The contract tests of a suite: that it validates, that its models hold their contracts on its data, that it runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from latentbench.contracts.examples import subject_of
from latentbench.contracts.finding import Finding, attempt
from latentbench.contracts.models import check_model
from latentbench.contracts.synthetic import KINDS, Rows
from latentbench.contracts.training import check_training
from latentbench.core.errors import UserError
from latentbench.core.imports import load
from latentbench.core.types import DataInfo
from latentbench.data.columns import Ragged
from latentbench.declare import Example, ModelEntry
from latentbench.planning.plan import RunSpec, plan
from latentbench.planning.stated import departures
from latentbench.running.observer import ProgressReport
from latentbench.running.preflight import check_models
from latentbench.running.run_data import Data, load_data, source_of
from latentbench.running.settings import Settings
from latentbench.scheduling.local import run_all
from latentbench.spec.loading import LoadedSuite, load_suite, suite_id
from latentbench.spec.registry import find_model
from latentbench.spec.validation import problems
from latentbench.training.source import Source

#: Rows that models are tested on.
ROWS = 48


def check_suite(path: Path, tell: Callable[[str], None] = lambda _: None) -> Iterator[Finding]:
    """The findings on a suite file, in the order in which they come."""
    name = suite_id(path)
    try:
        loaded = load_suite(path)
        faults = (
            problems(loaded)
            or list(departures(loaded))
            or [f for tier in loaded.suite.tiers for f in check_models(loaded, plan(loaded, tier))]
        )
    except UserError as e:
        yield Finding(name, "it validates", str(e))
        return
    for fault in faults:
        yield Finding(name, "it validates", str(fault))
    if faults:
        return
    yield Finding(name, "it validates")
    tier = "smoke" if "smoke" in loaded.suite.tiers else next(iter(loaded.suite.tiers))
    runs = {(r.method, r.dataset): r for r in plan(loaded, tier)}
    for run in runs.values():
        subject = f"{run.method} on {run.dataset}"
        tell(subject)
        yield from _model(run, subject)
    if "smoke" not in loaded.suite.tiers:
        yield Finding(name, "its smoke tier runs", "it has no tier `smoke`")
        return
    yield from _smoke(loaded, tell)


def _model(run: RunSpec, subject: str) -> Iterator[Finding]:
    try:
        data = load_data(run)
    except UserError as e:
        yield Finding(subject, "its data are there", str(e))
        return
    entry, author, info = find_model(run.model), load(run.target), data.info
    plain = not (data.whole or data.edges or isinstance(data.splits["train"], Ragged))
    if not plain or not entry.can & {"Trainable", "Fittable"} or run.training["in_stages"]:
        yield from check_training(
            subject, lambda: author(info, **run.params), lambda: _few(data), entry.can, run.training
        )
        return
    raw = data.splits["train"][:ROWS]
    x, _ = data.pipeline.forward(raw, torch.Generator().manual_seed(0))
    columns = {k: torch.from_numpy(v[:ROWS].copy()) for k, v in data.columns["train"].items()}
    rows = Rows(x, replace(info, n_train=len(x)), columns)
    example = Example(_likest(entry, info), run.params)
    yield from check_model(subject, subject_of(author, entry, example, rows), author)


def _likest(entry: ModelEntry, info: DataInfo) -> str:
    """The made-up data, of those that the model declares if it can be, that are of the form of a suite's."""
    form = (info.support, len(info.shape))
    names = [*(e.data for e in entry.examples), *KINDS]
    return next((n for n in names if n in KINDS and (KINDS[n].support, len(KINDS[n].shape)) == form), "")


def _few(data: Data) -> Source:
    """The first training rows; all of them where they refer to one another."""
    if not data.whole:
        splits = {"train": data.splits["train"][:ROWS]}
        columns = {"train": {k: v[:ROWS] for k, v in data.columns["train"].items()}}
        data = replace(data, splits=splits, columns=columns)
    return source_of(data, "train", torch.device("cpu"))


def _smoke(loaded: LoadedSuite, tell: Callable[[str], None]) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory(prefix="latentbench-check-") as folder:
        findings: list[Finding] = []

        def report(t: ProgressReport) -> None:
            tell(f"{t.cell}: {t.phase}")

        def done(spec: RunSpec, record: object, cached: bool) -> None:  # noqa: ARG001
            missing = [f"{m.name}: {m.failure}" for m in record.metrics if m.value is None]  # type: ignore[attr-defined]
            why = record.error or "; ".join(missing)  # type: ignore[attr-defined]
            findings.append(Finding(spec.cell, "its smoke run finishes with every metric", why))

        whole = attempt(
            loaded.suite.id,
            "its smoke tier runs",
            lambda: run_all(plan(loaded, "smoke"), Settings(Path(folder), weights=False), 0, report, done),
        )
        yield from findings
        yield whole
