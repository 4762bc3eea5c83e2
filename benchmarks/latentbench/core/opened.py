"""Which files a piece of code reads from some folders while it runs, by Python's own audit events.

What a library opens in C or Rust (Arrow, HDF5, safetensors) raises no such event.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from latentbench.core.bounds import open_regular

#: sha256 of what cannot be read again.
UNREADABLE = ""
#: Files that are named at most, of each piece of code.
MOST = 100


class _Watch:  # none equals another, whatever it has found
    def __init__(self, folders: tuple[str, ...]) -> None:
        self.folders = folders
        self.found: dict[str, str] = {}


_watching: list[_Watch] = []
_busy = threading.local()
_hooked: list[bool] = []


@contextmanager
def reads(folders: Iterable[os.PathLike[str]]) -> Iterator[dict[str, str]]:
    """Path and sha256 of each file below `folders`, sources left out, that is opened for reading meanwhile."""
    if not _hooked:
        sys.addaudithook(_heard)  # there is no way to take it away again
        _hooked.append(True)
    watch = _Watch(tuple(dict.fromkeys(p + os.sep for f in folders for p in (os.path.abspath(f), os.path.realpath(f)))))
    _watching.append(watch)
    try:
        yield watch.found
    finally:
        _watching.remove(watch)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """sha256 of a regular file; `UNREADABLE` for anything else."""
    try:
        with open_regular(path) as file:
            found = hashlib.sha256()
            while block := file.read(1 << 20):
                found.update(block)
            return found.hexdigest()
    except OSError:
        return UNREADABLE


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if event != "open" or not _watching or getattr(_busy, "now", False):
        return
    path, mode, flags = args
    if not isinstance(path, str | bytes | os.PathLike) or not _reads(mode, flags):
        return
    _busy.now = True
    try:
        name = os.path.abspath(os.fsdecode(path))
        if name.endswith((".py", ".pyc")):
            return
        for watch in _watching:
            if name.startswith(watch.folders) and name not in watch.found and len(watch.found) < MOST:
                watch.found[name] = sha256_of(name)
    finally:
        _busy.now = False


def _reads(mode: str | None, flags: int) -> bool:
    if mode is not None:
        return "r" in mode
    return flags & (os.O_WRONLY | os.O_RDWR | getattr(os, "O_DIRECTORY", 0)) == 0
