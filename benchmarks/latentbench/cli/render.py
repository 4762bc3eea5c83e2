"""Leaderboards and verdicts as a terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.text import Text

from latentbench.cli.options import print_table
from latentbench.core.console import note, out, printable

if TYPE_CHECKING:
    from latentbench.results.exporting import Sheet
    from latentbench.results.gather import Gathered
    from latentbench.results.leaderboard import Row

STYLES = {
    "reproduced": "bold green",
    "consistent": "green",
    "better": "bold cyan",
    "not-reproduced": "bold red",
    "holds": "green",
    "fails": "bold red",
    "impossible": "bold red",
    "not-tested": "yellow",
    "insufficient": "yellow",
    "not-run": "dim",
}


def print_leaderboard(gathered: Gathered, rows: Sequence[Row]) -> None:
    """One table for each dataset, metric and identity, best first."""
    from latentbench.results.sheets import digits_for, heading

    suite = gathered.loaded.suite
    out().print(
        Text(
            printable(f"\n{suite.paper.title}: suite {suite.id}, version {suite.version}, tier {gathered.tier}")
            + (f", {printable(gathered.environment)}" if gathered.environment else ""),
            style="bold",
        )
    )
    if not rows:
        out().print(
            Text(f"no records yet; `latentbench run {suite.id} --tier {gathered.tier}` makes them", style="dim")
        )
    shortened = suite.tiers[gathered.tier].deviations
    for _, group in groupby(rows, key=lambda r: (r.dataset, r.metric, r.identity)):
        table = list(group)
        reported = any(r.reported is not None for r in table)
        troubled = any(
            r.failed or r.outcomes or r.missing or r.stale or r.impossible or r.outliers or r.mixed for r in table
        )
        digits = digits_for(table)
        columns = ["", "method", "mean", "95% CI", "n"]
        columns += ["paper", "ours - paper"] if reported else []
        columns += ["mind"] if troubled else []
        print_table(
            heading(table[0]) + f"  ({table[0].identity})",
            columns,
            [_cells(r, digits, reported, troubled, shortened=bool(shortened)) for r in table],
            right=("mean", "n", "paper", "ours - paper"),
        )
    if any(r.mark for r in rows):
        said("★ differs from every other; ≈ cannot be told from the best", style="dim")
    if rows and shortened:
        said(f"† shortened: {'; '.join(shortened)}", style="dim")
    remarks(gathered)


def _cells(row: Row, digits: int, reported: bool, troubled: bool, *, shortened: bool) -> list[Any]:
    from latentbench.results.sheets import MARKS, interval, number, signed

    name = Text(printable(row.label), style="italic" if row.baseline else "")
    name.append(" (baseline)" if row.baseline else "", style="dim")
    between = interval(row.ci_low, row.ci_high, digits)
    mean = number(row.mean, digits)
    cells: list[Any] = [MARKS[row.mark], name, f"{mean}†" if mean and shortened else mean, between, row.n]
    if reported:
        cells += [number(row.reported, digits), signed(row.difference, digits)]
    if troubled:
        counts = {"failed": row.failed, "missing": row.missing, "stale": row.stale}
        said = [f"{n} {word}" for word, n in counts.items() if n]
        said = ["impossible", *said] if row.impossible else said
        told = f"{'refused' if row.refused else 'mixed'}: {row.mixed}" if row.mixed else ""
        cells.append(printable("; ".join([*said, *filter(None, [told, row.outcomes, row.outliers])])))
    return cells


def remarks(gathered: Gathered) -> None:
    """What a reader of the numbers must know: deviations, stale, outdated and unreadable records."""
    suite, collected = gathered.loaded.suite, gathered.collected
    print_impossible(gathered)
    if collected.vouched:
        note(
            f"{len(collected.vouched)} records of {suite.id} were made by earlier code, for which another seed that "
            "today's code ran again to the same bits vouches"
        )
    if collected.stale_code:
        note(
            f"{len(collected.stale_code)} records of {suite.id} were made by other code than today's; "
            f"`latentbench status {suite.id}` names them"
        )
    if collected.outdated:
        note(f"{len(collected.outdated)} records answer an earlier specification of {suite.id} and are left out")
    for text in collected.unreadable:
        note(f"left out: {text}")


def print_impossible(gathered: Gathered) -> None:
    """A line for each number that cannot be."""
    for (method, dataset, metric), fault in gathered.impossible.items():
        note(f"impossible: {metric} of {method} on {dataset} counts for nothing: {fault}")


def said(text: str, style: str = "") -> None:
    """One remark on stdout, folded at words to the terminal's width."""
    console = out()
    console.print(Text(printable(text), style=style), soft_wrap=not console.is_terminal)


def print_sheets(sheets: Sequence[Sheet]) -> None:
    """Sheets as tables, with what must be known of them below."""
    for sheet in sheets:
        print_table(sheet.title, sheet.columns, sheet.rows, right=sheet.right)
        for text in sheet.notes:
            said(text, style="dim")
