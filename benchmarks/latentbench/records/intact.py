"""Which of a suite's records were found intact, so that thousands of seals need not be computed each time.

Kept under ``results/cache/`` by the hash of the bytes that were read, which costs microseconds, not by what a file
system says of them: a bit that flips on the medium leaves every time as it was. `latentbench verify` uses none of it.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from latentbench import __version__
from latentbench.core.errors import UserError
from latentbench.core.file_cache import Memory, state_of
from latentbench.core.paths import cache_dir, safe_name, shown, without_mark
from latentbench.records import pack as packs
from latentbench.records import packform, sealing
from latentbench.records import record as form
from latentbench.records.known import Known, Read, as_known, made
from latentbench.records.pack import SUFFIX, Pack, open_pack
from latentbench.records.record import REMOVE, Record, Status, place_fault, record_of, record_text


class Intact:
    """The records of one suite.

    Args:
        suite: its id.
        results: folder of the results.
    """

    def __init__(self, suite: str, results: Path) -> None:
        self._suite = safe_name(suite)
        self._memory = Memory(cache_dir(results) / "records" / f"{self._suite}.json", _version())
        self._packs: dict[str, tuple[Pack, Known | None]] = {}
        self._sound: dict[str, set[str]] = {}
        self._shared: dict[bytes, Any] = {}

    def read(self, file: str) -> Record:
        """The record in a file, or at its place in a pack. Raises UserError as `unmade` does."""
        return made(self.unmade(file))

    def unmade(self, file: str) -> Read:
        """The same, not yet made where it is one of a pack and like others there.

        Raises:
            UserError: as `read_record` with `sealed`; or it is the record of another run or suite.
        """
        folder, _, name = file.rpartition("/")
        if folder.endswith(SUFFIX) and (pack := self._pack(folder)) is not None:
            if pack[1] is not None:
                return pack[1].read(name)
            record = self._placed(record_of(pack[0].record(name), file, sealed=True), file)
            self._sound.setdefault(folder, set()).add(name)
            return record
        text = record_text(file)
        return self._in_file(file, text, hashlib.sha256(text).hexdigest())

    def _in_file(self, file: str, text: bytes, digest: str) -> Record:
        if self._memory.recall(file, digest) is not None:
            with suppress(LookupError, TypeError, ValueError, AttributeError):  # the memory does not tell the truth
                return as_known(from_json(without_mark(text), allow_inf_nan=False), self._shared)
        record = record_of(text, file, sealed=True)
        self._memory.learn(file, digest, self._placed(record, file).status)
        return record

    def _placed(self, record: Record, file: str) -> Record:
        fault = place_fault(record, file)
        if fault is None and safe_name(record.suite) != self._suite:
            fault = f"it is a record of suite {record.suite[:80]}"
        if fault is not None:
            raise UserError(fault, where=shown(Path(file)), fix=REMOVE)
        return record

    def _pack(self, file: str) -> tuple[Pack, Known | None] | None:
        """A pack, also as `Known` where all of it was found intact with these bytes; None where there is none."""
        if file not in self._packs:
            if not os.path.isfile(file):
                return None
            pack = open_pack(file)
            known = pack.digest and self._memory.recall(file, pack.digest) is not None
            self._packs[file] = pack, Known(pack) if known else None
        return self._packs[file]

    def status(self, file: str) -> Status | None:
        """What became of the run whose record is in a file of its own; None where that is no intact record of it."""
        try:
            text = record_text(file)
            digest = hashlib.sha256(text).hexdigest()
            known: Status | None = self._memory.recall(file, digest)
            return known or self._in_file(file, text, digest).status
        except UserError:
            return None

    def save(self) -> None:
        """Keep what was found for the next process; of a pack, if all its records were read and are intact."""
        for file, (pack, known) in self._packs.items():
            if known is None and pack.digest and not pack.faults and len(self._sound.get(file, ())) == len(pack):
                self._memory.learn(file, pack.digest, "intact")
        self._memory.save()


@cache
def _version() -> str:
    """Of what reads records and computes seals."""
    return f"{__version__} {[state_of(os.stat(m.__file__ or '')) for m in (form, packs, packform, sealing)]}"
