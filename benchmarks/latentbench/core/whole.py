"""Files that are written whole or not at all: they get their names once all of them is there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_beside(path: Path, content: bytes, *, lasting: bool = True) -> Iterator[str]:
    """A file beside `path` with all of `content`, for the block to give it its name; it is removed if that does not.

    Args:
        path: what it is to be called; its folder is made.
        content: of the file.
        lasting: it is on the disk before the block begins, and everybody may read it; a cache needs neither.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(content)
            if lasting:
                f.flush()
                os.fsync(f.fileno())
        if lasting:
            os.chmod(temporary, 0o644)
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
