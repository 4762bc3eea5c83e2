"""What a report is about, read once: suites with their records, rows and verdicts at each tier, and the catalogue."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from latentbench.core.errors import UserError
from latentbench.records.record import Record
from latentbench.results.answered import tallied
from latentbench.results.gather import Gathered, with_records
from latentbench.results.leaderboard import Row, leaderboard
from latentbench.results.verdicts import ClaimVerdict, verdicts
from latentbench.spec import standing
from latentbench.spec.claims import Claim
from latentbench.spec.files import notes
from latentbench.spec.loading import LoadedSuite, load_suite, suite_files
from latentbench.spec.papers import PaperEntry, catalogue


@dataclass(frozen=True)
class TierFindings:
    """A suite at one tier that has records."""

    gathered: Gathered
    rows: list[Row]
    verdicts: list[ClaimVerdict]

    @property
    def tier(self) -> str:
        return self.gathered.tier

    @cached_property
    def by_claim(self) -> dict[str, ClaimVerdict]:
        return {v.claim: v for v in self.verdicts}

    @cached_property
    def row_of(self) -> dict[tuple[str, str, str], Row]:
        """The row of a method, dataset and metric; of several identities the first."""
        found: dict[tuple[str, str, str], Row] = {}
        for row in self.rows:
            found.setdefault((row.method, row.dataset, row.metric), row)
        return found

    @property
    def records(self) -> list[Record]:
        return list(self.gathered.collected.found.values())

    def values(self, method: str, dataset: str, metric: str, identity: str | None = None) -> dict[int, float]:
        """A metric by seed, of one identity where it is named."""
        found = {}
        for record in self.gathered.records(method, dataset):
            measured = record.value(metric)
            if measured is not None and measured.value is not None and identity in (None, measured.identity):
                found[record.seed] = measured.value
        return found


@dataclass(frozen=True)
class SuiteFindings:
    """A suite with its tiers that have records, the most faithful first."""

    loaded: LoadedSuite
    tiers: list[TierFindings]
    notes: str | None = None

    @property
    def id(self) -> str:
        return self.loaded.suite.id

    @property
    def best(self) -> TierFindings | None:
        return self.tiers[0] if self.tiers else None

    def verdict(self, claim: Claim) -> ClaimVerdict | None:
        """What is known of a claim: judged at the most faithful tier that settles it, else that has a number for it."""
        found = [t.by_claim[claim.id] for t in self.tiers if claim.id in t.by_claim]
        judged = [v for v in found if not v.information and v.n]
        told = judged or [v for v in found if v.n] or found
        return told[0] if told else None

    @cached_property
    def standing(self) -> list[ClaimVerdict | None]:
        """The verdict of each claim, in the suite's order."""
        return [self.verdict(c) for c in self.loaded.suite.claims]

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many claims have each verdict at the most faithful tier, as `latentbench scoreboard` counts them."""
        if self.best is not None:
            return tallied(self.best.verdicts)[0]
        asked = sum(not c.sanity for c in self.loaded.suite.claims)
        return {"not-run": asked} if asked else {}

    @property
    def newest(self) -> str:
        """When the last of its records was made; empty where there is none."""
        return max((r.provenance.ended for t in self.tiers for r in t.records), default="")


@dataclass(frozen=True)
class Paper:
    """A paper of the catalogue, a suite, or both."""

    id: str
    entry: PaperEntry | None
    state: str
    found: SuiteFindings | None = None

    @property
    def title(self) -> str:
        if self.entry is not None:
            return self.entry.title
        return self.found.loaded.suite.paper.title if self.found is not None else self.id

    @property
    def year(self) -> int | None:
        if self.found is not None:
            return self.found.loaded.suite.paper.year
        return self.entry.year if self.entry is not None else None

    @property
    def family(self) -> str:
        return self.entry.family if self.entry is not None else "own"


@dataclass(frozen=True)
class Findings:
    """See the module. `left_out` says which suites could not be read, and why."""

    papers: list[Paper]
    left_out: list[str] = field(default_factory=list)

    @property
    def suites(self) -> list[SuiteFindings]:
        return [p.found for p in self.papers if p.found is not None]

    @cached_property
    def by_id(self) -> dict[str, Paper]:
        return {p.id: p for p in self.papers}


def read_findings(suites: Sequence[str] = (), results: Path | None = None) -> Findings:
    """Read suites and records.

    Args:
        suites: names or files; all there are, and the catalogue, where none is named.
        results: a folder of results other than the project's own.

    Raises:
        UserError: a suite that is named cannot be read.
    """
    gc.disable()  # thousands of records that all stay until the end: looking for garbage takes a third of the time
    found: dict[str, SuiteFindings] = {}
    left_out: list[str] = []
    for name in suites or suite_files():
        try:
            loaded = load_suite(name)
            found[loaded.suite.id] = _suite(loaded, results)
        except UserError as e:
            if suites:
                raise
            left_out.append(str(e))
    states: dict[str, str] = dict(standing.states())
    entries = {e.id: e for e in catalogue()}
    names = list(found) if suites else [*entries, *(i for i in found if i not in entries)]
    return Findings([Paper(i, entries.get(i), states.get(i, "no suite"), found.get(i)) for i in names], left_out)


def _suite(loaded: LoadedSuite, results: Path | None) -> SuiteFindings:
    tiers = [TierFindings(g, leaderboard(g), verdicts(g)) for g in with_records(loaded, results)]
    return SuiteFindings(loaded, tiers, notes(loaded.path))
