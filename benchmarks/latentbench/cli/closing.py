"""What `latentbench run` shows when its runs are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from latentbench.core.console import note, printable
from latentbench.core.paths import shown
from latentbench.spec.claims import Tier
from latentbench.spec.loading import LoadedSuite

if TYPE_CHECKING:
    from latentbench.results.answered import Answers
    from latentbench.results.by_seed import SeedRow
    from latentbench.results.gather import Gathered
    from latentbench.results.leaderboard import Row
    from latentbench.results.verdicts import ClaimVerdict
    from latentbench.running.settings import Settings


def close(
    loaded: Sequence[LoadedSuite],
    tier_of: Callable[[LoadedSuite], Tier],
    settings: Settings,
    counts: Mapping[str, int],
    seconds: float,
    *,
    quiet: bool,
) -> None:
    """Say how many runs ended how, print leaderboards and verdicts unless `quiet`, and track the former."""
    words = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    total = sum(counts.values())
    note(f"{total} run{'s' if total != 1 else ''} in {seconds:.0f} s: {words}; records in {shown(settings.results)}")
    from latentbench.cli.answering import print_answers
    from latentbench.cli.render import print_impossible, print_leaderboard
    from latentbench.results.answers import answers
    from latentbench.results.gather import gather
    from latentbench.results.leaderboard import leaderboard
    from latentbench.results.verdicts import verdicts

    for one in loaded:
        tier = tier_of(one)
        gathered = gather(one, tier, settings.results)
        if tier == "smoke":
            if not quiet:
                _show_smoke(gathered)
            print_impossible(gathered)
            continue
        rows, judged = leaderboard(gathered), verdicts(gathered)
        if not quiet:
            print_leaderboard(gathered, rows)
            found = answers(gathered, judged, rows)
            click.echo()
            print_answers(found)
            note(_next(found, counts))
        else:
            print_impossible(gathered)
        if settings.wandb != "disabled":
            _track_tables(settings, gathered, rows, judged)


def _show_smoke(gathered: Gathered) -> None:
    """Numbers that say that a suite runs, and nothing else."""
    from latentbench.cli.options import print_table
    from latentbench.results.by_seed import seed_rows

    suite = gathered.loaded.suite
    rows = [
        [r.method, r.dataset, r.metric, _said(r) if r.value is None else f"{r.value:.5g} {_unit(r.unit)}".rstrip()]
        for r in seed_rows(gathered)
    ]
    print_table(
        f"{suite.id}, tier smoke: it runs. These numbers are no result",
        ["method", "dataset", "metric", "value (no result)"],
        rows,
    )
    tier = suite.default_tier
    note(
        "smoke runs prove that a suite runs; they are on no leaderboard and count for no verdict. "
        f"Next: latentbench plan {suite.id} --tier {tier}, latentbench run {suite.id} --tier {tier}"
    )


def _said(row: SeedRow) -> str:
    """Why there is no value: the metric's failure, or what became of the run."""
    return f"failed: {printable(row.failure)}" if row.failure else row.status


def _unit(unit: str | None) -> str:
    return "" if unit in (None, "1") else str(unit)


def _next(found: Answers, counts: Mapping[str, int]) -> str:
    """What to look at now."""
    at = f"{found.suite} --tier {found.tier}"
    look = [f"latentbench verdict {at} --all", f"latentbench leaderboard {at} --per-seed"]
    if "insufficient" in found.counts:
        look.append(f"latentbench plan {at} (what the open claims need)")
    if any(counts.get(word) for word in ("failed", "diverged", "out-of-memory")):
        look.insert(0, f"latentbench status {at} (what failed)")
    return f"next: {'; '.join(look)}"


def _track_tables(settings: Settings, gathered: Gathered, rows: Sequence[Row], judged: Sequence[ClaimVerdict]) -> None:
    """The leaderboard and the verdicts as tables at wandb."""
    from dataclasses import astuple

    from latentbench.results.leaderboard import COLUMNS
    from latentbench.scheduling.tracking import Tracker

    suite, tier = gathered.loaded.suite, gathered.tier
    tracker = Tracker(
        settings.wandb,
        settings.results / "wandb",
        name=f"{suite.id}, {tier}: leaderboard and verdicts",
        group=f"{suite.id} v{suite.version}, {tier}",
        job_type="tables",
        tags=[suite.id, tier, "leaderboard", "verdicts"],
    )
    tracker.table("leaderboard", COLUMNS, [list(astuple(r)) for r in rows])
    columns = ["claim", "kind", "verdict", "estimate", "low", "high", "unit", "n", "needed_n", "text"]
    lines = [
        [v.claim, v.kind, v.verdict, v.estimate, *(v.interval or (None, None)), v.unit, v.n, v.needed_n, v.text]
        for v in judged
    ]
    if lines:
        tracker.table("verdicts", columns, lines)
    tracker.finish({})
