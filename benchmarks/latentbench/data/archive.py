"""Compressed files and archives from outside, read in memory and within limits; nothing is ever extracted to disk.

Whatever a zip or tar holds that is not a plain file inside its own tree (a path that climbs out, an absolute path, a
link, a device) is refused, and so is more data than a limit allows.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from latentbench.core.bounds import GIB, HEADER_BYTES, MEMBERS
from latentbench.core.errors import UserError

_BLOCK = 1 << 22
_FORMS = (zlib.error, lzma.LZMAError, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile)
_DAMAGED = (*_FORMS, EOFError, OSError, RecursionError, NotImplementedError)


def read(path: Path, limit: int = 2 * GIB) -> bytes:
    """The content of a file, decompressed by its ending (.gz, .xz, .bz2, or as it is).

    Raises:
        UserError: truncated, damaged, or more than `limit` bytes.
    """
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.GzipFile, ".xz": lzma.LZMAFile, ".bz2": bz2.BZ2File}
    try:
        with openers.get(path.suffix, open)(path, "rb") as file:
            return _bounded(file, path, limit)
    except _DAMAGED as e:
        raise _damaged(path, e) from e


def text(path: Path, encoding: str = "utf-8", limit: int = 2 * GIB) -> str:
    """As `read`, decoded."""
    return read(path, limit).decode(encoding)


def _every(_name: str) -> bool:
    return True


def members(path: Path, limit: int = 4 * GIB, wanted: Callable[[str], bool] = _every) -> Iterator[tuple[str, bytes]]:
    """Plain files of a zip or tar (however compressed), in its order: name and content.

    Args:
        limit: bytes that all wanted members together may unpack to.
        wanted: which names to read; the others are only looked at for safety.

    Raises:
        UserError: truncated, damaged, unsafe, or past the limit.
    """
    try:
        if zipfile.is_zipfile(path):
            yield from _zip(path, limit, wanted)
        else:
            yield from _tar(path, limit, wanted)
    except _DAMAGED as e:
        raise _damaged(path, e) from e


def unpack(path: Path, folder: Path, limit: int = 4 * GIB) -> None:
    """Write the plain files of a zip or tar below a folder; raises as `members` does."""
    for name, content in members(path, limit):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _zip(path: Path, limit: int, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        if len(archive.infolist()) > MEMBERS:
            raise UserError(f"the archive holds more than {MEMBERS} files", where=path)
        for info in archive.infolist():
            _check_name(info.filename, path)
            if (info.external_attr >> 28) == 0o12:
                raise UserError(f"the archive holds a link: {info.filename!r}", where=path)
            if info.is_dir() or not wanted(info.filename):
                continue
            with archive.open(info) as file:
                data = _bounded(file, path, limit)
            limit -= len(data)
            yield info.filename, data


def _tar(path: Path, limit: int, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, "r|*", tarinfo=_BoundedHeader) as archive:
        for count, info in enumerate(archive):
            archive.members = []  # type: ignore[attr-defined] # it would keep every header that it has read
            if count >= MEMBERS:
                raise UserError(f"the archive holds more than {MEMBERS} files", where=path)
            _check_name(info.name, path)
            if info.isdir():
                continue
            if not info.isfile():
                raise UserError(f"the archive holds a link or device: {info.name!r}", where=path)
            if not wanted(info.name):
                continue
            file = archive.extractfile(info)
            assert file is not None  # a plain file always opens
            data = _bounded(file, path, limit)
            if len(data) != info.size:
                raise EOFError(f"{info.name} is cut short")
            limit -= len(data)
            yield info.name, data


class _BoundedHeader(tarfile.TarInfo):
    """A member of a tar, whose long names and further attributes come before it in headers of any size they claim."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        headers = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
        if self.type in (*headers, tarfile.SOLARIS_XHDTYPE) and self.size > HEADER_BYTES:
            raise EOFError(f"a header of {self.size} bytes")
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return member


def _check_name(name: str, path: Path) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (len(name) > 1 and name[1] == ":"):
        raise UserError(f"the archive holds a path that climbs out: {name!r}", where=path)


def _bounded(file: IO[bytes], path: Path, limit: int) -> bytes:
    """All of `file`, read block by block so that a small file cannot grow past `limit` in memory."""
    blocks, total = [], 0
    while block := file.read(_BLOCK):
        total += len(block)
        if total > limit:
            raise UserError(f"unpacks to more than {limit} bytes", where=path)
        blocks.append(block)
    return b"".join(blocks)


def _damaged(path: Path, error: BaseException) -> UserError:
    return UserError(f"truncated or damaged file: {error}", where=path, fix="delete it and fetch it again")
