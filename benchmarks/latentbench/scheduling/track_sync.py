"""Runs that have a record, told to wandb afterwards: those of a time without network, or from before wandb was set up.

What was told is noted (`latentbench.scheduling.track_ledger`), by runs that are mirrored while they go on as well, so
that a second time tells nothing twice; and a run has one identifier at wandb, whoever tells of it first.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from latentbench.core.errors import UserError
from latentbench.core.paths import shown, stays_inside
from latentbench.records.archive import listed
from latentbench.records.beside import WEIGHTS, curve_of, folder_of
from latentbench.records.pictures import folder_for
from latentbench.records.record import Record, read_record
from latentbench.running.settings import Settings
from latentbench.scheduling.track_ledger import FILE, mark, marks, note_told
from latentbench.scheduling.tracking import described, draw_over_epochs, start, summary_of, wandb_id

Mode = Literal["online", "offline"]


@dataclass(frozen=True)
class Synced:
    """How many runs were told of now, were told of before, and are of tier smoke and left out."""

    told: int
    before: int
    smoke: int


def sync(
    results: Path,
    suites: tuple[str, ...],
    mode: Mode,
    *,
    smoke: bool = False,
    weights: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Synced:
    """Tell wandb of the runs in a results folder.

    Args:
        results: the folder.
        suites: only these; all if there is none.
        mode: ``offline`` writes files for a later ``wandb sync``.
        smoke: smoke runs, too.
        weights: the final weights as artifacts.
        tell: told of each run.

    Raises:
        UserError: wandb cannot be reached, or a file cannot be written.
    """
    folder = stays_inside(results / "wandb", results)
    known = marks(folder)
    told = before = left = 0
    for path, record in _records(results, suites):
        own = mark(record, mode)
        if record.tier == "smoke" and not smoke:
            left += 1
        elif own in known:
            before += 1
        else:
            tell(record.run_id)
            try:
                _tell(record, path, results, folder, mode, weights=weights)
            except UserError:
                raise
            except Exception as e:  # whatever wandb raises
                raise UserError(
                    f"wandb could not take {record.run_id} ({type(e).__name__})",
                    where="track sync",
                    fix="`wandb login`, then the same command goes on from here",
                ) from None
            known.add(own)
            try:
                note_told(folder, own)
            except OSError as e:
                where = shown(folder / FILE)
                raise UserError(f"it cannot be written: {e.strerror}", where=where, fix="make room") from None
            told += 1
    return Synced(told, before, left)


def _records(results: Path, suites: tuple[str, ...]) -> Iterator[tuple[Path, Record]]:
    for suite in suites or listed(str(results / "runs")):
        for name in listed(str(results / "runs" / suite)):
            path = results / "runs" / suite / name / "record.json"
            if path.is_file():
                try:
                    yield path, read_record(path, sealed=True)
                except UserError:
                    continue


def _tell(record: Record, path: Path, results: Path, folder: Path, mode: Mode, *, weights: bool) -> None:
    import wandb

    run = start(
        mode,
        folder,
        {
            "id": wandb_id(record.run_id, Settings(results)),
            "resume": "allow",
            **described(
                record,
                version=record.version,
                run=record.run_id,
                revision=record.provenance.git_revision,
                units={m.name: m.unit for m in record.metrics},
                asked=record.spec,
            ),
        },
    )
    draw_over_epochs(run)
    for step, values in _curve(curve_of(record, path) or ""):
        run.log(values, step=step)
    pictures = sorted(folder_for(path).glob("*.png"))
    if pictures:
        run.log({f"pictures/{p.stem}": wandb.Image(str(p)) for p in pictures if not p.is_symlink()})
    run.summary.update(summary_of(record))
    if weights and (file := folder_of(path) / WEIGHTS).is_file():
        artifact = wandb.Artifact(f"weights-{wandb_id(record.run_id, Settings(results))}", type="weights")
        artifact.add_file(str(file))
        run.log_artifact(artifact)
    run.finish(exit_code=int(record.status != "finished"))


def _curve(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Steps and values of a learning curve; what is no number is left out."""
    for line in csv.DictReader(io.StringIO(text, newline="")):
        values: dict[str, float] = {}
        for key, value in line.items():
            try:
                values[key] = float(value)
            except (TypeError, ValueError):
                continue
        if "step" in values:
            yield int(values.pop("step")), values
