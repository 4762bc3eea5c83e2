"""A suite's plan and records side by side: what leaderboards and verdicts are made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from latentbench.core.bounds import whole_number
from latentbench.planning.plan import RunSpec, plan
from latentbench.records.archive import Collected, collect, record_files
from latentbench.records.declared import read_declared
from latentbench.records.design import Declared
from latentbench.records.known import Read, as_read, like, seed_of
from latentbench.records.record import Record
from latentbench.results.possible import Cell, Impossible, impossible
from latentbench.spec.claims import Tier
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.suite import LARGEST_SEED

#: Tiers whose numbers count, the most faithful first. Smoke runs prove that a suite runs, and nothing else.
RANKED: tuple[Tier, ...] = ("paper", "cpu")


@dataclass(frozen=True)
class Gathered:
    """One suite at one tier.

    Attributes:
        declared: where its seeds are added until its claims are settled.
        refuses_mixed: means over several environments (`latentbench.results.environments`) bear no mark and no verdict.
        environment: the one that all records are of, in words, where there are others; else empty.
    """

    loaded: LoadedSuite
    tier: Tier
    runs: list[RunSpec]
    collected: Collected
    declared: Declared | None = None
    refuses_mixed: bool = False
    environment: str = ""

    def records(self, method: str, dataset: str) -> list[Record]:
        """Records of a method on a dataset, in the order of their seeds, failed ones included."""
        pair = method, dataset
        if pair not in self._made:
            self._made[pair] = [self.collected.found[cell] for cell in self._by_pair.get(pair, ())]
        return self._made[pair]

    def stale(self, method: str, dataset: str) -> int:
        """How many of them were made by other code than today's."""
        return self._stale[method, dataset]

    def missing(self, method: str, dataset: str) -> int:
        """How many planned seeds have no record that counts."""
        return self._missing[method, dataset]

    @cached_property
    def impossible(self) -> dict[Cell, Impossible]:
        """Numbers that cannot be, by method, dataset and the suite's name of the metric."""
        return impossible(self.as_read.values())

    @property
    def as_read(self) -> Mapping[str, Read]:
        """The records that count, by cell, as yet unmade where nobody has asked for them."""
        return as_read(self.collected.found)

    @cached_property
    def _stale(self) -> Counter[tuple[str, str]]:
        found = (like(self.as_read[cell]) for cell in self.collected.stale_code)
        return Counter((r.method, r.dataset) for r in found)

    @cached_property
    def _missing(self) -> Counter[tuple[str, str]]:
        return Counter((r.method, r.dataset) for r in self.runs if r.cell not in self.collected.found)

    @cached_property
    def _by_pair(self) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        for cell, one in sorted(self.as_read.items(), key=lambda each: seed_of(each[1])):
            record = like(one)
            found.setdefault((record.method, record.dataset), []).append(cell)
        return found

    @cached_property
    def _made(self) -> dict[tuple[str, str], list[Record]]:
        return {}


def gather(loaded: LoadedSuite, tier: Tier, results: Path | None = None) -> Gathered:
    """The records that count for a suite at a tier. Seeds beyond the tier's own count too."""
    runs = plan(loaded, tier)
    further = seeds_on_disk(loaded.suite.id, tier, results) - {r.seed for r in runs}
    # one by one, for an exact method has one run, under whichever seed came first
    more = [run for seed in sorted(further) for run in plan(loaded, tier, seeds=[seed])]
    collected = collect([*runs, *more], results)
    _say_once(collected, [r for r in (*runs, *more) if r.exact])
    return Gathered(loaded, tier, runs, collected, _declared(loaded.suite.id, tier, collected, results))


def _declared(suite: str, tier: Tier, collected: Collected, results: Path | None) -> Declared | None:
    """The first declaration that there is, or that a record was made under: a folder may have lost its own."""
    designs = (like(one).provenance.design for one in as_read(collected.found).values())
    found = {d.declared: d for d in designs if isinstance(d, Declared) and (d.suite, d.tier) == (suite, tier)}
    if (own := read_declared(suite, tier, results)) is not None:
        found.setdefault(own.declared, own)
    return found[min(found)] if found else None


def _say_once(collected: Collected, exact: list[RunSpec]) -> None:
    """Keep one record of each exact method, which says the same under every seed; a finished one if there is one."""
    kept: dict[tuple[str, str], str] = {}
    for run in sorted(
        (r for r in exact if r.cell in collected.found), key=lambda r: collected.found[r.cell].status != "finished"
    ):
        if kept.setdefault((run.method, run.dataset), run.cell) != run.cell:
            del collected.found[run.cell], collected.files[run.cell]
    collected.stale_code = [cell for cell in collected.stale_code if cell in collected.found]


def best(loaded: LoadedSuite, results: Path | None = None) -> Gathered | None:
    """The suite at its most faithful tier with records that count, smoke never."""
    return next(with_records(loaded, results), None)


def with_records(loaded: LoadedSuite, results: Path | None = None) -> Iterator[Gathered]:
    """The suite at each tier with records that count, the most faithful first, smoke never."""
    for tier in RANKED:
        if tier in loaded.suite.tiers and has_records(loaded.suite.id, tier, results):
            found = gather(loaded, tier, results)
            if found.collected.found:
                yield found


def best_tier(loaded: LoadedSuite, results: Path | None = None) -> Tier | None:
    """The most faithful tier with records that count, smoke never."""
    found = best(loaded, results)
    return None if found is None else found.tier


def has_records(suite: str, tier: Tier, results: Path | None = None) -> bool:
    """Whether any record of this tier lies on disk, judged by its name."""
    return any(f"--{tier}--" in name for name, _ in record_files(suite, results, tiers=(tier,)))


def seeds_on_disk(suite: str, tier: Tier, results: Path | None) -> set[int]:
    """The seeds that records of a suite at a tier have, by their names."""
    ends = (name.rsplit("--", 3) for name, _ in record_files(suite, results, tiers=(tier,)))
    said = {parts[2] for parts in ends if len(parts) == 4 and parts[1] == tier}
    seeds = (whole_number(text[1:]) for text in said if text.startswith("s"))
    return {seed for seed in seeds if seed is not None and seed <= LARGEST_SEED}
