"""Which of a suite's records were found intact, so that thousands of seals need not be computed at each look.

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
from latentbench.records import record as form
from latentbench.records.record import Record, Status, read_record


class Intact:
    """The records of one suite.

    Args:
        suite: its id.
        results: folder of the results.
    """

    def __init__(self, suite: str, results: Path) -> None:
        self._memory = Memory(cache_dir(results) / "records" / f"{safe_name(suite)}.json", _version())

    def read(self, path: Path) -> Record:
        """The record at `path`.

        Raises:
            UserError: as `read_record` with `sealed`.
        """
        try:
            state = state_of(os.stat(path))
        except OSError:
            return read_record(path, sealed=True)  # which says what is wrong with it
        known = self._memory.recall(str(path), state) is not None
        record = read_record(path, sealed=True, known=known)
        if not known:
            self._memory.learn(str(path), state, record.status)
        return record

    def status(self, path: Path) -> Status | None:
        """What became of the run whose record is at `path`; None where that is no intact record."""
        try:
            known: Status | None = self._memory.recall(str(path), state_of(os.stat(path)))
            return known or self.read(path).status
        except (OSError, UserError):
            return None

    def save(self) -> None:
        """Keep what was found for the next process."""
        self._memory.save()


@cache
def _version() -> str:
    """Of what reads records and computes seals."""
    return f"{__version__} {state_of(os.stat(form.__file__))}"
