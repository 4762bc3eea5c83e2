"""How a command's table leaves: on the terminal, or in one of the formats for papers, spreadsheets and programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentbench.cli.options import print_json
from latentbench.core.errors import UserError
from latentbench.core.paths import shown

if TYPE_CHECKING:
    from latentbench.results.exporting import Sheet

F = TypeVar("F", bound=Callable[..., Any])
FORMATS = ("table", "md", "latex", "csv", "json", "parquet")


def export_options(function: F) -> F:
    """``--format`` with all formats, and ``--output``."""
    function = click.option(
        "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write it there instead of printing it."
    )(function)
    return click.option(
        "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print it."
    )(function)


def export(
    form: str,
    output: Path | None,
    *,
    rows: Callable[[], Sequence[Mapping[str, Any]]],
    columns: Sequence[str] | None,
    sheets: Callable[[], Sequence[Sheet]],
    table: Callable[[], None],
) -> None:
    """Print a result in a format, or write it.

    Args:
        form: one of `FORMATS`.
        output: a file, or None for stdout.
        rows: plain values, for programs.
        columns: their order; None for that of the first row.
        sheets: the same for readers.
        table: prints it on the terminal.

    Raises:
        UserError: the file cannot be written, or a terminal would be given Parquet.
    """
    from latentbench.results import exporting

    if form == "table":
        if output is not None:
            raise UserError("a terminal's table is not written", where="--output", fix="add --format md, csv or latex")
        table()
        return
    if form == "json" and output is None:
        print_json(list(rows()))
        return
    content: str | bytes
    if form in ("md", "latex"):
        writer = exporting.as_markdown if form == "md" else exporting.as_latex
        content = writer(sheets(), exporting.made_with())
    elif form == "json":
        content = exporting.as_json(rows())
    else:
        values = rows()
        names = list(columns if columns is not None else values[0] if values else [])
        if form == "csv":
            content = exporting.as_csv(values, names)
        else:
            content = exporting.as_parquet(values, names, exporting.made_with())
    if output is not None:
        _write(output, content)
    elif isinstance(content, bytes):
        if sys.stdout.isatty():
            raise UserError("Parquet is no text", where="--format parquet", fix="add --output FILE")
        sys.stdout.buffer.write(content)
    else:
        click.echo(content, nl=False)


def _write(path: Path, content: str | bytes) -> None:
    from latentbench.records.record import write_atomically

    try:
        write_atomically(path, content)
    except OSError as e:
        raise UserError(f"it cannot be written: {e.strerror}", where=shown(path), fix="name another file") from None
