"""Leaderboards across suites as a terminal shows them: a line for each table, or the tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.text import Text

from latentbench.cli.options import print_table
from latentbench.cli.render import said
from latentbench.core.console import duration, printable
from latentbench.results.sheets import MARKS, digits_for, interval, number

if TYPE_CHECKING:
    from latentbench.results.across import Board
    from latentbench.results.gather import Gathered
    from latentbench.results.leaderboard import Row

#: Tables that are shown without being asked for.
FEW = 3


def print_boards(rows: Sequence[tuple[Gathered, Sequence[Row]]], *, everything: bool, details: bool) -> None:
    """Tables across suites: all of them if they are few or `everything` is wanted, else a line for each.

    `details` says in any case how tables of one quantity differ.
    """
    from latentbench.results.across import boards

    found = boards(rows)
    few = everything or len(found) <= FEW
    if few:
        for board in found:
            _table(board)
    else:
        _lines(found)
    _what_keeps_apart(found, details=everything or details)
    if not few:
        said("--all shows every table; --metric narrows; `leaderboard SUITE` shows a paper's own", style="dim")


def _lines(found: Sequence[Board]) -> None:
    """The best of each table by dataset: what several suites measured first, likelihoods before the rest."""
    for source, group in groupby(found, key=lambda b: b.measure.source):
        part = sorted(group, key=lambda b: (not b.measure.likelihood, b.measure.quantity, -len(b.suites)))
        shared, lone = [b for b in part if len(b.suites) > 1], [b for b in part if len(b.suites) == 1]
        for these, where in ((shared, "measured alike in several suites"), (lone, "measured in one suite")):
            if these:
                title = f"best on {source}, by what was {where}"
                print_table(
                    title,
                    ["quantity", "rows", "best", "mean", "suite", "of"],
                    list(map(_line, these)),
                    right=("rows", "of"),
                )


def _line(board: Board) -> list[Any]:
    best, digits = board.rows[0], digits_for(board.rows)
    name = Text(printable(best.label))
    if (tied := sum(r.mark == "tied" for r in board.rows) - 1) > 0:
        name.append(f" ≈ {tied} more", style="dim")
    measure = board.measure
    what = f"{measure.quantity}{f' [{_short(measure.likelihood)}]' if measure.likelihood else ''}"
    rows = "" if measure.rows is None else f"{measure.rows:,}"
    return [what, rows, name, _value(best, digits), ", ".join(board.suites), len(board.rows)]


def _short(likelihood: str) -> str:
    return likelihood.replace("importance-weighted, ", "IW ")


def _table(board: Board) -> None:
    measure, digits = board.measure, digits_for(board.rows)
    kind = f" [{measure.likelihood}]" if measure.likelihood else ""
    unit = "" if board.unit == "1" else f", {board.unit}"
    reported = any(r.reported is not None for r in board.rows)
    columns = ["", "method", "suite", "mean", "95% CI", "n", *(["paper"] if reported else []), "a run"]
    rows: list[list[Any]] = [
        [
            MARKS[r.mark],
            Text(printable(r.label), style="italic" if r.baseline else ""),
            f"{r.suite} ({r.tier}{f', {r.environment}' if r.environment else ''})",
            _value(r, digits),
            interval(r.ci_low, r.ci_high, digits),
            r.n,
            *([number(r.reported, digits)] if reported else []),
            "" if r.seconds is None else duration(r.seconds),
        ]
        for r in board.rows
    ]
    title = f"{measure.quantity} on {measure.source}{kind}{unit}, {board.better} is better  ({board.identity})"
    print_table(title, columns, rows, right=("mean", "n", "paper", "a run"))
    for r in board.rows:
        if r.mixed:
            said(
                f"{r.label} ({r.suite}): {'refused, ' if r.refused else ''}several environments: {r.mixed}", style="dim"
            )
    said(f"{measure.test}; preprocessing: {measure.preprocessing}", style="dim")


def _value(row: Row, digits: int) -> str:
    return f"{number(row.mean, digits)}{'†' if row.tier != 'paper' else ''}"


def _what_keeps_apart(found: Sequence[Board], *, details: bool) -> None:
    """The legend, and why there is more than one table of a quantity; how they differ if `details` are wanted."""
    from latentbench.results.across import apart

    if any(r.tier != "paper" for b in found for r in b.rows):
        said("† from a shortened protocol; `latentbench show SUITE` says what was shortened", style="dim")
    if any(r.mark for b in found for r in b.rows):
        said("★ differs from every other; ≈ cannot be told from the best", style="dim")
    quantities: dict[str, list[Board]] = {}
    for board in found:
        quantities.setdefault(board.measure.quantity, []).append(board)
    several = {quantity: part for quantity, part in quantities.items() if len(part) > 1}
    if not details and len(several) > 1:
        said(
            f"{len(several)} quantities stand in tables that cannot be ranked together, for they differ in "
            f"{', '.join(dict.fromkeys(name for part in several.values() for name in apart(part)))}; --metric says how",
            style="dim",
        )
        return
    for quantity, part in several.items():
        differing = apart(part)
        if differing:
            parts = "; ".join(f"{name}: {_brief(values)}" for name, values in differing.items())
            said(f"{len(part)} tables of {quantity} cannot be ranked together. They differ in {parts}", style="dim")


def _brief(values: Sequence[str]) -> str:
    return " | ".join(values) if len(values) <= 4 else " | ".join([*values[:3], f"{len(values) - 3} more"])
