"""Leaderboards: methods by dataset and metric, means with intervals over seeds, the paper's number beside ours.

Rows are ranked within one suite, tier, dataset, metric and metric identity, and nowhere across: an exact likelihood
never stands against a bound, nor a bound with 5000 samples against one with 50.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np

from latentbench.core import escape
from latentbench.records.known import PackedRun, Read, like, made, seed_of
from latentbench.records.record import Measured, Record
from latentbench.results.environments import mixture
from latentbench.results.filters import Wanted
from latentbench.results.gather import Gathered
from latentbench.spec.registry import find_metric
from latentbench.spec.suite import Reported
from latentbench.stats.intervals import group_summary, t_interval
from latentbench.stats.outliers import far_out
from latentbench.stats.samples import Sample, differences


@dataclass(frozen=True)
class Row:
    """One line of a leaderboard; the order of the fields is the order of the CSV's columns.

    `mark` is ``best`` where the 95 % interval of the difference to every other method excludes zero, ``tied`` where
    it does not exclude it for some, empty otherwise and where seeds are too few to tell. `missing` counts planned seeds
    without a record, `stale` records that other code than today's made. `impossible` says why the number cannot be
    (`latentbench.results.possible`); such a row stands last, without a mark, and no other is compared with it.
    `mixed` says in which environments the seeds ran, where the mean is over several
    (`latentbench.results.environments`); where that is `refused`, the row is treated like an impossible one.
    `environment` is the one of all rows, where environments are apart. `outliers` names the seeds that lie far from the
    others, and those that failed. `source` is the registry's name of the dataset, `quantity` that of the metric;
    `seconds` is the median wall time of a run; `revision` has the revisions of the code that made the records (ten
    digits each), and `date` the day of the newest.
    """

    suite: str
    version: int
    tier: str
    dataset: str
    method: str
    metric: str
    identity: str
    unit: str
    better: str
    n: int
    mean: float | None
    std: float | None
    ci_low: float | None
    ci_high: float | None
    reported: float | None
    reported_source: str | None
    difference: float | None
    likelihood: str
    label: str
    baseline: bool
    failed: int
    outcomes: str
    mark: str
    missing: int
    stale: int
    source: str
    quantity: str
    seconds: float | None
    revision: str
    date: str
    impossible: str = ""
    outliers: str = ""
    mixed: str = ""
    refused: bool = False
    environment: str = ""


COLUMNS = [f.name for f in fields(Row)]


class _Made:
    """How the records behind a number came about; all numbers of these records share it."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    @cached_property
    def seconds(self) -> float | None:
        finished = [r.cost.wall_seconds for r in self._records if r.status == "finished"]
        return median(finished) if finished else None

    @cached_property
    def revision(self) -> str:
        return ", ".join(revisions(self._records))

    @cached_property
    def date(self) -> str:
        return max((r.provenance.ended for r in self._records), default="")[:10]

    @cached_property
    def mixture(self) -> str:
        return mixture(self._records)


@dataclass
class _Cell:
    method: str
    measured: Measured
    values: dict[int, float]
    failed: int
    outcomes: dict[str, int]
    exact: bool
    counts: bool = False
    lost: dict[int, str] = field(default_factory=dict)
    impossible: str = ""
    mixed: str = ""
    refused: bool = False
    records: list[Record] = field(default_factory=list)

    def says(self, word: str) -> None:
        self.outcomes[word] = self.outcomes.get(word, 0) + 1

    def fails(self, seed: int, word: str) -> None:
        self.failed += 1
        self.lost[seed] = word
        self.says(word)

    @cached_property
    def made(self) -> _Made:
        return _Made(self.records)

    def mixture(self) -> str:
        """Of the records that gave a value."""
        if len(self.values) == len(self.records):
            return self.made.mixture
        return mixture(r for r in self.records if r.seed in self.values)

    @property
    def comparable(self) -> bool:
        return not (self.impossible or self.refused)

    @cached_property
    def sample(self) -> Sample:
        """The values, once they are all there."""
        return Sample.of(dict(self.values), deterministic=True if self.exact else False if self.counts else None)


def leaderboard(gathered: Gathered, *, dataset: str | None = None, metric: str | None = None) -> list[Row]:
    """The rows of a suite at a tier, best first within each dataset and metric.

    `dataset` and `metric` keep it to what they name (`latentbench.results.filters`).
    """
    wanted = Wanted(dataset, metric)
    suite = gathered.loaded.suite
    by_cell: dict[tuple[str, str], list[Read]] = {}
    for one in gathered.as_read.values():
        record = like(one)
        by_cell.setdefault((record.dataset, record.method), []).append(one)
    measured = {(d, m): _alike(m, read) or _cells(m, list(map(made, read))) for (d, m), read in by_cell.items()}
    reported = suite.reported_by_cell()
    rows: list[Row] = []
    for d in suite.datasets:
        if not wanted.of(d, suite.datasets[d].source or d):
            continue
        for key in suite.metrics:
            if not wanted.by(key, suite.metric_name(key)):
                continue
            tables: dict[str, list[_Cell]] = {}
            for m in suite.methods:
                for cell in measured.get((d, m), {}).get(key, ()):
                    tables.setdefault(cell.measured.identity, []).append(cell)
            for cells in tables.values():
                rows += _table(gathered, d, key, cells, reported)
    return rows


def _alike(method: str, read: Sequence[Read]) -> dict[str, list[_Cell]]:
    """`_cells` of runs of one kind, metric by metric, without making their records; nothing where they are of several.

    All that such runs have in common is taken from the first: that they finished, where, and by which code.
    """
    runs = [one for one in read if isinstance(one, PackedRun)]
    if len(runs) < len(read) or len({one.kind for one in runs}) > 1:
        return {}
    kind, seeds, rows = runs[0].kind, [seed_of(one) for one in runs], [one.measured for one in runs]
    way, wall = _Made([kind.first]), kind.costs.index("wall_seconds")
    way.seconds = median(one.says["cost"][wall] for one in runs)
    way.date = max(one.says["provenance"]["ended"] for one in runs)[:10]
    found: dict[str, list[_Cell]] = {}
    for place, one in enumerate(kind.first.metrics):
        if one.name in found:
            continue
        values = {seed: row[place][0] for seed, row in zip(seeds, rows, strict=True) if row[place][0] is not None}
        cell = _Cell(method, one, values, 0, {}, kind.first.exact, find_metric(one.metric).counts)
        for seed in seeds if len(values) < len(seeds) else ():
            if seed not in values:
                cell.fails(seed, "no value")
        cell.made = way
        found[one.name] = [cell]
    return found


def _cells(method: str, records: Sequence[Record]) -> dict[str, list[_Cell]]:
    """The values of each metric by seed, one cell for each identity under which it was measured."""
    cells: dict[tuple[str, str], _Cell] = {}
    for record in records:
        finished, outcomes = record.status == "finished", record.outcomes
        named = set()
        for one in record.metrics:
            if one.name in named:
                continue
            named.add(one.name)
            cell = cells.get((one.name, one.identity))
            if cell is None:
                cell = _Cell(method, one, {}, 0, {}, record.exact, find_metric(one.metric).counts)
                cells[one.name, one.identity] = cell
            cell.records.append(record)
            if finished and one.value is not None:
                cell.values[record.seed] = one.value
            else:
                cell.fails(record.seed, "no value" if finished else record.status)
            for word in outcomes:
                cell.says(word)
    for record in records:
        if not record.metrics:  # it failed before anything was measured
            for cell in cells.values():
                cell.fails(record.seed, record.status)
    found: dict[str, list[_Cell]] = {}
    made: dict[tuple[int, ...], _Made] = {}
    for (name, _), cell in cells.items():
        cell.made = made.setdefault(tuple(map(id, cell.records)), cell.made)
        found.setdefault(name, []).append(cell)
    return found


def _table(
    gathered: Gathered, dataset: str, key: str, cells: list[_Cell], known: Mapping[tuple[str, str, str], Reported]
) -> list[Row]:
    suite = gathered.loaded.suite
    for cell in cells:
        fault = gathered.impossible.get((cell.method, dataset, key))
        cell.impossible = "" if fault is None else str(fault)
        cell.mixed = cell.mixture()
        cell.refused = bool(cell.mixed) and gathered.refuses_mixed
    values = np.concatenate([c.sample.array() for c in cells])
    counts, found, spread = group_summary(
        values, np.repeat(np.arange(len(cells)), [c.sample.n for c in cells]), len(cells)
    )
    lows, highs = t_interval(counts, found, spread, limits=find_metric(cells[0].measured.metric).within)
    means, stds = found.tolist(), spread.tolist()
    marks = _marks(cells, means)
    sign = -1 if cells[0].measured.better == "higher" else 1
    order = sorted(
        range(len(cells)),
        key=lambda i: (not cells[i].comparable, math.isnan(means[i]), sign * means[i], cells[i].method),
    )
    rows = []
    for i in order:
        cell = cells[i]
        reported = known.get((cell.method, dataset, key))
        mean = _or_none(means[i])
        rows.append(
            Row(
                suite=suite.id,
                version=suite.version,
                tier=gathered.tier,
                dataset=dataset,
                method=cell.method,
                metric=key,
                identity=cell.measured.identity,
                unit=cell.measured.unit,
                better=cell.measured.better,
                n=len(cell.values),
                mean=mean,
                std=_or_none(stds[i]),
                ci_low=_or_none(float(lows[i])),
                ci_high=_or_none(float(highs[i])),
                reported=reported.value if reported else None,
                reported_source=f"{reported.table}; {reported.source} ({reported.origin})" if reported else None,
                difference=mean - reported.value if reported and mean is not None else None,
                likelihood=cell.measured.likelihood,
                label=suite.methods[cell.method].label or cell.method,
                baseline=suite.methods[cell.method].baseline,
                failed=cell.failed,
                outcomes=", ".join(f"{k} x{v}" for k, v in sorted(cell.outcomes.items())),
                mark=marks[i],
                missing=gathered.missing(cell.method, dataset),
                stale=gathered.stale(cell.method, dataset),
                source=suite.datasets[dataset].source or dataset,
                quantity=suite.metric_name(key),
                seconds=cell.made.seconds,
                revision=cell.made.revision,
                date=cell.made.date,
                impossible=cell.impossible,
                outliers=_outliers(cell),
                mixed=cell.mixed,
                refused=cell.refused,
                environment=gathered.environment,
            )
        )
    return rows


def _marks(cells: list[_Cell], means: list[float]) -> list[str]:
    """``best`` or ``tied`` for each cell, by the intervals of differences from the leading one."""
    marks = [""] * len(cells)
    possible = [i for i, c in enumerate(cells) if c.values and c.comparable]
    able = [i for i in possible if not cells[i].sample.blind]
    if len(able) < 2 or len(able) < len(possible):
        return marks
    sign = -1 if cells[0].measured.better == "higher" else 1
    top = min(able, key=lambda i: sign * means[i])
    others = [i for i in able if i != top]
    gaps = differences(cells[top].sample, [cells[i].sample for i in others])
    tied = [i for i, (low, high) in zip(others, gaps) if not (low > 0 or high < 0)]
    for i in [top, *tied]:
        marks[i] = "tied" if tied else "best"
    return marks


def _outliers(cell: _Cell) -> str:
    """Seeds that are far out or without a result, e.g. ``seed 3: -2750 (far out); seed 4: diverged``."""
    said = [f"seed {seed}: {cell.values[seed]:.6g} (far out)" for seed in far_out(cell.values)]
    return "; ".join([*said, *(f"seed {seed}: {word}" for seed, word in sorted(cell.lost.items()))])


def revisions(records: Sequence[Record]) -> list[str]:
    """Revisions of the code that made the records, ten digits each, the oldest record's first."""
    found = list(dict.fromkeys(r.provenance.git_revision[:10] for r in records if r.provenance.git_revision))
    if len(found) < 2:
        return found
    ordered = sorted(records, key=lambda r: r.provenance.ended)
    return list(dict.fromkeys(r.provenance.git_revision[:10] for r in ordered if r.provenance.git_revision))


def _or_none(x: float) -> float | None:
    return None if math.isnan(x) else float(x)


def to_frame(rows: Sequence[Row]) -> Any:
    """A pandas DataFrame with the documented columns."""
    import pandas as pd

    return pd.DataFrame([asdict(r) for r in rows], columns=COLUMNS)


def to_csv(rows: Sequence[Row]) -> str:
    """The same as CSV, whose texts no spreadsheet takes for formulas."""
    text: str = to_frame(rows).map(lambda v: escape.cell(v) if isinstance(v, str) else v).to_csv(index=False)
    return text
