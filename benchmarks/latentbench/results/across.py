"""Leaderboards across suites: every method that was measured by the same yardstick on the same data, whatever paper it
is from.

Rows stand in one table where their metric's identity is the same: metric, version and settings, the data's content,
the test rows, and the preprocessing that decides which quantity is measured. What else a paper did (training, tier)
may differ and stands beside the number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from latentbench.records.record import Record
from latentbench.results.gather import Gathered
from latentbench.results.leaderboard import Row
from latentbench.spec.registry import find_metric
from latentbench.stats.samples import Sample, differences


@dataclass(frozen=True)
class Measure:
    """What the numbers of a table are of, in words.

    Attributes:
        source: the dataset, by its name in the registry.
        quantity: the metric, by its registered name.
        likelihood: its kind; empty for what is no likelihood.
        settings: of the metric.
        test: the test rows, as a split expression.
        rows: how many of them were measured; None where the metric does not say.
        preprocessing: the steps.
    """

    source: str
    quantity: str
    likelihood: str
    settings: str
    test: str
    rows: int | None
    preprocessing: str


@dataclass(frozen=True)
class Board:
    """One table: rows of all suites, best first, marked anew over all of them."""

    measure: Measure
    identity: str
    unit: str
    better: str
    rows: list[Row]

    @property
    def suites(self) -> list[str]:
        return list(dict.fromkeys(r.suite for r in self.rows))


def boards(found: Iterable[tuple[Gathered, Iterable[Row]]]) -> list[Board]:
    """The tables of several suites, those with most suites and methods first within a dataset and quantity.

    Args:
        found: suites at their tiers, each with those rows of its leaderboard that are wanted.
    """
    kept: dict[tuple[str, str], list[Row]] = {}
    samples: dict[int, Sample] = {}
    records: dict[tuple[str, str], Record] = {}
    for gathered, rows in found:
        for row in rows:
            key = (row.quantity, row.identity)
            kept.setdefault(key, []).append(row)
            there = gathered.records(row.method, row.dataset)
            samples[id(row)] = _sample(row, there)
            if key not in records:
                records[key] = next(r for r in there if _measured(r, row))
    made = [
        Board(_measure(alike[0], records[key]), key[1], alike[0].unit, alike[0].better, _ranked(alike, samples))
        for key, alike in kept.items()
    ]
    return sorted(made, key=lambda b: (b.measure.source, b.measure.quantity, -len(b.suites), -len(b.rows), b.identity))


def _measured(record: Record, row: Row) -> bool:
    return any(m.name == row.metric and m.identity == row.identity for m in record.metrics)


def _sample(row: Row, records: Iterable[Record]) -> Sample:
    values, exact = {}, False
    for record in records:
        one = record.value(row.metric)
        exact = exact or record.exact
        if one is not None and one.identity == row.identity and one.value is not None:
            values[record.seed] = one.value
    counts = find_metric(row.quantity).counts
    return Sample.of(values, deterministic=True if exact else False if counts else None)


def _ranked(rows: Sequence[Row], samples: Mapping[int, Sample]) -> list[Row]:
    """Best first, marked over all suites; seeds are paired within a suite alone."""
    sign = -1 if rows[0].better == "higher" else 1
    ordered = sorted(
        rows, key=lambda r: (bool(r.impossible) or r.refused, r.mean is None, sign * (r.mean or 0.0), r.suite, r.method)
    )
    marks = dict.fromkeys(map(id, ordered), "")
    able = [r for r in ordered if r.mean is not None and not (r.impossible or r.refused)]
    if len(able) > 1 and not any(samples[id(r)].blind for r in able):
        top, *others = able
        against = [s if r.suite == top.suite else replace(s, seeded=False) for r in others for s in [samples[id(r)]]]
        gaps = differences(samples[id(top)], against)
        tied = [r for r, (low, high) in zip(others, gaps, strict=True) if not (low > 0 or high < 0)]
        for row in (top, *tied):
            marks[id(row)] = "tied" if tied else "best"
    return [replace(r, mark=marks[id(r)]) for r in ordered]


def _measure(row: Row, record: Record) -> Measure:
    data = record.spec.get("data", {})
    asked: Mapping[str, Any] = next((m for m in record.spec.get("metrics", ()) if m.get("key") == row.metric), {})
    measured = next(m for m in record.metrics if m.name == row.metric)
    limit = data.get("limit", {}).get("test")
    test = data.get("split", {}).get("test", "")
    return Measure(
        source=row.source,
        quantity=row.quantity,
        likelihood=row.likelihood,
        settings=_pairs(asked.get("settings", {})),
        test=test if limit is None else f"first {limit:,} of {test}",
        rows=measured.n,
        preprocessing=steps(data.get("preprocess", ())),
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in sorted(values.items()))


def steps(preprocess: Iterable[str | Mapping[str, Any]]) -> str:
    """Steps of preprocessing in words: ``dequantise, logit=0.05``."""
    return ", ".join(s if isinstance(s, str) else _pairs(s) for s in preprocess) or "none"


#: What a table is of -> what readers call it.
_ASPECTS = {
    "source": "dataset",
    "likelihood": "likelihood",
    "settings": "settings",
    "test": "test rows",
    "preprocessing": "preprocessing",
}


def apart(found: Sequence[Board]) -> dict[str, list[str]]:
    """What differs between tables of one quantity, so that they cannot be ranked together: aspect -> its values.

    Steps of preprocessing that leave the measured quantity as it is may be among them.
    """
    said: dict[str, list[str]] = {}
    for attribute, name in _ASPECTS.items():
        values = list(dict.fromkeys(str(getattr(b.measure, attribute)) or "none" for b in found))
        if len(values) > 1:
            said[name] = values
    return said
