"""Options that several commands share, and how results are printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from benchmarks.core.console import out, printable
from benchmarks.core.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])
TIERS = click.Choice(["smoke", "cpu", "paper"])


def examples(*lines: str) -> str:
    """An epilog that shows how a command is used, one call a line."""
    return "\b\nExamples:\n" + "\n".join(f"  latentbench {line}" for line in lines)


def format_option(*choices: str) -> Callable[[F], F]:
    """``--format``, the first choice being the default."""
    return click.option(
        "--format", "form", type=click.Choice(choices), default=choices[0], show_default=True, help="How to print it."
    )


def tier_option(text: str) -> Callable[[F], F]:
    return click.option("--tier", type=TIERS, default=None, help=text)


def print_json(value: Any) -> None:
    """Indented JSON on stdout; the same text for the same value."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()
) -> None:
    """A table on stdout; cells are text, never markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(printable(title)) if title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(c if isinstance(c, Text) else Text(printable("" if c is None else str(c))) for c in row))
    out().print(table)


def parse_seeds(text: str | None) -> list[int] | None:
    """``3`` is seeds 0, 1, 2; ``4,7`` is those two.

    Raises:
        UserError: neither a positive number nor a list of distinct ones.
    """
    if text is None:
        return None
    try:
        parts = [int(p) for p in text.split(",")]
    except ValueError:
        raise UserError(f"{text!r} are no seeds", where="--seeds", fix="give a number (3) or a list (4,7)") from None
    if "," not in text:
        if parts[0] < 1:
            raise UserError("at least one seed is needed", where="--seeds", fix="give 1 or more")
        return list(range(parts[0]))
    if min(parts) < 0 or len(set(parts)) != len(parts):
        raise UserError(f"{text!r}: seeds must be distinct and not negative", where="--seeds", fix="e.g. 4,7")
    return parts
