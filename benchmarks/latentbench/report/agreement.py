"""How alike a suite's metrics order its runs: Spearman's rank correlation of each two over all methods and seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from latentbench.report.findings import TierFindings
from latentbench.spec.suite import Suite
from latentbench.stats.ranks import rank_correlation

#: Fewer say nothing about metrics.
LEAST_METHODS, LEAST_METRICS = 6, 3


@dataclass(frozen=True)
class Agreement:
    """The metrics of a dataset against each other; in `rho` None where too few runs have both, or one is constant."""

    dataset: str
    metrics: list[str]
    rho: list[list[float | None]]
    runs: int
    methods: int


def agreements(suite: Suite, tier: TierFindings) -> list[Agreement]:
    """A matrix for each dataset with metrics and methods enough, positive where both find the same runs better.

    Each two metrics are compared over the runs that have both, baselines' too.
    """
    found = []
    for dataset in suite.datasets:
        each = {m: _values(suite, tier, dataset, m) for m in suite.metrics}
        values = {m: v for m, v in each.items() if len({method for method, _ in v}) >= LEAST_METHODS}
        methods = {method for v in values.values() for method, _ in v}
        if len(values) < LEAST_METRICS:
            continue
        rho = [[_rho(values[a], values[b]) for b in values] for a in values]
        runs = len({run for v in values.values() for run in v})
        found.append(Agreement(dataset, list(values), rho, runs, len(methods)))
    return found


def _values(suite: Suite, tier: TierFindings, dataset: str, metric: str) -> dict[tuple[str, int], float]:
    """By method and seed, larger for better; of the first identity that has a row, and of none that cannot be."""
    first = next((r for r in tier.rows if (r.dataset, r.metric) == (dataset, metric)), None)
    if first is None:
        return {}
    sign = 1.0 if first.better == "higher" else -1.0
    known = [m for m in suite.methods if (m, dataset, metric) in tier.row_of]
    methods = [m for m in known if (m, dataset, metric) not in tier.gathered.impossible]
    by_method = {m: tier.values(m, dataset, metric, first.identity) for m in methods}
    return {(m, seed): sign * x for m, by_seed in by_method.items() for seed, x in by_seed.items()}


def _rho(first: dict[tuple[str, int], float], second: dict[tuple[str, int], float]) -> float | None:
    runs = [run for run in first if run in second]
    if len({method for method, _ in runs}) < LEAST_METHODS:
        return None
    rho = rank_correlation([first[run] for run in runs], [second[run] for run in runs])
    return None if math.isnan(rho) else rho
