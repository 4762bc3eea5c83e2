"""`latentbench records`"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentbench.cli.options import TIERS, examples
from latentbench.core.console import note, printable

if TYPE_CHECKING:
    from latentbench.records.record import Record

_PACK = (
    "records pack iwae",
    "records pack iwae --artefacts && dvc add results/artefacts/iwae",
    "records pack --from /mnt/cluster/results --all --tier paper",
)
_CLEAN = ("records clean --dry-run", "records clean")
_UNPACK = ("records unpack iwae --to /tmp/iwae", "records unpack --to everything")


@click.group(epilog=examples(*_PACK, *_UNPACK, *_CLEAN))
def command() -> None:
    """The records that the project carries: results/reference/SUITE/TIER.jsonl, a line a run; and what lies beside."""


@command.command(epilog=examples(*_PACK))
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@click.option(
    "--from", "source", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another results folder."
)
@click.option("--tier", "tiers", type=TIERS, multiple=True, default=("cpu", "paper"), show_default=True)
@click.option("--all", "everything", is_flag=True, help="Also what does not answer today's suite, data and code.")
@click.option("--dirty", is_flag=True, help="Also runs of uncommitted code, which nobody else can run again.")
@click.option("--replace", is_flag=True, help="In place of the same run that is there already.")
@click.option("--artefacts", is_flag=True, help="Weights and pictures too, of one seed a method, for DVC to track.")
@click.pass_context
def pack(
    ctx: click.Context,
    suites: tuple[str, ...],
    source: Path | None,
    tiers: tuple[str, ...],
    everything: bool,
    dirty: bool,
    replace: bool,
    artefacts: bool,
) -> None:
    """Add runs that have ended to the records that the project carries; all suites if none is named.

    Taken are records that `latentbench verify` finds nothing in, made by committed code, that count today; also those
    of runs that failed or diverged, which tables count, but not interrupted ones. Of each method on each dataset the
    least seed brings its learning curve. References that lie by themselves, one file a run, are taken in and removed.
    Commit what has changed under results/reference/. Exit code 1: some were refused.
    """
    from latentbench.audit.verify import verify
    from latentbench.core.paths import results_dir, shown
    from latentbench.records.archive import suites_with_records
    from latentbench.records.packing import is_packed, pack_records

    here, root = results_dir(), source or results_dir()
    taken: list[Path] = []
    why: Counter[str] = Counter()
    for suite in suites or suites_with_records(root):
        candidates = [(r, p) for r, p in _records(root, suite, here) if r.tier in tiers]
        counting = None if everything else _counting(suite, tiers, root)
        for record, path in candidates:
            if path.name != "record.json":  # a reference that lies by itself
                taken.append(path)
            elif record.status == "interrupted":
                why["interrupted"] += 1
            elif counting is not None and path not in counting:
                why["not of today's suite, data and code, or another of its cell counts (--all takes them)"] += 1
            elif record.provenance.git_dirty is not False and not dirty:
                why["! made by uncommitted code, or of no known revision (--dirty takes them)"] += 1
            elif faults := [fault for checked in verify(path) for fault in checked.faults]:
                why[f"! {shown(path)}: {faults[0]}"] += 1
            else:
                taken.append(path)
    for done in pack_records(taken, here, replace=replace, artefacts=artefacts):
        extra = [f"{done.curves} learning curves"] if done.curves else []
        extra += [f"{done.artefacts} files under {shown(here / 'artefacts')}"] if done.artefacts else []
        text = f"{len(done.added)} records added, {len(done.there)} were there"
        click.echo(f"{shown(done.pack)}: {', '.join([text, *extra])}")
    for path in taken if root == here else ():  # another folder's files are left as they are
        if path.name != "record.json" and is_packed(path, here):
            path.unlink()
    for reason, times in why.items():
        note(printable(f"{times} left out: {reason.removeprefix('! ')}"))
    if not taken and not why:
        note("no runs that have ended")
    ctx.exit(1 if any(reason.startswith("! ") for reason in why) else 0)


def _records(root: Path, suite: str, here: Path) -> Iterator[tuple[Record, Path]]:
    """Records of a suite that are in no pack of `here`."""
    from latentbench.core.errors import UserError
    from latentbench.records.archive import record_files
    from latentbench.records.pack import pack_of
    from latentbench.records.record import read_record

    for _, file in record_files(suite, root):
        path = Path(file)
        if root == here and pack_of(path) is not None:
            continue
        try:
            yield read_record(path), path
        except UserError as e:
            note(f"error: {e}")


def _counting(suite: str, tiers: tuple[str, ...], root: Path) -> set[Path]:
    """The records that count for a suite as it stands, made by today's code or by what comes to the same bits."""
    from latentbench.results.gather import gather
    from latentbench.spec.loading import load_suite

    loaded = load_suite(suite)
    found = [gather(loaded, tier, root) for tier in loaded.suite.tiers if tier in tiers]
    return {g.collected.path(cell) for g in found for cell in g.collected.files.keys() - set(g.collected.stale_code)}


@command.command(epilog=examples(*_UNPACK))
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@click.option(
    "--to", "folder", type=click.Path(path_type=Path), required=True, help="A results folder; made if need be."
)
@click.pass_context
def unpack(ctx: click.Context, suites: tuple[str, ...], folder: Path) -> None:
    """Write the records that the project carries as files of their own, FOLDER/runs/SUITE/RUN/record.json.

    Their learning curves and artefacts, where they are here, lie beside them. Exit code 1: some are damaged.
    """
    from latentbench.core.paths import reference_dirs, safe_name, shown
    from latentbench.records.archive import listed
    from latentbench.records.pack import open_pack, packs_in
    from latentbench.records.packing import unpack

    faults: list[str] = []
    for top in reference_dirs():
        for suite in suites or listed(str(top)):
            for file in packs_in(top / safe_name(suite)):
                found = open_pack(file)
                faults += unpack(found, folder / "runs" / safe_name(suite))
                click.echo(f"{shown(found.path)}: {len(found)} records")
    for fault in faults:
        note(f"error: {printable(fault)}")
    ctx.exit(1 if faults else 0)


@command.command(epilog=examples(*_CLEAN))
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and leave it.")
@click.option("--all", "everything", is_flag=True, help="Also what runs would still take; they then train it again.")
def clean(dry_run: bool, everything: bool) -> None:
    """Remove weights of shared stages, results/stages/, that no run of the project's suites would take.

    A stage that several runs name is trained once, and its weights stay for runs to come. When the stage, its data or
    its code changes, other weights take their place. Records and the weights of runs stay as they are, and a stage that
    is being trained is left alone.
    """
    from latentbench.cli.planned import size
    from latentbench.core.errors import UserError
    from latentbench.core.paths import results_dir, shown
    from latentbench.results.kept_stages import kept_stages, remove_stage, size_of, wanted_stages

    results = results_dir()
    there = kept_stages(results)
    wanted = wanted_stages(results) if there and not everything else set()
    removed, spared = [], 0
    for stage in there:
        if stage.name in wanted:
            continue
        count = size_of(stage)
        try:
            gone = dry_run or remove_stage(stage)
        except OSError as e:
            raise UserError(
                f"it cannot be removed: {e.strerror or e}", where=shown(stage), fix="mend its permissions"
            ) from None
        if gone:
            removed.append(count)
            click.echo(f"{shown(stage)}: {size(count)}{' would be removed' if dry_run else ' removed'}")
        else:
            spared += 1
            note(f"{shown(stage)}: left, for it is being trained")
    kept = len(there) - len(removed) - spared
    click.echo(
        (
            f"{len(removed)} stage{'s' if len(removed) > 1 else ''}, {size(sum(removed))}"
            if removed
            else "nothing to remove"
        )
        + f"; {kept} that runs take {'is' if kept == 1 else 'are'} kept"
    )
