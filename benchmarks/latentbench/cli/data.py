"""`latentbench data`"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentbench.cli.options import TIERS, examples, format_option, print_json, print_table, tier_option
from latentbench.core.console import Bar, display, note, printable
from latentbench.core.errors import UserError
from latentbench.core.yamlfile import read_yaml

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


@command.command(
    epilog=examples(
        "data fetch mnist",
        "data fetch mnist cifar10 --force",
        "data fetch --suite iwae --suite nvae      what these suites' runs need, before a journey without network",
    )
)
@click.argument("names", nargs=-1)
@click.option("--suite", "suites", multiple=True, help="The datasets of a suite's runs; may be given several times.")
@tier_option("The runs of this tier of the suites. Default: the one that `latentbench run` takes.")
@click.option(
    "--params",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="The datasets of the `suites` at the `tier` that a YAML file names, as DVC's params.yaml does.",
)
@click.option("--force", is_flag=True, help="Prepare anew what is prepared.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def fetch(
    names: tuple[str, ...],
    suites: tuple[str, ...],
    tier: Any,
    params: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    """Get datasets, verify them and prepare them; a broken download is resumed."""
    from latentbench.data.api import fetch as get

    if not (names or suites or params):
        raise UserError("no dataset is named", where="data fetch", fix="name some, or a suite that uses them: --suite")
    wanted = dict.fromkeys([*names, *(d for suite in suites for d in _datasets_of(suite, tier))])
    if params is not None:
        wanted |= dict.fromkeys(_datasets_of_params(params, tier))
    for name in wanted:
        with _progress(quiet) as progress:
            status = get(name, progress, force=force)
        click.echo(f"{name}: {status.have}, {status.bytes / 2**20:.1f} MiB, content {(status.content_hash or '')[:12]}")


def _datasets_of(suite: str, tier: Any) -> list[str]:
    """The datasets that a suite's runs of a tier read, in their order.

    Raises:
        UserError: the suite cannot be planned.
    """
    from latentbench.planning.plan import plan
    from latentbench.spec.loading import load_suite

    loaded = load_suite(suite)
    return list(dict.fromkeys(run.data["source"] for run in plan(loaded, tier or loaded.suite.default_tier)))


def _datasets_of_params(path: Path, tier: Any) -> list[str]:
    """The datasets of the suites that a file of parameters names; a suite that cannot be planned is named and left to
    `run`, so that it keeps no other from its data.

    Raises:
        UserError: the file is not of that form.
    """
    file = read_yaml(path)
    found = file.data if isinstance(file.data, Mapping) else {}
    suites, named = found.get("suites"), found.get("tier")
    if not isinstance(suites, list) or not all(isinstance(s, str) for s in suites):
        raise file.error("`suites` is no list of suites' names", ("suites",), "write `suites: [iwae]`")
    if named is not None and named not in TIERS.choices:
        raise file.error(f"there is no tier {named!r}", ("tier",), f"one of {', '.join(TIERS.choices)}")
    wanted: list[str] = []
    for suite in suites:
        try:
            wanted += _datasets_of(suite, tier or named)
        except UserError as e:
            note(f"{suite}: its data are not prepared: {e}")
    return wanted


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
