"""Records and declarations in a folder that somebody sends, whatever its layout; links are not followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from latentbench.records.declared import FOLDER

MAX_DEPTH = 20


def records_below(folder: Path) -> Iterator[Path]:
    """Record files of a results folder, or any folder of records; `folder` itself if it is a file."""
    if folder.is_file():
        return iter(() if _is_declaration(folder) else (folder,))
    found = (path for path in _files_below(folder) if not _is_declaration(path))
    return (path for path in found if path.name == "record.json" or "--" in path.name)


def declarations_below(folder: Path) -> Iterator[Path]:
    """Declarations of sequential looks, likewise."""
    return filter(_is_declaration, [folder] if folder.is_file() else _files_below(folder))


def _is_declaration(path: Path) -> bool:
    """Whether a file lies where declarations do; a suite may have the name of their folder."""
    return path.parent.name == FOLDER and path.parent.parent.name not in ("runs", "reference")


def _files_below(folder: Path) -> Iterator[Path]:
    """JSON files that are no links."""
    depth = len(folder.parts)
    for root, folders, files in os.walk(folder, followlinks=False):
        deep = len(Path(root).parts) - depth >= MAX_DEPTH
        folders[:] = [] if deep else sorted(f for f in folders if f not in ("checkpoint", "wandb", "locks"))
        for name in sorted(files):
            if name.endswith(".json") and not (path := Path(root, name)).is_symlink():
                yield path
