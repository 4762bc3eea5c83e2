"""Where code from outside this package comes from: installed distributions, and folders that the user names.

An installed plug-in declares entry points in `GROUPS`. A folder, named by ``latentbench --plugins FOLDER`` or
``LATENTBENCH_PLUGINS``, holds modules with tables ``MODELS`` and ``METRICS`` like those of `latentbench.spec.registry`.
Naming a folder is consent to run what is in it.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from latentbench.core.errors import UserError

VARIABLE = "LATENTBENCH_PLUGINS"
#: Entry points by which a distribution says that it is a plug-in; those of datasets only name its package.
GROUPS = ("latentbench.models", "latentbench.metrics", "latentbench.datasets")


def folders() -> list[Path]:
    """The folders that the user names, in order; modules in them can be imported from now on.

    Raises:
        UserError: one of them is no folder.
    """
    found = [Path(p).expanduser().resolve() for p in os.environ.get(VARIABLE, "").split(os.pathsep) if p]
    for folder in found:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}", where=VARIABLE, fix="name folders that hold plug-in modules")
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # last: a plug-in hides nothing
    return found


def add_folder(folder: Path) -> None:
    """Name one more folder, for this process and those that it starts."""
    known = [p for p in os.environ.get(VARIABLE, "").split(os.pathsep) if p]
    if str(folder.resolve()) not in known:
        os.environ[VARIABLE] = os.pathsep.join([*known, str(folder.resolve())])
        packages.cache_clear()
    folders()


def module_names(folder: Path) -> list[str]:
    """Modules and packages that lie in a plug-in folder."""
    names = [p.stem for p in folder.glob("*.py")] + [p.parent.name for p in folder.glob("*/__init__.py")]
    return sorted(n for n in names if n.isidentifier() and not n.startswith("_"))


def modules() -> list[ModuleType]:
    """The modules of the folders, imported.

    Raises:
        UserError: one cannot be imported, or is hidden by another module of its name.
    """
    return [load_module(folder, name) for folder in folders() for name in module_names(folder)]


def load_module(folder: Path, name: str) -> ModuleType:
    """A module of a plug-in folder.

    Raises:
        UserError: it cannot be imported, or is hidden by another module of its name.
    """
    try:
        module = import_module(name)
    except Exception as e:  # whatever a stranger's module raises at import
        raise UserError(
            f"cannot be imported: {type(e).__name__}: {e}", where=folder / f"{name}.py", fix="mend the module"
        ) from e
    file = Path(module.__file__ or "").resolve()
    if folder not in file.parents:
        raise UserError(
            f"another module named {name!r} is found first ({file})", where=folder / f"{name}.py", fix="rename it"
        )
    return module


@cache
def packages() -> frozenset[str]:
    """Top-level packages and modules of plug-ins, installed or in a folder."""
    from importlib.metadata import entry_points

    installed = (p.module.partition(".")[0] for group in GROUPS for p in entry_points(group=group))
    return frozenset([*installed, *(name for folder in folders() for name in module_names(folder))])
