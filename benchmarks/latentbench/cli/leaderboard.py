"""`latentbench leaderboard`"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from latentbench.cli.options import examples, format_option, print_json, tier_option


@click.command(
    epilog=examples(
        "leaderboard iwae",
        "leaderboard --dataset mnist --metric nll_iw --format md",
        "leaderboard --format csv > leaderboard.csv",
    ),
)
@click.argument("suites", nargs=-1)
@click.option("--dataset", help="Only this dataset (its name in the suite).")
@click.option("--metric", help="Only this metric.")
@tier_option("cpu or paper; by default the most faithful tier that has records.")
@click.option(
    "--write", type=click.Path(file_okay=False), help="Write csv, md, verdicts, metrics, curves into a folder."
)
@format_option("table", "md", "csv", "json")
def command(
    suites: tuple[str, ...], dataset: str | None, metric: str | None, tier: Any, write: str | None, form: str
) -> None:
    """Methods by dataset and metric: mean and 95 % interval over seeds, the paper's number beside ours.

    ★ marks a method whose difference to every other one excludes zero, ≈ those that cannot be told apart. Rows of
    different likelihood kinds or metric identities are never ranked together. Smoke runs never appear.
    """
    from latentbench.cli.gathering import gathered
    from latentbench.cli.render import markdown, print_leaderboard
    from latentbench.core.errors import UserError
    from latentbench.results.leaderboard import leaderboard, to_csv
    from latentbench.results.tables import write_tables

    if write is not None:
        everything = [] if tier == "smoke" else gathered(suites, tier)
        write_tables(Path(write), everything, markdown([r for g in everything for r in leaderboard(g)]))
        return
    if tier == "smoke":
        raise UserError("smoke runs are on no leaderboard", where="--tier", fix="use cpu or paper")
    shown = gathered(suites, tier)
    _known("--dataset", dataset, {d for g in shown for d in g.loaded.suite.datasets})
    named = {(key, g.loaded.suite.metric_name(key)) for g in shown for key in g.loaded.suite.metrics}
    _known("--metric", metric, {name for pair in named for name in pair})
    found = [(g, leaderboard(g, dataset=dataset, metric=metric)) for g in shown]
    rows = [r for _, part in found for r in part]
    if form == "csv":
        click.echo(to_csv(rows), nl=False)
    elif form == "json":
        print_json([asdict(r) for r in rows])
    elif form == "md":
        click.echo(markdown(rows))
    else:
        for g, part in found:
            print_leaderboard(g, part)


def _known(option: str, name: str | None, table: set[str]) -> None:
    """A filter that no suite knows is misspelt."""
    from latentbench.core.errors import UserError, did_you_mean

    if name is not None and table and name not in table:
        raise UserError(f"no suite shown here has {name!r}", where=option, fix=did_you_mean(name, table))
