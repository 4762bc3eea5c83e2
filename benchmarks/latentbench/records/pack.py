"""Many records in one file, ``results/reference/<suite>/<tier>.jsonl``; its lines are those of `records.packform`.

A packed record has a path as any other: that of its pack, and its run identifier below it. A pack may come from
anybody: a line that cannot be read costs the records that need it, and is named by its number.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from latentbench.core.bounds import PACK_BYTES, RECORD_BYTES, read_at_most
from latentbench.core.errors import UserError
from latentbench.core.file_cache import state_of
from latentbench.core.paths import shown, without_mark
from latentbench.records.packform import Json, joined, named, numbered
from latentbench.records.sealing import seal_of

SUFFIX = ".jsonl"
#: Learning curves beside a pack.
CURVES = ".curves.jsonl"
TIERS = ("cpu", "paper", "smoke")
#: Bytes of a pack, and of a line of it: some 200,000 records.
MAX_BYTES = PACK_BYTES
MAX_LINE = RECORD_BYTES
_FIX = "restore the file from git, or remove the line; its run is then done again"


class Pack:
    """The records of a file, by their run identifiers.

    Attributes:
        path: the file.
        digest: sha256 of its bytes; empty where it could not be read.
        faults: lines that are none, each as a message with file and line.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.digest, self.faults = path, "", list[str]()
        self._runs: dict[str, tuple[bytes, int]] = {}
        self._again: dict[str, dict[bytes, int]] = {}
        self._shared: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._parsed: dict[tuple[str, str], Json] = {}
        try:
            text = read_at_most(path, MAX_BYTES)
        except OSError as e:
            self.faults.append(f"{shown(path)}: cannot be read: {e.strerror}")
            return
        if text is None:
            self.faults.append(f"{shown(path)}: larger than {MAX_BYTES} bytes")
            return
        self.digest = hashlib.sha256(text).hexdigest()
        for number, kind, name, line in numbered(without_mark(text)):
            if kind is None or len(line) > MAX_LINE:
                self.faults.append(f"{self._at(number)}: not a line of a pack")
            elif kind in ("run", "whole"):
                first = self._runs.setdefault(name, (line, number))
                if first[0] != line:
                    self._again.setdefault(name, dict([first])).setdefault(line, number)
            else:
                self._shared.setdefault((kind, name), (number, line))

    def __len__(self) -> int:
        return len(self._runs)

    def names(self, prefix: str = "") -> list[str]:
        """The run identifiers that start with `prefix`, sorted."""
        return [name for name in self._sorted if name.startswith(prefix)] if prefix else list(self._sorted)

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._runs)

    def record(self, name: str) -> Json:
        """The JSON of a record; where two branches did the same run, of the sound one, the finished one, the newest.

        What the seeds of a method share is the same object in all of them, so nobody may change it.

        Raises:
            UserError: there is none, or one of its lines is damaged.
        """
        if name not in self._runs:
            raise UserError(f"no record {name[:200]!r}", where=shown(self.path), fix="give a run that it has")
        lines = self._again.get(name)
        if lines is None:
            return self._record(name, *self._runs[name])
        found: list[Json] = []
        fault: UserError | None = None
        for line, number in lines.items():
            try:
                found.append(self._record(name, line, number))
            except UserError as e:
                fault = e
        if not found and fault is not None:
            raise fault
        return max(found, key=_rank)

    def parts(self, name: str) -> tuple[Json, Json] | None:
        """A run as its line says it, and its cell; None where `record` alone can tell.

        Raises:
            UserError: as there.
        """
        if name not in self._runs or name in self._again:
            return None
        line, number = self._runs[name]
        run = self._parse(line, number)
        return None if "whole" in run else (run, self._part("cell", run.get("cell"), number))

    def unused(self) -> Iterator[str]:
        """What is wrong with lines that are shared, whether a record needs them or not, as messages."""
        for kind, name in self._shared:
            try:
                self._part(kind, name)
            except UserError as e:
                yield str(e)

    def _record(self, name: str, line: bytes, number: int) -> Json:
        content = self._parse(line, number)
        if content.get("whole") == name and isinstance(content.get("record"), dict):
            record: Json = content["record"]
        else:
            cell, environment = (self._part(kind, content.get(kind), number) for kind in ("cell", "environment"))
            try:
                record = joined(content, cell, environment)
            except (LookupError, TypeError, AttributeError, ValueError):
                raise self._damaged(number) from None
        if record.get("run_id") != name:
            raise self._damaged(number)
        return record

    def _part(self, kind: str, name: Any, asked: int = 0) -> Json:
        """A cell or an environment, whose name is the hash of what is in it."""
        key = (kind, name if isinstance(name, str) else "")
        if (known := self._parsed.get(key)) is not None:
            return known
        if key not in self._shared:
            raise UserError(f"there is no {kind} {str(name)[:40]!r}", where=self._at(asked), fix=_FIX)
        number, line = self._shared[key]
        content = self._parse(line, number)
        content.pop(kind, None)
        try:
            sound = named(content) == name
        except ValueError:
            sound = False
        if not sound:
            raise UserError(f"the {kind} is not what its name says: it is damaged", where=self._at(number), fix=_FIX)
        self._parsed[key] = content
        return content

    def _parse(self, line: bytes, number: int) -> Json:
        try:
            content = from_json(line, allow_inf_nan=False)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise self._damaged(number)
        return content

    def _damaged(self, number: int) -> UserError:
        return UserError("the line is damaged", where=self._at(number), fix=_FIX)

    def _at(self, number: int) -> str:
        return f"{shown(self.path)}:{number}"


def _rank(record: Json) -> tuple[bool, bool, str]:
    try:
        sound = record.get("seal") == seal_of(record)
    except ValueError:
        sound = False
    made = record.get("provenance")
    return sound, record.get("status") == "finished", str(made.get("ended")) if isinstance(made, dict) else ""


@lru_cache(maxsize=8)
def _opened(file: str, _: tuple[int, ...]) -> Pack:
    return Pack(Path(file))


def open_pack(file: str | Path) -> Pack:
    """The pack in a file, read anew if it has changed; one that cannot be read is empty, and says so in its faults."""
    try:
        state = tuple(state_of(os.stat(file)))
    except OSError:
        state = ()
    return _opened(str(file), state)


def pack_of(path: Path) -> Pack | None:
    """The pack that a record's path leads into; None where the record has a file of its own."""
    return open_pack(path.parent) if path.parent.suffix == SUFFIX and os.path.isfile(path.parent) else None


def packs_in(folder: str | Path, tiers: tuple[str, ...] = TIERS) -> list[str]:
    """Files of the packs of a suite's folder, of these tiers."""
    return [file for tier in tiers if os.path.isfile(file := f"{folder}/{tier}{SUFFIX}")]
