"""Options that several commands share, and how results are printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from latentbench.core.bounds import STACKED, whole_number
from latentbench.core.console import out, printable
from latentbench.core.errors import UserError
from latentbench.core.escape import to_json
from latentbench.core.seeds import LARGEST_SEED, MOST_SEEDS
from latentbench.core.streams import holds

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


class _Judged(click.Choice[str]):
    """cpu or paper; smoke is refused with the reason."""

    def __init__(self) -> None:
        super().__init__(["cpu", "paper"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "smoke":
            raise UserError("a smoke run counts for no verdict", where="--tier", fix="use cpu or paper")
        return super().convert(value, param, ctx)


def judged_tier_option(text: str) -> Callable[[F], F]:
    """``--tier`` where smoke counts for nothing."""
    return click.option("--tier", type=_Judged(), default=None, help=text)


def mixed_option() -> Callable[[F], F]:
    """``--mixed``: a policy of `latentbench.results.environments`."""
    return click.option(
        "--mixed",
        type=click.Choice(["say", "refuse", "split"]),
        default="say",
        show_default=True,
        help="Seeds of several environments: say so; no mark and no verdict; or each environment by itself.",
    )


def print_json(value: Any) -> None:
    """Indented JSON on stdout; the same text for the same value. What could steer a terminal is written as ``\\u…``,
    and so is everything but ASCII where stdout's encoding cannot hold it; numbers that are not finite are null."""
    value = _finite(value)
    text = to_json(value, 2)
    click.echo(text if holds(text) else to_json(value, 2, plain=True))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    minor: Sequence[str] = (),
) -> None:
    """A table on stdout; cells are text, never markup. It folds on a terminal; elsewhere each row is one line.

    Args:
        title, columns, rows: what it shows.
        right: columns whose cells stand to the right.
        minor: columns that a narrow terminal goes without, the first of them first.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = out()
    cells = [[c if isinstance(c, Text) else Text(printable("" if c is None else str(c))) for c in r] for r in rows]
    if not console.is_terminal:
        click.echo(_plain(title, columns, [[c.plain for c in row] for row in cells], right))
        return
    from latentbench.cli.folding import folded, left_out, widths

    if dropped := left_out(columns, cells, console.width, minor):
        kept = [i for i, name in enumerate(columns) if name not in dropped]
        columns, cells = [columns[i] for i in kept], [[row[i] for i in kept] for row in cells]
        title = f"{title} (a wider terminal shows {', '.join(dropped)})".lstrip()
    if title:  # a table's own would fold at the table's width
        console.print(Text(printable(title), style="italic"))
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    fitting = widths(columns, cells, console.width)
    for name, width in zip(columns, fitting, strict=True):
        table.add_column(name, justify="right" if name in right else "left", overflow="fold", width=width)
    for row in cells:
        table.add_row(*(folded(cell, width) for cell, width in zip(row, fitting, strict=True)))
    console.print(table)


def _plain(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> str:
    """Aligned lines for files and other programs: no frame, nothing folded, some thirty times as fast as rich's."""
    from rich.cells import cell_len

    table = [list(columns), *([" ".join(c.split("\n")) for c in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    lines = [printable(title)] if title else []
    for row in table:
        pads = [" " * (width - cell_len(c)) for c, width in zip(row, widths, strict=True)]
        parts = (pad + c if name in right else c + pad for c, pad, name in zip(row, pads, columns, strict=True))
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def parse_seeds(text: str | None) -> list[int] | None:
    """``3`` is seeds 0, 1, 2; ``4,7`` is those two, ``4,`` that one.

    Raises:
        UserError: neither a positive number nor a list of distinct ones.
    """
    if text is None:
        return None
    try:
        parts = [int(p) for p in text.removesuffix(",").split(",")]
        if max(parts) > LARGEST_SEED:
            raise UserError(f"{text[:40]!r}: a seed is at most {LARGEST_SEED}", where="--seeds", fix="e.g. 4,7")
    except ValueError:
        raise UserError(f"{text!r} are no seeds", where="--seeds", fix="give a number (3) or a list (4,7)") from None
    if "," not in text:
        if parts[0] < 1:
            raise UserError("at least one seed is needed", where="--seeds", fix="give 1 or more")
        if parts[0] > MOST_SEEDS:
            raise UserError(f"{parts[0]} seeds are more than {MOST_SEEDS}", where="--seeds", fix="a list is 4,7 or 4,")
        return list(range(parts[0]))
    if min(parts) < 0 or len(set(parts)) != len(parts):
        raise UserError(f"{text!r}: seeds must be distinct and not negative", where="--seeds", fix="e.g. 4,7")
    return parts


def parse_hours(text: str | None) -> float | None:
    """``8h``, ``30m``, ``2d`` or a number of hours.

    Raises:
        UserError: no such time, or none above zero.
    """
    if text is None:
        return None
    unit = {"m": 1 / 60, "h": 1.0, "d": 24.0}.get(text[-1:].lower())
    try:
        hours = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours < math.inf:
        raise UserError(f"{text!r} is no time", where="--budget", fix="e.g. 8h, 30m or 2d")
    return hours


def one_of(*options: tuple[str, Any]) -> None:
    """Refuse options that exclude each other.

    Raises:
        UserError: two of them are given.
    """
    given = [name for name, value in options if value not in (None, False)]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other", where=given[1], fix="keep one of them")


def parse_stack(text: str) -> int | None:
    """Runs side by side: ``off`` is 1, a number itself, ``auto`` None.

    Raises:
        UserError: none of these.
    """
    if text in ("auto", "off"):
        return {"auto": None, "off": 1}[text]
    number = whole_number(text)
    if number is None or not 1 <= number <= STACKED:
        raise UserError(f"{text!r} is no number of runs", where="--stack", fix="auto, off, or a number up to 4096")
    return number
