"""The runs of a suite by name, for whoever asks after each of thousands of runs which there are.

To list a folder of 100,000 runs takes a tenth of a second on a disk and many on a network. So the list is kept, and
made anew only when it is a hundred times as old as it took to make: listing costs at most a hundredth of the time, and
what others have added meanwhile is seen that much later. In a small folder that is at once.
"""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections.abc import Iterator
from pathlib import Path

from latentbench.core.paths import safe_name
from latentbench.records.archive import listed, references

#: Age of a list in times of what it took to make.
RARELY = 100.0


class Listing:
    """The runs of one suite.

    Args:
        suite: its id.
        results: folder of the results.
    """

    def __init__(self, suite: str, results: Path) -> None:
        self._suite, self._results = suite, results
        self._runs = results / "runs" / safe_name(suite)
        self._names: list[str] = []
        self._references: list[str] = []
        self._places: dict[str, str] = {}
        self._next = 0.0

    def add(self, name: str) -> None:
        """Take up a run that this process has done."""
        at = bisect_left(self._names, name)
        if self._names[at : at + 1] != [name]:
            insort(self._names, name)

    def records(self, prefix: str) -> Iterator[Path]:
        """Where the records of the runs whose names start with `prefix` are, or will be when they are done."""
        self._list()
        for name in _starting(self._names, prefix):
            yield self._runs / name / "record.json"
        for name in _starting(self._references, prefix):
            yield Path(self._places[name])

    def _list(self) -> None:
        began = time.monotonic()
        if began < self._next:
            return
        self._names = listed(str(self._runs))
        self._places = dict(references(self._suite, self._results))
        self._references = sorted(self._places)
        now = time.monotonic()
        self._next = now + RARELY * (now - began)


def _starting(names: list[str], prefix: str) -> Iterator[str]:
    at = bisect_left(names, prefix)
    while at < len(names) and names[at].startswith(prefix):
        yield names[at]
        at += 1
