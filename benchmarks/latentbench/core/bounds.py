"""How much is read of what comes from outside, and of what kind of file: every reader takes its bounds from here.

Anybody may have written a suite, a record, a pack, an archive or what lies in a store. So nothing of them is read
before it is known to be a file and of what size, nothing is unpacked past a limit, and nothing is said at any length.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import IO

MB, GIB = 1_000_000, 1 << 30

#: Bytes of a YAML file, of a record (or a line of a pack), of a pack, of a declaration, of a lease or a mark.
YAML_BYTES = 4 * MB
RECORD_BYTES = 4 * MB
PACK_BYTES = 256 * MB
DECLARATION_BYTES = 1 * MB
LEASE_BYTES = 64 * 1024
#: Bytes of a file beside a record (curve, picture), and of weights, checkpoints and prepared data in a store.
ARTEFACT_BYTES = 64 << 20
OBJECT_BYTES = 8 * GIB
#: Bytes that a compressed file or an archive unpacks to, files that it may hold, bytes of the headers before each.
UNPACKED_BYTES = 4 * GIB
MEMBERS = 2_000_000
HEADER_BYTES = 1 << 20
#: Bytes of a download whose size its entry does not say.
DOWNLOAD_BYTES = 64 * GIB
#: Levels of nesting of a YAML file, and its keys and values; digits of a whole number in a name or a text.
DEPTH = 50
YAML_NODES = 200_000
DIGITS = 19
#: Processes that a run is spread over, torch threads of each and runs in one program, as a record may name them.
DEVICES, THREADS, STACKED = 256, 4096, 4096
#: Processes that a run is spread over on a CPU, and threads of a replay, unless this machine has as many cores.
CPU_PROCESSES, REPLAY_THREADS = 8, 256
#: Faults of one file that are said, and characters of each.
FAULTS = 20
MESSAGE = 2000
#: Numbers that a model may hold, parts that it may have, and seconds that building it may take, to be said sound.
MODEL_NUMBERS = 10_000_000_000
MODEL_PARTS = 20_000
MODEL_SECONDS = 30
#: Bytes that building it may take on top, where it cannot be built without its numbers.
MODEL_BYTES = 4 * GIB


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """A file opened for reading; a pipe, a device or a socket is refused before anything is read or waited for.

    Raises:
        OSError: it cannot be opened, or is none.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_at_most(path: str | os.PathLike[str], most: int) -> bytes | None:
    """The bytes of a file, or None where they are more than `most`.

    Raises:
        OSError: it cannot be read, or is a pipe or a device.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            return None
        content = file.read(most + 1)
    return content if len(content) <= most else None


def whole_number(text: str) -> int | None:
    """The number that plain digits 0 to 9 say, of a length that a 64-bit number can have; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS else None


def shortened(text: str, most: int = MESSAGE) -> str:
    """`text`, or its two ends where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    return f"{text[: most * 2 // 3]} … {text[-most // 4 :]}"
