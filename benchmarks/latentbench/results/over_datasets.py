"""A suite's methods over its datasets: their ranks, where all were measured on all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from latentbench.results.leaderboard import Row
from latentbench.stats.ranks import MeanRanks, mean_ranks

#: Fewer datasets or methods than these have no ranks to speak of.
LEAST_DATASETS = 3
LEAST_METHODS = 3


@dataclass(frozen=True)
class OverDatasets:
    """One metric of one suite at one tier.

    Attributes:
        datasets: the suite's names of them.
        methods: a row of each method, in the order of `ranks`, the best mean rank first.
        ranks: of the means over seeds.
    """

    datasets: list[str]
    methods: list[Row]
    ranks: MeanRanks


def over_datasets(rows: Iterable[Row]) -> list[OverDatasets]:
    """What can be ranked over datasets in a suite's leaderboard.

    A dataset counts where its numbers are of one identity, a method where it has a possible number on each dataset
    that counts.
    """
    by_metric: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, {}).setdefault(row.dataset, []).append(row)
    tables = (_whole(by_dataset) for by_dataset in by_metric.values())
    return [_ranked(table) for table in tables if table]


def _whole(by_dataset: dict[str, list[Row]]) -> dict[str, dict[str, Row]]:
    """Rows by dataset and method without a gap; empty where too few are left."""
    sound: dict[str, dict[str, Row]] = {}
    for dataset, rows in by_dataset.items():
        known = {r.method: r for r in rows if r.mean is not None and not (r.impossible or r.refused)}
        if len({r.identity for r in rows}) == 1 and len(known) >= LEAST_METHODS:
            sound[dataset] = known
    if len(sound) < LEAST_DATASETS:
        return {}
    everywhere = set.intersection(*(set(known) for known in sound.values()))
    if len(everywhere) < LEAST_METHODS:
        return {}
    return {d: {m: row for m, row in known.items() if m in everywhere} for d, known in sound.items()}


def _ranked(table: dict[str, dict[str, Row]]) -> OverDatasets:
    first = next(iter(table.values()))
    names = sorted(first)
    means = [[mean for m in names if (mean := known[m].mean) is not None] for known in table.values()]
    found = mean_ranks(means, "lower" if first[names[0]].better == "lower" else "higher")
    order = sorted(range(len(names)), key=lambda i: found.means[i])
    return OverDatasets(list(table), [first[names[i]] for i in order], replace(found, ranks=found.ranks[:, order]))
