"""The store that machines share: bytes by name, in a folder, in an S3-compatible bucket, or wherever fsspec reaches.

It is laid out as a results folder is, so a folder that all machines see can be both:

    runs/<suite>/<run-id>/{record.json, curve.csv, weights.safetensors, checkpoint/…}
    leases/<suite>/<run-id>/<generation>.json        who is doing a run (`latentbench.scheduling.lease`)
    shared-data/<content hash>/…                     prepared datasets (`latentbench.scheduling.shared_data`)
    store.json                                       its mark, by which a machine knows that it sees the same one

A name appears whole or not at all.
"""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from latentbench.core.bounds import LEASE_BYTES, OBJECT_BYTES, read_at_most
from latentbench.core.errors import UserError
from latentbench.core.secrets import without_secrets
from latentbench.core.whole import written_beside
from latentbench.records.record import remove_unfinished, write_atomically

#: Tries of each request, and seconds before the second; each further wait is twice as long.
TRIES, PAUSE = 4, 0.5
MARK = "store.json"

#: What another try does not mend: no file, or a link that leads in circles.
_LASTING = (errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENXIO)

T = TypeVar("T")


class Unfit(UserError):
    """What lies under a name is no file, or larger than what belongs there."""


class Store:
    """Bytes by name below an address.

    Args:
        url: a folder, ``s3://bucket/prefix``, ``memory://…``: what fsspec opens. Credentials and endpoints come from
            where its file systems look for them (AWS_… and FSSPEC_… variables), not from the address.

    Raises:
        UserError: no such kind of store, or its library is not installed.
    """

    def __init__(self, url: str | Path) -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self.url = str(url)
        #: As messages show it.
        self.shown = without_secrets(self.url)
        try:
            self._fs, root = url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as e:
            raise UserError(
                f"no store of this kind can be opened: {' '.join(str(e).split())}",
                where=f"--store {self.shown}",
                fix="name a folder or s3://bucket/prefix; S3 needs `pip install 'latentbench[store]'`",
            ) from None
        self._root: str = root.rstrip("/")
        #: Where it lies, if it is a folder.
        self.folder = Path(self._root) if isinstance(self._fs, LocalFileSystem) else None

    def read(self, name: str, most: int = OBJECT_BYTES) -> bytes | None:
        """The bytes of `name`, or None where there is no such name.

        Raises:
            Unfit: they are more than `most`, or what a folder has there is no file.
            UserError: they cannot be read.
        """

        def bounded() -> bytes | None:
            if self.folder is not None:
                try:
                    return read_at_most(self.folder / name, most)
                except OSError as e:
                    if e.errno in _LASTING:
                        raise Unfit(e.strerror or str(e), where=f"{self.shown}/{name}", fix="remove it") from None
                    raise
            if (self._fs.size(self._at(name)) or 0) > most:
                return None
            content: bytes = self._fs.cat_file(self._at(name))
            return content

        with suppress(FileNotFoundError):
            if (content := self._try("read", bounded)) is None:
                raise Unfit(f"it is larger than {most} bytes", where=f"{self.shown}/{name}", fix="remove it")
            return content
        return None

    def write(self, name: str, content: bytes) -> None:
        """Put `content` under `name`, in place of what was there."""
        if self.folder is not None:
            path = self.folder / name
            self._try("written", lambda: write_atomically(path, content))
        else:
            self._try("written", lambda: self._fs.pipe_file(self._at(name), content))

    def create(self, name: str, content: bytes) -> bool:
        """Put `content` under `name` unless something is there; whether that was done.

        Exact in folders (NFS from version 3 on), in memory and on S3 with conditional writes; elsewhere two that come
        at the same moment may both be told yes.
        """

        def new() -> bool:
            try:
                if self.folder is not None:
                    _create(self.folder / name, content)
                else:
                    self._fs.pipe_file(self._at(name), content, mode="create")
            except FileExistsError:
                return False
            except Exception:
                if not self._fs.exists(self._at(name)):  # not what a condition that does not hold looks like
                    raise
                return (
                    self._fs.size(self._at(name)) == len(content) and self._fs.cat_file(self._at(name)) == content
                )  # a try of ours that was thought to have failed
            return True

        return self._try("written", new)

    def remove(self, *names: str) -> None:
        """Remove names, if they are there."""
        for name in names:
            with suppress(FileNotFoundError):
                self._try("written", lambda name=name: self._fs.rm_file(self._at(name)))  # type: ignore[misc]
            if self.folder is not None:
                with suppress(OSError):
                    (self.folder / name).parent.rmdir()  # an object store has no empty folders either

    def remove_unfinished(self, below: str) -> None:
        """Remove what killed processes left of writing below ``below/``; nobody else may be writing there."""
        if self.folder is not None:
            remove_unfinished(self.folder / below)

    def names(self, below: str) -> dict[str, int]:
        """All names that begin with ``below/``, without that beginning, and their sizes in bytes."""
        start = self._at(below) + "/"

        def listed() -> dict[str, int]:
            found = self._fs.find(self._at(below), detail=True)
            return {
                path.removeprefix(start): int(about["size"] or 0)
                for path, about in found.items()
                if path.startswith(start) and not path.rpartition("/")[2].startswith(".")
            }

        with suppress(FileNotFoundError):
            return self._try("listed", listed)
        return {}

    @cached_property
    def mark(self) -> str:
        """What tells this store from every other; made at the first use."""
        fresh = json.dumps({"store": uuid.uuid4().hex}).encode()
        if not self.create(MARK, fresh) and not self.read(MARK, LEASE_BYTES):  # what an older version left half-written
            self.write(MARK, fresh)
        return (self.read(MARK, LEASE_BYTES) or fresh).decode(errors="replace")

    def must_be(self, mark: str) -> None:
        """Make sure that this is the store of that mark, seen from another machine.

        Raises:
            UserError: it is not.
        """
        if (self.read(MARK, LEASE_BYTES) or b"").decode(errors="replace") != mark:
            raise UserError(
                f"another machine ({os.uname().nodename}) does not see the same store",
                where=f"--store {self.shown}",
                fix="name a folder that all nodes mount, or a bucket",
            )

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _try(self, what: str, action: Callable[[], T]) -> T:
        """Do it, again after a pause where it fails.

        Raises:
            FileNotFoundError: there is no such name.
            UserError: it fails again and again.
        """
        pause = PAUSE
        for left in reversed(range(TRIES)):
            try:
                return action()
            except (FileNotFoundError, Unfit):
                raise
            except Exception as e:  # each library has errors of its own
                if not left or isinstance(e, PermissionError):
                    why = " ".join((str(e) or type(e).__name__).split())[:300]
                    raise UserError(
                        f"the store cannot be {what}: {why}",
                        where=self.shown,
                        fix="check its address, your credentials and the network, then run again",
                    ) from None
            time.sleep(pause)
            pause *= 2
        raise AssertionError

    def __getstate__(self) -> Any:
        return self.url

    def __setstate__(self, url: Any) -> None:
        self.__init__(url)  # type: ignore[misc]


def _create(path: Path, content: bytes) -> None:
    """Write a file that is not there yet, all of it or nothing: it gets its name once it is whole.

    Its folder may be removed by another process that empties it.

    Raises:
        FileExistsError: there is one.
        OSError: it cannot be written; nothing of it is left.
    """
    for left in (True, False):
        try:
            with written_beside(path, content) as temporary:
                _name(temporary, path)
            return
        except FileNotFoundError:
            if not left:
                raise OSError(f"{path.parent} vanishes") from None


def _name(temporary: str, path: Path) -> None:
    """Give a whole file the name that it is to have, unless that is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: whoever makes the name has it, and then puts the content there
        with open(path, "xb"):
            pass
        os.replace(temporary, path)
