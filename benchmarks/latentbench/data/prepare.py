"""Prepare a dataset once: obtain, load, check, write as Arrow under ``data/prepared/<name>/``.

A folder appears there whole or not at all: it is made beside its place and renamed into it, under a file lock that
makes a second process wait and then find the work done.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.seeds import derive
from latentbench.data.arrow import write_splits
from latentbench.data.columns import Chunk
from latentbench.data.manifest import FORMAT, MANIFEST, prepared_dir, read_manifest
from latentbench.data.progress import Progress, silent
from latentbench.data.registry import Entry, call


def prepare(entry: Entry, progress: Progress = silent, *, force: bool = False) -> dict[str, Any]:
    """Make the prepared form of `entry` unless it is there; safe when several processes do so at once.

    Returns:
        The manifest: format, name, recipe, content_hash, splits.

    Raises:
        UserError: no source, a wrong hash, a damaged file, data other than declared, a full disk.
    """
    manifest = None if force else read_manifest(entry)
    if manifest is not None:
        return manifest
    with _alone(entry) as root:
        manifest = None if force else read_manifest(entry)
        return manifest if manifest is not None else _make(entry, root, lambda folder: _write(entry, progress, folder))


def adopt(entry: Entry, fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Take over a prepared form that was made elsewhere, in place of what is here.

    Args:
        entry: whose.
        fill: writes it, with its manifest, into an empty folder, checks it, and returns the manifest.

    Raises:
        UserError: as `fill`; a full disk.
    """
    with _alone(entry) as root:
        return _make(entry, root, fill)


@contextlib.contextmanager
def _alone(entry: Entry) -> Iterator[Path]:
    """The folder of prepared data, while nobody else prepares `entry`."""
    from filelock import FileLock

    root = prepared_dir()
    with _disk_errors(entry.name, root):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{entry.name}.lock"):
            _sweep(root, entry.name)
            yield root


def _sweep(root: Path, name: str) -> None:
    """Remove what killed preparations of `name` left; called under its lock, so nobody is at work there."""
    for stale in root.glob(f".{name}.tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)


def _make(entry: Entry, root: Path, fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix=f".{entry.name}.tmp-", dir=root))
    try:
        manifest = fill(folder)
        folder.chmod(0o755)
        _put(folder, root / entry.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return manifest


def _write(entry: Entry, progress: Progress, folder: Path) -> dict[str, Any]:
    """Obtain, load, check and write `entry` into an empty folder; the manifest."""
    progress(f"{entry.name}: preparing")
    written = write_splits(entry, _chunks(entry, progress), folder)
    if entry.content_hash is not None and written["content_hash"] != entry.content_hash:
        raise UserError(
            f"{entry.name}: content hash {written['content_hash'][:16]}… is not the declared "
            f"{entry.content_hash[:16]}…",
            fix="the source has other data than the registry entry says",
        )
    manifest = {"format": FORMAT, "name": entry.name, "recipe": entry.recipe, **written}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return manifest


def _put(made: Path, place: Path) -> None:
    """Move a finished folder to its place; one that stands there goes first (its open memory maps stay valid)."""
    old = made.with_name(made.name + "-old")
    with contextlib.suppress(FileNotFoundError):
        os.replace(place, old)
    os.replace(made, place)
    shutil.rmtree(old, ignore_errors=True)


def _chunks(entry: Entry, progress: Progress) -> Iterator[Chunk]:
    if entry.kind == "rendered":
        raise UserError(f"{entry.name} is rendered at each access and has no prepared form")
    if entry.kind == "generated":
        assert entry.generate is not None  # held by Entry's validator
        for name, split in entry.splits.items():
            rng = np.random.default_rng(derive(entry.seed, "data", entry.name, name))
            yield Chunk(name, call("generator", entry.generate, split.rows, rng, **{**entry.params, **split.params}))
        return
    from latentbench.data.sources import HubData, obtain

    found = obtain(entry, progress)
    if isinstance(found, HubData):
        yield from found.chunks(entry)
        return
    try:
        yield from call("loader", found.form.loader, found.files, **found.form.params)
    except (EOFError, ValueError, KeyError, IndexError, TypeError, struct.error) as e:
        where = next(iter(found.files.values()), Path(entry.name)).parent
        raise UserError(f"{entry.name}: a source file is damaged: {type(e).__name__}: {e}", where=where) from e


@contextlib.contextmanager
def _disk_errors(name: str, root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{name}: the disk is full", where=root, fix="free space or set LATENTBENCH_DATA") from e
        if e.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise UserError(f"{name}: cannot write", where=root, fix="set LATENTBENCH_DATA to a folder you own") from e
        raise
