"""Importing by name, and finding a module's source without importing it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any


def load(target: str) -> Any:
    """The object behind ``module:name``."""
    from importlib import import_module

    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


@cache
def module_file(module: str) -> Path | None:
    """Source file of a module, or None where it has none (namespace packages, builtins)."""
    if module.split(".")[0] == "latentbench":  # the common case, without the import machinery
        base = Path(__file__).resolve().parents[1].joinpath(*module.split(".")[1:])
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        return file if file.is_file() else None
    from importlib.util import find_spec

    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None
