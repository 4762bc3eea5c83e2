"""Importing by name, and finding a module's source without importing it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from latentbench.core.errors import UserError
from latentbench.core.loose import loose_file, loose_root
from latentbench.core.plugins import PAPERS, paper_folders

_PACKAGE = Path(__file__).resolve().parents[1]


def load(target: str) -> Any:
    """The object behind ``module:name``.

    Raises:
        UserError: a module of a paper's folder or of one that the user names cannot be imported.
    """
    from importlib import import_module

    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)
    except UserError:
        raise
    except Exception as e:  # whatever a stranger's module raises at import
        if not module.startswith(f"{PAPERS}."):
            raise
        raise UserError(
            f"cannot be imported: {type(e).__name__}: {e}", where=module_file(module) or module, fix="mend the module"
        ) from e


@cache
def module_file(module: str) -> Path | None:
    """Source file of a module, or None where it has none (namespace packages, builtins)."""
    if module.split(".")[0] == "latentbench":  # the common case, without the import machinery
        parts = module.split(".")[1:]
        base = _PACKAGE
        if module.startswith(f"{PAPERS}."):
            folder = paper_folders().get(parts[1])
            if folder is None:
                return None
            base, parts = folder, parts[2:]
        base = base.joinpath(*parts)
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        return file if file.is_file() else None
    if loose_root(module) is not None:
        return loose_file(module)
    from importlib.util import find_spec

    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None
