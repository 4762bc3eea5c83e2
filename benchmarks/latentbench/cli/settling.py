"""`latentbench run --until-settled`: interim analyses declared, first runs, and further ones while claims are open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from latentbench.core.console import note
from latentbench.planning.plan import RunSpec
from latentbench.records.declared import read_declared
from latentbench.results import settling
from latentbench.spec.claims import Tier
from latentbench.spec.loading import LoadedSuite

TierOf = Callable[[LoadedSuite], Tier]


def first_runs(
    loaded: Sequence[LoadedSuite],
    tier_of: TierOf,
    cap: int | None,
    results: Path,
    methods: Sequence[str],
    datasets: Sequence[str],
) -> list[list[RunSpec]]:
    """The runs of each suite's first analysis; nothing is written."""
    return [
        settling.first_runs(
            one,
            read_declared(one.suite.id, tier_of(one), results) or settling.drafted(one, tier_of(one), cap),
            methods,
            datasets,
        )
        for one in loaded
    ]


def declare_analyses(loaded: Sequence[LoadedSuite], tier_of: TierOf, cap: int | None, results: Path) -> None:
    """Write down the analyses, before anything is run, and say which they are."""
    for one in loaded:
        declared = settling.declaration(one, tier_of(one), cap, results)
        analyses = settling.schedule_of(declared).within(max(declared.cap, cap or 0))
        note(
            f"{one.suite.id}: judged sequentially at {', '.join(str(analysis.seeds) for analysis in analyses)} seeds, "
            f"as declared in {settling.where_declared(declared, results)}"
        )
        if cap is not None and cap > declared.cap:
            note(f"{one.suite.id}: the cap was declared as {declared.cap}; analyses beyond it have little alpha left")


def further_runs(
    loaded: Sequence[LoadedSuite],
    tier_of: TierOf,
    cap: int | None,
    results: Path,
    methods: Sequence[str],
    datasets: Sequence[str],
) -> Iterator[list[RunSpec]]:
    """The runs of each next analysis, until a suite is settled or its cap reached; then those of the next."""
    for one in loaded:
        done: set[str] = set()
        while True:
            now = settling.standing(one, tier_of(one), cap, results, methods, datasets)
            note(f"{one.suite.id}: {now}")
            if not (more := [run for run in now.runs if run.cell not in done]):  # one that fails is not tried for ever
                break
            done |= {run.cell for run in more}
            yield more
