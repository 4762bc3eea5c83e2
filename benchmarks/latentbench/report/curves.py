"""Learning curves of a suite, by dataset: every seed that has one."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass

from latentbench.records.beside import curve_of
from latentbench.records.record import Record
from latentbench.report.plots import Series
from latentbench.results.gather import Gathered
from latentbench.spec.suite import Suite

#: Methods whose learning curves one drawing holds.
MOST_CURVES = 16


@dataclass(frozen=True)
class Bundle:
    """Training losses on one dataset; the tone of a series is the place of its method in `methods`."""

    dataset: str
    series: list[Series]
    methods: list[str]
    seeds: int


def bundles(suite: Suite, gathered: Gathered) -> list[Bundle]:
    """The curves of each dataset that has some, of its first `MOST_CURVES` methods."""
    by_dataset: dict[str, list[tuple[Record, list[tuple[float, float]]]]] = {}
    for cell, record in gathered.collected.found.items():
        text = curve_of(record, gathered.collected.path(cell))
        if text and len(points := curve_points(text)) > 1:
            by_dataset.setdefault(record.dataset, []).append((record, points))
    found = []
    for dataset, each in by_dataset.items():
        methods = list(dict.fromkeys(r.method for r, _ in each))[:MOST_CURVES]
        names = {m: suite.methods[m].label or m for m in methods}
        series = [
            Series(f"{names[r.method]}, seed {r.seed}", methods.index(r.method), points)
            for r, points in each
            if r.method in names
        ]
        found.append(Bundle(dataset, series, list(names.values()), len({r.seed for r, _ in each})))
    return found


def curve_points(text: str) -> list[tuple[float, float]]:
    """Epochs and training losses of a learning curve; a line that is none is passed over."""
    found = []
    for row in csv.DictReader(io.StringIO(text, newline="")):
        try:
            point = float(row["epoch"]), float(row["loss"])
        except (KeyError, TypeError, ValueError):
            continue
        if all(map(math.isfinite, point)):
            found.append(point)
    return found
