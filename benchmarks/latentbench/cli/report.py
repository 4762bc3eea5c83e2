"""`latentbench report`"""

from __future__ import annotations

from pathlib import Path

import click

from latentbench.cli.options import examples


@click.command(
    epilog=examples(
        "report",
        "report --open",
        "report iwae real-nvp --out site",
        "report --against results-of-a-colleague",
    ),
)
@click.argument("suites", nargs=-1)
@click.option("--out", type=click.Path(file_okay=False), help="The folder to write; results/site by default.")
@click.option("--against", metavar="B", help="Compare with other results too: a folder, or a git revision.")
@click.option("--open", "open_", is_flag=True, help="Open it in the browser.")
def command(suites: tuple[str, ...], out: str | None, against: str | None, open_: bool) -> None:
    """Write a site that shows everything: papers, claims with their evidence, leaderboards, comparisons.

    It is a folder of pages that need no server and no network. Names of suites keep it to these.
    """
    from datetime import UTC, datetime

    from latentbench.core.console import note
    from latentbench.core.paths import results_dir, shown
    from latentbench.report.findings import read_findings
    from latentbench.report.site import build
    from latentbench.results.sides import side
    from latentbench.running.provenance import git_state

    findings = read_findings(suites)
    for text in findings.left_out:
        note(f"left out: {text}")
    folder = Path(out) if out is not None else results_dir() / "site"
    revision, dirty = git_state()
    other = None if against is None else side(against)
    built = build(
        findings,
        folder,
        built=datetime.now(UTC).strftime("%Y-%m-%d"),
        revision=f"{revision[:12]}{' and changes' if dirty else ''}" if revision else None,
        against=other,
    )
    click.echo(f"{built.pages} pages, {built.size / 1e6:.1f} MB: {shown(built.first)}")
    if open_:
        import webbrowser

        webbrowser.open(built.first.resolve().as_uri())
