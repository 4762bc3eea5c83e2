"""`latentbench status`"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

import click

from latentbench.cli.options import examples, format_option, print_json, print_table, tier_option
from latentbench.core.console import duration, note, printable

if TYPE_CHECKING:
    from latentbench.results.progress import SuiteStatus
    from latentbench.spec.loading import LoadedSuite

#: Between two looks of `--watch`.
WATCH_SECONDS = 5.0


@click.command(
    epilog=examples(
        "status",
        "status iwae --tier cpu --all",
        "status iwae --watch",
        "status iwae --tier cpu --format json",
        "status iwae --store s3://bucket/results",
    ),
)
@click.argument("suites", nargs=-1)
@tier_option("One tier; by default all that a suite has.")
@click.option("--store", metavar="URL", help="Of `run --store`: bring its records, and show what machines are doing.")
@click.option("--watch", is_flag=True, help="Show it again every few seconds, until Ctrl-C.")
@click.option("--all", "everything", is_flag=True, help="Name every run that is stale or to do.")
@format_option("table", "json")
def command(suites: tuple[str, ...], tier: Any, store: str | None, watch: bool, everything: bool, form: str) -> None:
    """Runs done, running, paused, failed, stale and to do, by suite and tier; with a suite named, by method and
    dataset too, and how long the rest will take.

    Reference: those of the done whose record came with the repository; `latentbench run` makes them anew, here.
    Paused: interrupted, and to go on from a checkpoint; they are among those to do. Stale: made by other code than
    today's; the next `latentbench run` makes it anew. Outdated: answers an earlier specification of the suite, metric
    or dataset, and counts for nothing; `status SUITE` says what has changed.
    """
    from latentbench.core.errors import UserError

    if watch and form == "json":
        raise UserError("it is for people", where="--watch", fix="leave out --format json")
    while True:
        found = _look(suites, tier, store)
        if form == "json":
            print_json([vars(s) for _, s in found])
            return
        if watch:
            click.clear()
        _show(found, detailed=bool(suites) or everything, everything=everything)
        if not watch:
            return
        click.echo(f"{time.strftime('%H:%M:%S')}, again in {WATCH_SECONDS:.0f} s; Ctrl-C ends it")
        time.sleep(WATCH_SECONDS)


def _look(suites: tuple[str, ...], tier: Any, store: str | None) -> list[tuple[LoadedSuite, SuiteStatus]]:
    from latentbench.cli.store import existing
    from latentbench.core.paths import results_dir
    from latentbench.results.progress import suite_status
    from latentbench.scheduling.lease import under_way
    from latentbench.scheduling.object_store import Store
    from latentbench.scheduling.transfer import pull_all
    from latentbench.spec.loading import load_suite, suite_files

    shared = Store(results_dir()) if store is None else existing(store)
    if store is not None:
        pull_all(shared, results_dir(), say=lambda fault: note(f"error: {fault}"))
    elsewhere = under_way(shared)
    found = []
    for name in suites or suite_files():
        loaded = load_suite(name)
        tiers = [t for t in loaded.suite.tiers if tier in (None, t)]
        found += [(loaded, suite_status(loaded, t, results_dir(), elsewhere)) for t in tiers]
    return found


def _show(found: list[tuple[LoadedSuite, SuiteStatus]], *, detailed: bool, everything: bool) -> None:
    counted = ["runs", "done", "reference", "running", "paused", "failed", "stale", "to-do", "outdated"]
    columns = ["suite", "tier", *counted]
    rows = []
    for _, s in found:
        lengths = map(len, (s.running, s.paused, s.failed, s.stale, s.to_do, s.outdated))
        rows.append([s.suite, s.tier, s.runs, s.done, s.reference, *lengths])
    print_table("", columns, rows, right=counted, minor=("outdated", "reference"))
    for loaded, s in found if detailed else ():
        _detail(s, everything)
        if s.to_do:
            click.echo(f"left: {s.suite} {s.tier}: {_left(loaded, s)}")


def _left(loaded: LoadedSuite, status: SuiteStatus) -> str:
    """How long the runs to do will take here."""
    from latentbench.core.paths import results_dir
    from latentbench.results.progress import seconds_left

    device = "cuda" if shutil.which("nvidia-smi") else "cpu"  # torch would know, and takes seconds to import
    seconds, untold = seconds_left(loaded, status, results_dir(), device)
    runs = f"{len(status.to_do)} run{'s' if len(status.to_do) != 1 else ''}"
    if untold == len(status.to_do):
        return f"{runs}; no record tells how long they take"
    more = f", and {untold} runs of which no record tells" if untold else ""
    return f"{runs}, about {duration(seconds)} one after another{more}"


def _detail(status: SuiteStatus, everything: bool) -> None:
    """What runs and what failed, run by run; what is stale or to do by method and dataset, or run by run too."""
    for word in ("running", "failed"):
        for cell in getattr(status, word):
            click.echo(printable(f"{word}: {status.suite} {cell}"))
    for cell, step in status.paused.items():
        click.echo(printable(f"paused: {status.suite} {cell}: goes on from step {step:,}"))
    for word in ("stale", "to_do"):
        cells: list[str] = getattr(status, word)
        label = f"{word.replace('_', ' ')}: {status.suite}"
        if everything:
            for cell in cells:
                click.echo(printable(f"{label} {cell}"))
            continue
        for group, seeds in _by_cell(cells).items():
            click.echo(printable(f"{label} {group}: {len(seeds)} seed{'s' * (len(seeds) != 1)} ({_brief(seeds)})"))
    for run, why in status.outdated.items():
        click.echo(printable(f"outdated: {status.suite} {run}: {why}"))


def _by_cell(cells: list[str]) -> dict[str, list[str]]:
    """Seeds (``s0``) by method, dataset and tier (``wide--line--cpu``)."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        group, _, seed = cell.rpartition("--")
        found.setdefault(group, []).append(seed)
    return found


def _brief(seeds: list[str]) -> str:
    """Names of a few, ends of many."""
    return ", ".join(seeds) if len(seeds) <= 5 else f"{seeds[0]} … {seeds[-1]}"
