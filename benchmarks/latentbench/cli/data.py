"""`latentbench data`"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentbench.cli.options import examples, format_option, print_json, print_table
from latentbench.core.console import Bar, display, note, printable

if TYPE_CHECKING:
    from latentbench.data.progress import Progress


@click.group(
    epilog=examples(
        "data list",
        "data fetch mnist omniglot-28",
        "data verify",
        "data show mnist --sheet mnist.png",
    )
)
def command() -> None:
    """Fetch, verify, list and describe datasets.

    Files are looked for in the mirror folder LATENTBENCH_MIRROR, the cache, the Hugging Face hub, and at the official
    address, in that order, and checked by sha256.
    """


@command.command("list", epilog=examples("data list", "data list --format json"))
@format_option("table", "json")
def list_(form: str) -> None:
    """Every dataset of the registry and what there is of it here."""
    from latentbench.data.api import list_datasets

    found = list_datasets()
    rows: list[dict[str, Any]] = [
        {
            "name": s.entry.name,
            "title": s.entry.title,
            "kind": s.entry.kind,
            "rows": s.rows,
            "have": s.have,
            "bytes": s.bytes,
            "content_hash": s.content_hash,
            "licence": s.entry.licence,
        }
        for s in found
    ]
    if form == "json":
        print_json(rows)
        return
    print_table(
        f"{len(rows)} datasets",
        ["name", "title", "rows", "here", "MiB"],
        [
            [r["name"], r["title"], _rows(r["rows"]), r["have"], f"{r['bytes'] / 2**20:.1f}" if r["bytes"] else ""]
            for r in rows
        ],
        right=("MiB",),
    )


def _rows(rows: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in rows.items())


@command.command(epilog=examples("data fetch mnist", "data fetch mnist cifar10 --force"))
@click.argument("names", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Prepare anew what is prepared.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def fetch(names: tuple[str, ...], force: bool, quiet: bool) -> None:
    """Get datasets, verify them and prepare them; a broken download is resumed."""
    from latentbench.data.api import fetch as get

    for name in names:
        with _progress(quiet) as progress:
            status = get(name, progress, force=force)
        click.echo(f"{name}: {status.have}, {status.bytes / 2**20:.1f} MiB, content {(status.content_hash or '')[:12]}")


@command.command(epilog=examples("data verify", "data verify mnist"))
@click.argument("names", nargs=-1)
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.pass_context
def verify(ctx: click.Context, names: tuple[str, ...], quiet: bool) -> None:
    """Hash again what is here, files and prepared data. Exits with 1 if anything is not as it should be."""
    from latentbench.data import registry
    from latentbench.data.api import verify as check

    bad = looked = 0
    for name in names or registry.names():
        with _progress(quiet) as progress:
            for c in check(name, progress):
                looked += 1
                if c.ok is False:
                    bad += 1
                    mend = f"`latentbench data fetch {c.dataset} --force` mends it"
                    note(f"wrong: {c.dataset} {c.what}: {c.detail}; {mend}")
    click.echo(f"{looked} files and columns looked at, {bad} wrong")
    ctx.exit(1 if bad else 0)


@command.command(epilog=examples("data show mnist", "data show sprites2d-small --sheet sprites.png"))
@click.argument("name")
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="Write a contact sheet (PNG) of images.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@format_option("table", "json")
def show(name: str, sheet: Path | None, quiet: bool, form: str) -> None:
    """What a dataset is: citation, licence, caveats, counts, ranges, duplicates, overlap of train and test."""
    from latentbench.data.dataset import open_dataset
    from latentbench.data.describe import describe

    with _progress(quiet) as progress:
        found = describe(open_dataset(name, progress), sheet, progress)
    entry = found.entry
    if form == "json":
        print_json(
            {
                "entry": entry.model_dump(mode="json"),
                "content_hash": found.content_hash,
                "splits": {k: _split(s) for k, s in found.splits.items()},
                "overlap": {f"{a}/{b}": n for (a, b), n in found.overlap.items()},
            }
        )
        return
    click.secho(entry.title, bold=True)
    click.echo(printable(" ".join(entry.about.split())))
    click.echo(printable(f"citation: {entry.citation}\nlicence: {entry.licence}\ncontent: {found.content_hash}"))
    for caveat in entry.caveats:
        click.echo(printable(f"mind: {caveat}"))
    print_table(
        "",
        ["split", "column", "rows", "shape", "dtype", "low", "high", "mean", "duplicates"],
        [
            [
                split,
                column,
                f"{s.rows:,}",
                list(c.shape),
                c.dtype,
                _number(c.low),
                _number(c.high),
                _number(c.mean),
                s.duplicates,
            ]
            for split, s in found.splits.items()
            for column, c in s.columns.items()
        ],
        right=("rows", "low", "high", "mean", "duplicates"),
    )
    schemes = entry.protocols or {"as declared": entry.protocol(None)}
    print_table(
        "split schemes (`protocol:` of a suite's dataset)",
        ["scheme", "train", "valid", "test"],
        [[name, *(scheme.get(role, "") for role in ("train", "valid", "test"))] for name, scheme in schemes.items()],
    )
    for (a, b), n in found.overlap.items():
        click.echo(f"rows of {b} that also stand in {a}: {n}")
    if found.sheet is not None:
        click.echo(f"contact sheet: {found.sheet}")


def _split(facts: Any) -> dict[str, Any]:
    return {
        "rows": facts.rows,
        "examined": facts.examined,
        "duplicates": facts.duplicates,
        "columns": {k: {**vars(c), "shape": list(c.shape)} for k, c in facts.columns.items()},
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """A callback that draws one bar a step."""
    with display(quiet=quiet) as screen:
        bars: dict[str, Bar] = {}

        def report(what: str, done: int = 0, total: int | None = None) -> None:
            if what not in bars:
                for bar in bars.values():
                    bar.close()
                bars.clear()
                bars[what] = screen.bar(what, total)
            bars[what].update(done, total)

        yield report
