"""Code that no distribution installed: a lab's own package or script, found on ``sys.path``.

Such a package has no version that a record could name, so its sources count as those of the plug-in that imports it.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path


def loose_root(module: str) -> Path | None:
    """Where the top-level module of a dotted name lies: its file, or its folder; None if it is part of Python or of an
    installed distribution, or is not found. Nothing is imported."""
    top = module.partition(".")[0]
    return None if top in sys.stdlib_module_names or not top else _root(top, tuple(sys.path))


def is_found(module: str) -> bool:
    """Whether there is the top-level module of a dotted name. Nothing is imported."""
    top = module.partition(".")[0]
    return not top or top in sys.stdlib_module_names or _spec(top, tuple(sys.path)) is not None


def loose_file(module: str) -> Path | None:
    """Source file of a module of a loose package; None where there is none."""
    root = loose_root(module)
    if root is None:
        return None
    if root.suffix == ".py":
        return root if "." not in module else None
    base = root.joinpath(*module.split(".")[1:])
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return file if file.is_file() else None


@lru_cache(maxsize=4096)
def _root(top: str, path: tuple[str, ...]) -> Path | None:
    if (spec := _spec(top, path)) is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    found = folders[0] if folders else spec.origin if (spec.origin or "").endswith(".py") else None
    if found is None or _is_installed(os.path.dirname(os.path.abspath(found))):
        return None
    return Path(found).absolute()


@lru_cache(maxsize=4096)
def _spec(top: str, path: tuple[str, ...]) -> ModuleSpec | None:
    try:
        return PathFinder.find_spec(top, list(path))
    except (ImportError, ValueError):
        return None


@lru_cache(maxsize=1024)
def _is_installed(folder: str) -> bool:
    """Whether a folder is one of Python's own, or distributions are unpacked in it."""
    own = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    own |= {*site.getsitepackages(), site.getusersitepackages()}
    if any(folder == place or folder.startswith(place + os.sep) for place in own):
        return True
    try:
        return any(name.endswith((".dist-info", ".egg-info")) for name in os.listdir(folder))
    except OSError:
        return False
