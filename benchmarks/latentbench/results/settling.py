"""Adding seeds until every claim is settled or a cap is reached: which runs come next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from latentbench.core.errors import UserError
from latentbench.core.paths import shown
from latentbench.planning.plan import RunSpec, plan
from latentbench.records.declared import declare, declared_path, read_declared
from latentbench.records.design import Declared
from latentbench.results.designs import DEFAULT_CAP, first_analysis
from latentbench.results.gather import Gathered, gather
from latentbench.results.interim import analyses_made, schedule_of
from latentbench.results.verdicts import ClaimVerdict, verdicts
from latentbench.spec.claims import Tier, is_judged, pairs_of
from latentbench.spec.loading import LoadedSuite
from latentbench.stats.sequential import Schedule

SETTLED = ("reproduced", "better", "not-reproduced", "holds", "fails", "not-tested", "impossible")
"""Verdicts that more seeds are not run for: those that seeds have settled, and those that no number of seeds mends."""


@dataclass(frozen=True)
class Standing:
    """How a suite stands after the interim analyses so far.

    Attributes:
        claims: those that are judged at this tier.
        unsettled: those of them that no verdict settles.
        runs: what the next analysis of those needs, within the cap; empty where nothing is left to do.
        seeds: the largest next analysis; 0 without any.
    """

    claims: list[ClaimVerdict]
    unsettled: list[ClaimVerdict]
    runs: list[RunSpec]
    seeds: int

    def __str__(self) -> str:
        settled = len(self.claims) - len(self.unsettled)
        said = f"{settled} of {len(self.claims)} claims settled"
        if self.runs:
            runs = f"{len(self.runs)} run{'s' if len(self.runs) > 1 else ''}"
            return f"{said}; next: {runs}, up to {self.seeds} seeds of a method"
        return said if not self.unsettled else f"{said}; no further analysis of the others lies within the cap"


def declaration(loaded: LoadedSuite, tier: Tier, cap: int | None, results: Path) -> Declared:
    """The declaration of a suite at a tier, written now if there is none.

    Raises:
        UserError: the tier has no claims to settle, the cap is below the first analysis, or the file cannot be written.
    """
    if (found := read_declared(loaded.suite.id, tier, results)) is not None:
        return found
    new = drafted(loaded, tier, cap)
    there = len(gather(loaded, tier, results).collected.found)
    return declare(new.model_copy(update={"there": there}), results)


def drafted(loaded: LoadedSuite, tier: Tier, cap: int | None) -> Declared:
    """What would be declared now; nothing is written. Raises as `declaration` does."""
    suite = loaded.suite
    if tier not in suite.tiers:
        raise loaded.file.error(f"no tier {tier!r}", ("tiers",), "it has " + ", ".join(suite.tiers))
    if tier == "smoke" or not any(is_judged(c, tier) for c in suite.claims):
        raise UserError(
            f"suite {suite.id!r} has no claim that is judged at tier {tier!r}",
            where="--until-settled",
            fix="use another tier, or run it without",
        )
    seeds = suite.tiers[tier].seeds
    first = first_analysis(suite, tier)
    schedule = Schedule(first, max(first, DEFAULT_CAP) if cap is None else cap)
    return Declared(
        suite=suite.id,
        version=suite.version,
        tier=tier,
        declared=datetime.now(UTC).isoformat(timespec="seconds"),
        seeds=seeds,
        first=first,
        cap=schedule.cap,
        there=0,
    )


def first_runs(
    loaded: LoadedSuite, declared: Declared, methods: Sequence[str] = (), datasets: Sequence[str] = ()
) -> list[RunSpec]:
    """The runs of the first analysis: all methods, in no claim or in many."""
    seeds = declared.order(declared.first)
    return plan(loaded, declared.tier, seeds=seeds, methods=methods, datasets=datasets)


def standing(
    loaded: LoadedSuite,
    tier: Tier,
    cap: int | None,
    results: Path,
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
) -> Standing:
    """Judge the claims at the analyses that the records complete, and plan the next analysis of the unsettled ones.

    Args:
        loaded, tier: a suite with a declaration.
        cap: seeds of a method at most; the declared cap if None. Beyond that one, analyses have little alpha left.
        results: where the records are.
        methods, datasets: names or patterns that runs are kept to.
    """
    found = gather(loaded, tier, results)
    judged = [v for v in verdicts(found) if not v.information]
    unsettled = [v for v in judged if v.verdict not in SETTLED]
    wanted = _next_looks(found, {v.claim for v in unsettled}, cap)
    kept = {(r.method, r.dataset) for r in plan(loaded, tier, methods=methods, datasets=datasets)}
    runs = [
        run
        for (method, dataset), n in wanted.items()
        if (method, dataset) in kept
        for run in plan(loaded, tier, seeds=_seeds(found, n), methods=[method], datasets=[dataset])
        if run.cell not in found.collected.found and not (run.exact and found.records(method, dataset))
    ]
    return Standing(judged, unsettled, runs, max(wanted.values(), default=0) if runs else 0)


def _seeds(found: Gathered, n: int) -> list[int]:
    assert found.declared is not None
    return found.declared.order(n)


def _next_looks(found: Gathered, unsettled: set[str], cap: int | None) -> dict[tuple[str, str], int]:
    """For each method and dataset of the unsettled claims, the seeds of the next analysis within the cap."""
    declared = found.declared
    assert declared is not None
    analyses = schedule_of(declared).within(declared.cap if cap is None else cap)
    wanted: dict[tuple[str, str], int] = {}
    for claim in found.loaded.suite.claims:
        if claim.id in unsettled and len(made := analyses_made(claim, found)) < len(analyses):
            for at in pairs_of(claim):
                wanted[at] = max(wanted.get(at, 0), analyses[len(made)].seeds)
    return wanted


def where_declared(declared: Declared, results: Path) -> str:
    """The declaration's file, for a message."""
    return shown(declared_path(declared.suite, declared.tier, results))
