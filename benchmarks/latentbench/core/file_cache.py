"""What was found out about files, kept between processes by the state or the content that each file had.

A memory saves work and proves nothing: one that is damaged, of another version or cannot be written is as good as none.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from latentbench.core.bounds import PACK_BYTES, read_at_most
from latentbench.core.whole import written_beside

#: A file's state: when it was changed, when its entry was, its size and its inode. Nobody can set the second back.
State = list[int]
#: sha256 of a file's bytes, where its times are not to be relied on.
Digest = str
#: Nanoseconds for which a file must have stood still: a later change may share the clock tick of an earlier one.
STILL = 2_000_000_000


def state_of(found: os.stat_result) -> State:
    """The state of a file."""
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino]


def states_of(folders: Iterable[Path], suffix: str) -> Iterator[tuple[str, State]]:
    """Files below `folders` whose names end in `suffix`, with their states, in an order that stays."""
    for top in folders:
        for here, below, names in os.walk(top):
            below.sort()
            for name in sorted(names):
                if name.endswith(suffix):
                    with suppress(OSError):
                        yield f"{here}/{name}", state_of(os.stat(f"{here}/{name}"))


class Memory:
    """Values by name, each of them valid while its file is in the state that it was in.

    Args:
        path: where it is kept.
        version: what else the values depend on; those found out under another one are forgotten.
    """

    def __init__(self, path: Path, version: str) -> None:
        self._path, self._version, self._new = path, version, False
        self._known: dict[str, Any] = {}
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            kept = json.loads(read_at_most(path, PACK_BYTES) or b"")
            if kept["version"] == version:
                self._known = dict(kept["known"])

    def recall(self, name: str, state: State | Digest) -> Any:
        """What was found out about `name` in this state, or with this content; None if nothing was."""
        known = self._known.get(name)
        return known[1] if isinstance(known, list) and len(known) == 2 and known[0] == state else None

    def learn(self, name: str, state: State | Digest, value: Any) -> None:
        """Keep what was found out, unless the file changed so lately that its state may not tell the next change."""
        if isinstance(state, str) or time.time_ns() - max(state[:2]) > STILL:
            self._known[name] = [state, value]
            self._new = True

    def save(self) -> None:
        """Write what is new, all of it or nothing."""
        if not self._new:
            return
        text = json.dumps({"version": self._version, "known": self._known}, separators=(",", ":"))
        write_quietly(self._path, text.encode())
        self._new = False


def write_quietly(path: Path, content: bytes) -> None:
    """Write a file of a cache, all of it or nothing; a folder that cannot be written costs time and no more."""
    with suppress(OSError), written_beside(path, content, lasting=False) as temporary:
        os.replace(temporary, path)
