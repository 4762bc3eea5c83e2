"""Pictures written beside a record, by a run that has ended or when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentbench.core.console import note
from latentbench.core.paths import stays_inside
from latentbench.records.archive import listed
from latentbench.records.beside import WEIGHTS
from latentbench.records.pictures import FOLDER, KINDS, folder_for
from latentbench.records.record import write_atomically

if TYPE_CHECKING:
    from latentbench.planning.plan import RunSpec
    from latentbench.records.record import Record
    from latentbench.running.settings import Settings


def write_pictures(spec: RunSpec, record: Path, weights: Path) -> list[Path]:
    """Make the pictures of a run and write them beside its record, in place of those that are there.

    Args:
        spec: the run.
        record: where its record lies.
        weights: what it left.

    Raises:
        UserError: the weights are not the model's, or the data cannot be had.
        OSError: they cannot be written.
    """
    from latentbench.pictures.making import make
    from latentbench.running.run_data import load_data
    from latentbench.running.trained import trained_model

    data = load_data(spec)
    folder = stays_inside(folder_for(record), record.parent)
    written = []
    for name, content in make(trained_model(spec, data, weights), data, spec):
        write_atomically(folder / name, content)
        written.append(folder / name)
    for kind in KINDS:
        for old in (folder / f"{kind}.png", folder / f"{kind}.txt"):
            if old not in written:
                old.unlink(missing_ok=True)
    return written


class Photographer:
    """An `Observer` that has a run's pictures made once it has ended: of the first seed of a method to come.

    What goes wrong with them is said in a line, and costs the run nothing.
    """

    def __init__(self, spec: RunSpec, settings: Settings, run_id: str) -> None:
        self._spec, self._settings = spec, settings
        self._folder = settings.results / "runs" / spec.suite / run_id

    def log(self, row: Mapping[str, Any]) -> None: ...

    def interrupted(self) -> None: ...

    def ended(self, record: Record) -> None:
        """Make them, unless another seed of this method on this dataset has them."""
        weights = self._folder / WEIGHTS
        if record.status != "finished" or WEIGHTS not in record.files or self._another_has_them():
            return
        try:
            write_pictures(self._spec, self._folder / "record.json", weights)
        except Exception as e:  # a model or data that no picture was thought of for
            note(f"no pictures of {record.run_id}: {type(e).__name__}: {' '.join(str(e).split())[:200]}")

    def _another_has_them(self) -> bool:
        cell = self._spec.cell.rpartition("--")[0]
        others = listed(str(self._folder.parent), f"{cell}--s")
        return any((self._folder.parent / name / FOLDER).is_dir() for name in others if name != self._folder.name)
