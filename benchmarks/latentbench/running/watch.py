"""Whether the data on disk are still those that a run's fingerprint names."""

from __future__ import annotations

from pathlib import Path

from latentbench.core.errors import UserError
from latentbench.core.file_cache import state_of
from latentbench.data.dataset import Dataset
from latentbench.data.manifest import prepared_dir, read_manifest

#: Name and state (`latentbench.core.file_cache`) of each file of a prepared dataset.
Look = tuple[tuple[str, tuple[int, ...]], ...]

_sound: set[tuple[str, Look]] = set()


class DataWatch:
    """Notices that a prepared dataset changes under a run, so that no result mixes two contents.

    What is on disk is hashed before a process first trains on it, a second for each gigabyte: file times tell
    nothing of a copy, nor of what rots on the medium. From then on it is hashed again where a file's state changes.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._entry, self._hash = dataset.entry, dataset.content_hash

    def fault(self) -> str | None:
        """What is wrong with the data, in one line; None if they are as they were."""
        if self._entry.kind == "rendered":
            return None
        now = self._look()
        if (self._hash, now) in _sound:
            return None
        if (wrong := self._hash_again()) is None:
            _sound.add((self._hash, now))
            return None
        mend = f"`latentbench data fetch {self._entry.name} --force` mends it"
        return f"dataset {self._entry.name} changed on disk: {wrong} ({mend}; then run again)"

    def _hash_again(self) -> str | None:
        from latentbench.data.arrow import rehash

        manifest = read_manifest(self._entry)
        if manifest is None:
            return "it is cut short, or another recipe's"
        if manifest["content_hash"] != self._hash:
            return "it has other content than when the run began"
        for split, kept in manifest["splits"].items():
            try:
                found = rehash(self._folder / kept["file"], self._entry.columns_of(split))
            except (UserError, OSError) as e:
                return f"split {split} cannot be read: {e}"
            if changed := [name for name, wanted in kept["hashes"].items() if found.get(name) != wanted]:
                return f"split {split}, column {', '.join(changed)}: not the values that were prepared"
        return None

    @property
    def _folder(self) -> Path:
        return prepared_dir() / self._entry.name

    def _look(self) -> Look:
        if self._entry.kind == "rendered":
            return ()
        found = []
        for path in sorted(self._folder.rglob("*")):
            if path.is_file():
                found.append((path.relative_to(self._folder).as_posix(), tuple(state_of(path.stat()))))
        return tuple(found)
