"""What `latentbench run` shows when its runs are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from latentbench.core.console import note
from latentbench.core.paths import shown
from latentbench.spec.claims import Tier
from latentbench.spec.loading import LoadedSuite

if TYPE_CHECKING:
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
    from latentbench.cli.render import print_impossible, print_leaderboard, print_verdicts
    from latentbench.results.gather import gather
    from latentbench.results.leaderboard import leaderboard
    from latentbench.results.verdicts import verdicts

    smoke = False
    for one in loaded:
        tier = tier_of(one)
        if tier == "smoke":
            smoke = True
            print_impossible(gather(one, tier, settings.results))
            continue
        gathered = gather(one, tier, settings.results)
        rows = leaderboard(gathered)
        if not quiet:
            print_leaderboard(gathered, rows)
            print_verdicts(verdicts(gathered))
        else:
            print_impossible(gathered)
        _track_leaderboard(settings, one.suite.id, tier, rows)
    if smoke and not quiet:
        note("smoke runs prove that a suite runs; they are on no leaderboard and count for no verdict")


def _track_leaderboard(settings: Settings, suite: str, tier: str, rows: Sequence[object]) -> None:
    """The leaderboard as a wandb table."""
    from dataclasses import astuple

    from latentbench.results.leaderboard import COLUMNS
    from latentbench.scheduling.tracking import Tracker

    tracker = Tracker(
        settings.wandb,
        settings.results / "wandb",
        name=f"{suite}-{tier}-leaderboard",
        group=suite,
        job_type="leaderboard",
        tags=[suite, tier, "leaderboard"],
    )
    tracker.table("leaderboard", COLUMNS, [list(astuple(r)) for r in rows])  # type: ignore[call-overload]
    tracker.finish({})
