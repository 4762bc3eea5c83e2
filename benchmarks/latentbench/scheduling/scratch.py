"""Folders that a process has for itself on whichever machine: what a killed one left behind, the next one removes.

Whoever uses a folder holds a lock of the kernel on it, which ends with the process however that ends. So a folder that
can be locked has no owner any more; process numbers, which other machines and containers use again, are not needed.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "latentbench-run-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder for as long as the block lasts; those of dead owners are removed first.

    Raises:
        OSError: there is no room for it.
    """
    remove_abandoned()
    folder, held = _claimed()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def scratch_for_good() -> Path:
    """An empty folder for as long as this process lasts; killed, it leaves the folder to the next one to remove.

    Raises:
        OSError: there is no room for it.
    """
    remove_abandoned()
    folder, held = _claimed()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _held.append(held)
    return folder


def remove_abandoned() -> None:
    """Remove what dead processes of this user left."""
    _remove_abandoned(Path(tempfile.gettempdir()))


#: Descriptors that locks hang on until the process ends.
_held: list[int] = []


def _claimed() -> tuple[Path, int]:
    """A new folder, and the descriptor that its lock hangs on."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):  # another process took it for abandoned before it was locked
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            if _lock(held) is not False and folder.exists():
                return folder, held
            os.close(held)


def _remove_abandoned(place: Path) -> None:
    """Remove the folders in `place` that are this user's and nobody's at work."""
    with suppress(OSError):
        for entry in os.scandir(place):
            if not entry.name.startswith(PREFIX) or not entry.is_dir(follow_symlinks=False):
                continue
            with suppress(OSError):  # another is removing it, too
                if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
                    continue
                held = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    if _lock(held):
                        shutil.rmtree(entry.path, ignore_errors=True)
                finally:
                    os.close(held)


def _lock(held: int) -> bool | None:
    """Lock a folder: whether that went well; None where its file system has no locks."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
