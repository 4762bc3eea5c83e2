"""`latentbench pictures`"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentbench.cli.options import TIERS, examples

if TYPE_CHECKING:
    from latentbench.planning.plan import RunSpec
    from latentbench.records.record import Record


@click.command(
    epilog=examples(
        "pictures iwae --tier cpu",
        "pictures iwae-k50-1l--mnist--cpu--s0",
    ),
)
@click.argument("run_or_suite")
@click.option("--tier", type=TIERS, help="Of a suite: only runs of this tier.")
def command(run_or_suite: str, tier: str | None) -> None:
    """Make pictures of what trained models do: samples, reconstructions, traversals, densities, sentences.

    They are made from the weights beside a record, whatever the model can and the data are, and lie in `pictures/`
    beside it, below 60 kB a method. Of a suite, one seed of each method has them. `latentbench run` makes them as it
    goes.
    """
    from latentbench.core.console import note
    from latentbench.core.errors import UserError
    from latentbench.core.paths import shown
    from latentbench.pictures.writing import write_pictures

    made = 0
    for path, record, spec, weights in _runs(run_or_suite, tier):
        if not weights.is_file():
            note(f"{record.run_id}: its weights are not here; `latentbench run {record.suite} --tier {record.tier}`")
            continue
        written = write_pictures(spec, path, weights)
        made += len(written)
        for file in written:
            click.echo(shown(file))
        if not written:
            note(f"{record.run_id}: nothing that it can do on these data makes a picture")
    if not made:
        raise UserError(
            "no pictures were made", where=run_or_suite, fix="the lines above say why; runs keep weights by default"
        )


def _runs(name: str, tier: str | None) -> Iterator[tuple[Path, Record, RunSpec, Path]]:
    """The record by that name, or one finished record of each method and dataset of a suite, that of the least seed."""
    from latentbench.audit.rebuild import find_record, rebuild
    from latentbench.core.errors import UserError
    from latentbench.core.paths import results_dir
    from latentbench.records.archive import record_files, suites_with_records
    from latentbench.records.beside import WEIGHTS, folder_of
    from latentbench.records.record import read_record

    if name not in suites_with_records(results_dir()):
        path, record = find_record(name)
        if record.status != "finished":
            raise UserError(f"it is {record.status}", where=record.run_id, fix="take a finished run")
        yield path, record, rebuild(record, path), folder_of(path) / WEIGHTS
        return
    first: dict[tuple[str, str, str], tuple[Path, Record]] = {}
    for _, file in record_files(name, results_dir(), tiers=(tier,) if tier else ("smoke", "cpu", "paper")):
        record = read_record(Path(file), sealed=True)
        if record.status != "finished" or tier not in (None, record.tier):
            continue
        if not (folder_of(Path(file)) / WEIGHTS).is_file():
            continue
        known = first.get(key := (record.method, record.dataset, record.tier))
        if known is None or record.seed < known[1].seed:
            first[key] = Path(file), record
    if not first:
        raise UserError("no run of it has its weights here", where=name, fix=f"make them: latentbench run {name}")
    for path, record in first.values():
        yield path, record, rebuild(record, path), folder_of(path) / WEIGHTS
