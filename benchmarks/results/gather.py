"""A suite's plan and records side by side: what leaderboards and verdicts are made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.planning.plan import RunSpec, plan
from benchmarks.records.archive import Shelf, collect
from benchmarks.records.record import Record
from benchmarks.spec.loading import LoadedSuite
from benchmarks.spec.suite import Tier

#: Tiers whose numbers count, the most faithful first. Smoke runs prove that a suite runs, and nothing else.
RANKED: tuple[Tier, ...] = ("paper", "cpu")


@dataclass(frozen=True)
class Gathered:
    """One suite at one tier."""

    loaded: LoadedSuite
    tier: Tier
    runs: list[RunSpec]
    shelf: Shelf

    def records(self, method: str, dataset: str) -> list[Record]:
        """Records of a method on a dataset, in the order of their seeds, failed ones included."""
        return [r for r in self.shelf.found.values() if (r.method, r.dataset) == (method, dataset)]


def gather(loaded: LoadedSuite, tier: Tier, results: Path | None = None) -> Gathered:
    """The records that count for a suite at a tier. Seeds beyond the tier's own count too."""
    runs = plan(loaded, tier)
    seeds = {r.seed for r in runs} | _seeds_on_disk(loaded.suite.id, tier, results)
    return Gathered(loaded, tier, runs, collect(plan(loaded, tier, seeds=sorted(seeds)), results))


def best_tier(loaded: LoadedSuite, results: Path | None = None) -> Tier | None:
    """The most faithful tier with records that count, smoke never."""
    for tier in RANKED:
        if tier in loaded.suite.tiers and has_records(loaded.suite.id, tier, results):
            return tier
    return None


def _names(suite: str, results: Path | None) -> list[str]:
    from benchmarks.records.archive import record_paths

    return [p.parent.name if p.name == "record.json" else p.stem for p in record_paths(suite, results)]


def has_records(suite: str, tier: Tier, results: Path | None = None) -> bool:
    """Whether any record of this tier lies on disk, judged by its name."""
    return any(f"--{tier}--" in name for name in _names(suite, results))


def _seeds_on_disk(suite: str, tier: Tier, results: Path | None) -> set[int]:
    found = set()
    for name in _names(suite, results):
        parts = name.split("--")
        if len(parts) >= 4 and parts[-3] == tier and parts[-2][:1] == "s" and parts[-2][1:].isdigit():
            found.add(int(parts[-2][1:]))
    return found
