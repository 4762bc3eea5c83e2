"""Every measured value by itself: a row for each metric of each run that counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain

from latentbench.records.archive import is_reference
from latentbench.records.record import Measured, Record
from latentbench.results.filters import Wanted
from latentbench.results.gather import Gathered


@dataclass(frozen=True)
class SeedRow:
    """One metric of one run; a run that failed before it measured anything has one row without a metric.

    `value` is in `unit`; `se` is its standard error over the test rows, where the metric gives one. `reference` says
    that the record came with the project, `stale` that other code than today's made it. Seconds are wall time.
    """

    suite: str
    version: int
    tier: str
    dataset: str
    method: str
    seed: int
    metric: str | None
    value: float | None
    se: float | None
    n: int | None
    unit: str | None
    better: str | None
    likelihood: str | None
    identity: str | None
    status: str
    failure: str | None
    outcomes: str
    wall_seconds: float
    parameters: int
    device: str
    revision: str | None
    date: str
    reference: bool
    stale: bool
    run: str


COLUMNS = [f.name for f in fields(SeedRow)]


def seed_rows(gathered: Gathered, *, dataset: str | None = None, metric: str | None = None) -> list[SeedRow]:
    """The rows of a suite at a tier, in the order of its plan.

    Args:
        gathered: the suite with its records.
        dataset, metric: only what these name (`latentbench.results.filters`).
    """
    suite, wanted = gathered.loaded.suite, Wanted(dataset, metric)
    sources = {d: spec.source or d for d, spec in suite.datasets.items()}
    found = gathered.collected.found
    planned = [run.cell for run in gathered.runs if run.cell in found]
    stale = set(gathered.collected.stale_code)
    return [
        row
        for cell in dict.fromkeys(chain(planned, found))
        if wanted.of(found[cell].dataset, sources[found[cell].dataset])
        for row in _of_record(found[cell], gathered.collected.files[cell], cell in stale)
        if wanted.by(row.metric, suite.metric_name(row.metric) if row.metric else None)
    ]


def _of_record(record: Record, file: str, stale: bool) -> Iterator[SeedRow]:
    measured: Sequence[Measured | None] = record.metrics or [None]
    for one in measured:
        yield SeedRow(
            suite=record.suite,
            version=record.version,
            tier=record.tier,
            dataset=record.dataset,
            method=record.method,
            seed=record.seed,
            metric=one.name if one else None,
            value=one.value if one and record.status == "finished" else None,
            se=one.se if one else None,
            n=one.n if one else None,
            unit=one.unit if one else None,
            better=one.better if one else None,
            likelihood=one.likelihood if one else None,
            identity=one.identity if one else None,
            status=record.status,
            failure=(one.failure if one else None) or record.error,
            outcomes=", ".join(record.outcomes),
            wall_seconds=record.cost.wall_seconds,
            parameters=record.cost.parameters,
            device=record.provenance.device,
            revision=record.provenance.git_revision,
            date=record.provenance.ended,
            reference=is_reference(file),
            stale=stale,
            run=record.run_id,
        )
