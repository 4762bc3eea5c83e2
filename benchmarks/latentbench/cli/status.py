"""`latentbench status`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from latentbench.cli.options import examples, format_option, print_json, print_table, tier_option
from latentbench.core.console import note, printable

if TYPE_CHECKING:
    from latentbench.results.progress import SuiteStatus


@click.command(
    epilog=examples(
        "status",
        "status iwae --tier cpu --all",
        "status iwae --tier cpu --format json",
        "status iwae --store s3://bucket/results",
    ),
)
@click.argument("suites", nargs=-1)
@tier_option("One tier; by default all that a suite has.")
@click.option("--store", metavar="URL", help="Of `run --store`: bring its records, and show what machines are doing.")
@click.option("--all", "everything", is_flag=True, help="Name every run that is stale or to do.")
@format_option("table", "json")
def command(suites: tuple[str, ...], tier: Any, store: str | None, everything: bool, form: str) -> None:
    """Runs done, running, failed, stale and to do, by suite and tier; with a suite named, by method and dataset too.

    Reference: those of the done whose record came with the repository; `latentbench run` makes them anew, here.
    Stale: made by other code than today's; the next `latentbench run` makes it anew. Outdated: answers an earlier
    specification of the suite, metric or dataset, and counts for nothing; `status SUITE` says what has changed.
    """
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
        found += [suite_status(loaded, t, results_dir(), elsewhere) for t in tiers]
    if form == "json":
        print_json([vars(s) for s in found])
        return
    columns = ["suite", "tier", "runs", "done", "reference", "running", "failed", "stale", "to do", "outdated"]
    print_table(
        "",
        columns,
        [
            [
                s.suite,
                s.tier,
                s.runs,
                s.done,
                s.reference,
                len(s.running),
                len(s.failed),
                len(s.stale),
                len(s.to_do),
                len(s.outdated),
            ]
            for s in found
        ],
        right=columns[2:],
    )
    if suites or everything:
        for s in found:
            _detail(s, everything)


def _detail(status: SuiteStatus, everything: bool) -> None:
    """What runs and what failed, run by run; what is stale or to do by method and dataset, or run by run too."""
    for word in ("running", "failed"):
        for cell in getattr(status, word):
            click.echo(printable(f"{word}: {status.suite} {cell}"))
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
