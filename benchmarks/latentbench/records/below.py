"""Records and declarations in a folder that somebody sends, whatever its layout; links are not followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from latentbench.core.paths import is_companion
from latentbench.records.declared import FOLDER
from latentbench.records.pack import CURVES, SUFFIX, Pack, open_pack

MAX_DEPTH = 20


def records_below(folder: Path) -> Iterator[Path]:
    """Records of a results folder, or any folder of records, those in packs included; of `folder` if it is a file."""
    if folder.is_file():
        if folder.suffix != SUFFIX and not _is_declaration(folder):
            yield folder
    else:
        found = (path for path in _files_below(folder) if not _is_declaration(path))
        yield from (path for path in found if path.name == "record.json" or "--" in path.name)
    for pack in packs_below(folder):
        yield from (pack.path / name for name in pack.names())


def packs_below(folder: Path) -> Iterator[Pack]:
    """Packs of records, likewise."""
    files = [folder] if folder.is_file() else _files_below(folder, SUFFIX)
    return (open_pack(file) for file in files if file.suffix == SUFFIX and not file.name.endswith(CURVES))


def declarations_below(folder: Path) -> Iterator[Path]:
    """Declarations of interim analyses, likewise."""
    return filter(_is_declaration, [folder] if folder.is_file() else _files_below(folder))


def _is_declaration(path: Path) -> bool:
    """Whether a file lies where declarations do; a suite may have the name of their folder."""
    return path.parent.name == FOLDER and path.parent.parent.name not in ("runs", "reference")


def _files_below(folder: Path, suffix: str = ".json") -> Iterator[Path]:
    """Files of a kind that are no links."""
    depth = len(folder.parts)
    for root, folders, files in os.walk(folder, followlinks=False):
        deep = len(Path(root).parts) - depth >= MAX_DEPTH
        left = ("checkpoint", "wandb", "locks")
        folders[:] = [] if deep else sorted(f for f in folders if f not in left and not is_companion(f))
        for name in sorted(files):
            if name.endswith(suffix) and not is_companion(name) and not (path := Path(root, name)).is_symlink():
                yield path
