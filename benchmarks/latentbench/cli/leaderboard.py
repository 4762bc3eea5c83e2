"""`latentbench leaderboard`"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from latentbench.cli.export import export, export_options
from latentbench.cli.options import examples, mixed_option, tier_option
from latentbench.core.errors import UserError


@click.command(
    epilog=examples(
        "leaderboard iwae",
        "leaderboard --dataset mnist",
        "leaderboard --dataset mnist --metric nll_iw --all",
        "leaderboard iwae --format latex -o table.tex",
        "leaderboard iwae --per-seed --format csv > values.csv",
    ),
)
@click.argument("suites", nargs=-1)
@click.option("--dataset", help="Only this dataset: its name in a suite or in the registry, or a pattern.")
@click.option("--metric", help="Only this metric: its key in a suite, its registered name, or a pattern.")
@tier_option("cpu or paper; by default the most faithful tier that has records.")
@mixed_option()
@click.option("--per-seed", is_flag=True, help="Every value by itself, instead of means.")
@click.option("--all", "everything", is_flag=True, help="Without a suite: every table, not a line for each.")
@click.option(
    "--write", type=click.Path(file_okay=False), help="Write csv, md, verdicts, metrics, curves into a folder."
)
@export_options
def command(
    suites: tuple[str, ...],
    dataset: str | None,
    metric: str | None,
    tier: Any,
    mixed: Any,
    per_seed: bool,
    everything: bool,
    write: str | None,
    form: str,
    output: Path | None,
) -> None:
    """Methods by dataset and metric: mean and 95 % interval over seeds, the paper's number beside ours.

    Without a suite: across all of them, one table for all that was measured alike. A dataset is found in every suite
    that uses it, under whatever name; what keeps tables apart (test rows, preprocessing, likelihood) is said.

    ★ marks a method whose difference to every other one excludes zero, ≈ those that cannot be told apart. Rows of
    different likelihood kinds or metric identities are never ranked together. Smoke runs never appear.

    A mean over several environments (versions of numeric packages, devices, platforms) says so. With --mixed refuse it
    bears no mark and nothing is compared with it; with --mixed split each environment has tables of its own.
    """
    from latentbench.cli.gathering import gathered
    from latentbench.core.console import note
    from latentbench.results.by_seed import COLUMNS as SEED_COLUMNS
    from latentbench.results.by_seed import seed_rows
    from latentbench.results.filters import Wanted
    from latentbench.results.leaderboard import COLUMNS, leaderboard
    from latentbench.results.sheets import leaderboard_sheets, seed_sheets
    from latentbench.results.tables import damaged_curves, write_tables

    if write is not None:
        if mixed == "split":
            raise UserError("a file has one mean a method", where="--mixed", fix="say or refuse goes with --write")
        written = [] if tier == "smoke" else gathered(suites, tier, mixed)
        write_tables(Path(write), written)
        for text in damaged_curves(written):
            note(f"left out of curves.csv: {text}")
        return
    if tier == "smoke":
        raise UserError("smoke runs are on no leaderboard", where="--tier", fix="use cpu or paper")
    shown = gathered(suites, tier, mixed)
    suites_shown = [g.loaded.suite for g in shown]
    Wanted(dataset, metric).known(
        ((d, spec.source or d) for s in suites_shown for d, spec in s.datasets.items()),
        ((key, s.metric_name(key)) for s in suites_shown for key in s.metrics),
    )
    filtered = (dataset, metric) != (None, None)

    if per_seed:
        values = [(g, seed_rows(g, dataset=dataset, metric=metric)) for g in shown]
        from latentbench.cli.render import print_sheets

        export(
            form,
            output,
            rows=lambda: [asdict(r) for _, part in values for r in part],
            columns=SEED_COLUMNS,
            sheets=lambda: seed_sheets(values),
            table=lambda: print_sheets(seed_sheets(values)),
        )
        return
    found = [(g, leaderboard(g, dataset=dataset, metric=metric)) for g in shown]
    if filtered:
        found = [(g, part) for g, part in found if part]

    def table() -> None:
        from latentbench.cli.boards import print_boards
        from latentbench.cli.render import print_leaderboard

        if suites:
            for g, part in found:
                print_leaderboard(g, part)
        else:
            print_boards(found, everything=everything, details=metric is not None)
        if any(part for _, part in found):
            return
        if filtered:
            wanted = " ".join(x for x in (dataset and f"--dataset {dataset}", metric and f"--metric {metric}") if x)
            click.echo(f"no record fits {wanted}")
        elif not suites:
            click.echo("no records yet; `latentbench run quickstart` makes some")

    export(
        form,
        output,
        rows=lambda: [asdict(r) for _, part in found for r in part],
        columns=COLUMNS,
        sheets=lambda: leaderboard_sheets(found),
        table=table,
    )
