"""Which of a suite's records were found intact, so that thousands of seals need not be computed each time.

Kept under ``results/cache/`` by each file's state (`latentbench.core.file_cache`), which no edit leaves as it was;
`latentbench verify` goes by the bytes alone.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from latentbench import __version__
from latentbench.core.errors import UserError
from latentbench.core.file_cache import Memory, state_of
from latentbench.core.paths import cache_dir, safe_name
from latentbench.records import pack as packs
from latentbench.records import packform, sealing
from latentbench.records import record as form
from latentbench.records.known import Known
from latentbench.records.pack import SUFFIX, Pack, open_pack
from latentbench.records.record import Record, Status, read_record, record_of


class Intact:
    """The records of one suite.

    Args:
        suite: its id.
        results: folder of the results.
    """

    def __init__(self, suite: str, results: Path) -> None:
        self._memory = Memory(cache_dir(results) / "records" / f"{safe_name(suite)}.json", _version())

        self._packs: dict[str, tuple[Pack, Known | None]] = {}
        self._sound: dict[str, set[str]] = {}

    def read(self, file: str) -> Record:
        """The record in a file, or at its place in a pack.

        Raises:
            UserError: as `read_record` with `sealed`.
        """
        folder, _, name = file.rpartition("/")
        if folder.endswith(SUFFIX) and (pack := self._pack(folder)) is not None:
            if pack[1] is not None:
                return pack[1].record(name)
            record = record_of(pack[0].record(name), file, sealed=True)
            self._sound.setdefault(folder, set()).add(name)
            return record
        try:
            state = state_of(os.stat(file))
        except OSError:
            return read_record(Path(file), sealed=True)  # which says what is wrong with it
        known = self._memory.recall(file, state) is not None
        record = read_record(Path(file), sealed=True, known=known)
        if not known:
            self._memory.learn(file, state, record.status)
        return record

    def _pack(self, file: str) -> tuple[Pack, Known | None] | None:
        """A pack, also as `Known` where all of it was found intact in this state; None where there is none."""
        if file not in self._packs:
            if not os.path.isfile(file):
                return None
            pack = open_pack(file)
            known = pack.state and self._memory.recall(file, pack.state) is not None
            self._packs[file] = pack, Known(pack) if known else None
        return self._packs[file]

    def status(self, file: str) -> Status | None:
        """What became of the run whose record is in a file of its own; None where that is no intact record."""
        try:
            known: Status | None = self._memory.recall(file, state_of(os.stat(file)))
            return known or self.read(file).status
        except (OSError, UserError):
            return None

    def save(self) -> None:
        """Keep what was found for the next process; of a pack, if all its records were read and are intact."""
        for file, (pack, known) in self._packs.items():
            if known is None and pack.state and not pack.faults and len(self._sound.get(file, ())) == len(pack):
                self._memory.learn(file, pack.state, "intact")
        self._memory.save()


@cache
def _version() -> str:
    """Of what reads records and computes seals."""
    return f"{__version__} {[state_of(os.stat(m.__file__ or '')) for m in (form, packs, packform, sealing)]}"
