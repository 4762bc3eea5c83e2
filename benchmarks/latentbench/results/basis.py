"""All that what is said of a suite depends on, as one hash: while it stays, nothing needs to be found out again.

Records, declarations and the suite count by their bytes, which are read and hashed every time, so that neither an edit
nor what rots on the medium goes unseen; code, registry and prepared data by the state of each file. Neither pydantic
nor numpy is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from latentbench.core import plugins
from latentbench.core.bounds import PACK_BYTES, RECORD_BYTES, YAML_BYTES, read_at_most
from latentbench.core.file_cache import STILL, State, state_of, states_of, write_quietly
from latentbench.core.paths import cache_dir, data_dir, reference_dirs, results_dir, roots, safe_name
from latentbench.spec.files import NOTES
from latentbench.spec.standing import surroundings

#: Packages whose numbers are shown.
_NUMERIC = ("numpy", "scipy", "pydantic")


def basis(suite: str, file: Path) -> str | None:
    """The hash for a suite of the project; None where something changed so lately that its state may not tell the next
    change, or where code of other folders takes part.

    Args:
        suite: its id.
        file: its file.
    """
    if plugins.folders():
        return None
    states = list(_states())
    newest = max((max(state[:2]) for _, state in states if state), default=0)
    if time.time_ns() - newest <= STILL:
        return None
    hashes = [(str(path), _digest(path, most)) for path, most in _contents(suite, file)]
    places = [str(p) for p in (*roots(), data_dir(), results_dir())]
    return hashlib.sha256(json.dumps([places, states, hashes]).encode()).hexdigest()


def _states() -> Iterator[tuple[str, State]]:
    yield from surroundings()
    yield from states_of([Path(__file__).parents[1]], ".json")  # engines that were accepted
    yield from states_of([data_dir() / "prepared"], "")
    for name in _NUMERIC:
        found = find_spec(name)
        if found is not None and found.origin:
            yield name, state_of(os.stat(found.origin))


def _contents(suite: str, file: Path) -> Iterator[tuple[Path, int]]:
    """Files that count by their bytes, and the most bytes that are read of each."""
    name, results = safe_name(suite), results_dir()
    yield file, YAML_BYTES
    yield file.parent / NOTES, YAML_BYTES
    for folder in (folder / name for folder in reference_dirs(results)):
        yield from ((folder / found, PACK_BYTES) for found in _listed(folder) if found.endswith((".json", ".jsonl")))
    runs = results / "runs" / name
    yield from ((runs / run / "record.json", RECORD_BYTES) for run in _listed(runs))
    declared = results / "sequential"
    yield from ((declared / found, RECORD_BYTES) for found in _listed(declared) if found.startswith(f"{name}-"))


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _digest(path: Path, most: int) -> str:
    try:
        text = read_at_most(path, most)
    except OSError as e:
        return f"error {e.errno}"
    return "too large" if text is None else hashlib.sha256(text).hexdigest()


class Kept:
    """What was made of a suite, by name, for as long as its basis stays; in the folder of caches.

    What was kept carries the hash of its own text, so a cache that rots is made anew.

    Args:
        suite, file: as of `basis`.
    """

    def __init__(self, suite: str, file: Path) -> None:
        self._suite, self._file = suite, file
        self._basis = basis(suite, file)

    def recall(self, name: str) -> object:
        """What was kept under a name; None if nothing was, or not under today's basis."""
        if self._basis is None:
            return None
        try:
            digest, _, text = (read_at_most(self._path(name), PACK_BYTES) or b"").partition(b"\n")
            found: object = json.loads(text) if digest.decode() == self._seal(text) else None
        except (OSError, ValueError):
            return None
        return found

    def keep(self, name: str, value: object) -> None:
        """Keep what JSON can hold, unless its basis has changed while it was made."""
        if self._basis is None or basis(self._suite, self._file) != self._basis:
            return
        text = json.dumps(value).encode()
        write_quietly(self._path(name), self._seal(text).encode() + b"\n" + text)

    def _seal(self, text: bytes) -> str:
        return hashlib.sha256(f"{self._basis}\n".encode() + text).hexdigest()

    def _path(self, name: str) -> Path:
        return cache_dir() / "cards" / f"{safe_name(self._suite)}.{name}"
