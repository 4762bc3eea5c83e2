"""All that is declared, by kind and name: in this package and in folders beside it. Nothing of it is imported.

What a file declares is kept by the state of the file (`latentbench.core.file_cache`): ours under the user's cache
folder, that of a project's papers and of plug-ins with the project's results.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from latentbench import __version__
from latentbench.core import imports, plugins
from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.file_cache import Memory, State, state_of
from latentbench.core.paths import cache_dir, is_companion, shipped_root, shown, user_cache_dir
from latentbench.core.reach import installed
from latentbench.discovery.reading import Declared, declarations

PACKAGE = Path(__file__).resolve().parents[1]
_SAID = {"of_arrays": "metric of arrays", "step": "preprocessing step"}


@cache
def found(kind: str) -> dict[str, Declared]:
    """Declarations of `kind`, by name.

    Raises:
        UserError: a declaration cannot be read, or two have one name.
    """
    return {name: declared for (of, name), declared in _all().items() if of == kind}


def find(kind: str, name: str) -> Declared:
    """The declaration of `kind` with that name.

    Raises:
        UserError: there is none.
    """
    table = found(kind)
    if name not in table:
        raise UserError(f"no {_SAID.get(kind, kind)} {name!r}", fix=did_you_mean(name, table))
    return table[name]


def forget() -> None:
    """Look again, since there are other folders than before."""
    plugins.forget()
    installed.forget()
    found.cache_clear()
    _all.cache_clear()


def thing(declared: Declared) -> Any:
    """The class or function that is declared; its module is imported."""
    return imports.load(declared.target)


@cache
def _all() -> dict[tuple[str, str], Declared]:
    ours = Memory(user_cache_dir() / f"declarations-{_key(str(PACKAGE))}.json", _version())
    theirs = Memory(cache_dir() / "declarations.json", _version())
    shipped = (str(PACKAGE), str(shipped_root()))
    table: dict[tuple[str, str], Declared] = {}
    files: dict[str, str] = {}
    for path, module, at in sources():
        memory = ours if path.startswith(shipped) else theirs
        known = memory.recall(path, at)
        if known is None:
            known = [asdict(d) for d in declarations(Path(path), module)]
            memory.learn(path, at, known)
        files[module] = path
        for declared in (Declared(**d) for d in known):
            other = table.setdefault((declared.kind, declared.name), declared)
            if other is not declared:
                raise UserError(
                    f"{declared.kind} {declared.name!r} is declared twice",
                    where=_place(declared, files),
                    fix=f"see {_place(other, files)}",
                )
    ours.save()
    theirs.save()
    return table


def _place(declared: Declared, files: dict[str, str]) -> str:
    return f"{shown(Path(files[declared.target.partition(':')[0]]))}:{declared.line}"


def sources() -> Iterator[tuple[str, str, State]]:
    """Files that may declare something, each with its module's name and its state: ours, then those of papers and of
    folders that the user names (their modules and packages, tests left out)."""
    yield from _below(str(PACKAGE), "latentbench")
    for package, folder in plugins.paper_folders().items():
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            stem = entry.name.removesuffix(".py")
            if not stem.isidentifier() or stem.startswith("test_") or stem == "conftest":
                continue
            if entry.is_dir() and os.path.isfile(f"{entry.path}/__init__.py"):
                yield from _below(entry.path, f"{plugins.PAPERS}.{package}.{stem}")
            elif entry.name.endswith(".py"):
                yield entry.path, f"{plugins.PAPERS}.{package}.{stem}", state_of(entry.stat())


def _below(folder: str, package: str) -> Iterator[tuple[str, str, State]]:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_dir():
            if entry.name.isidentifier() and entry.name[0] != "_":  # nor what a wheel ships
                yield from _below(entry.path, f"{package}.{entry.name}")
        elif entry.name.endswith(".py") and not is_companion(entry.name):
            stem = entry.name.removesuffix(".py")
            yield entry.path, package if stem == "__init__" else f"{package}.{stem}", state_of(entry.stat())


@cache
def _version() -> str:
    """Of all but the files themselves that reading them depends on."""
    ours = [PACKAGE / "declare.py", PACKAGE / "core" / "capabilities.py", *sorted((PACKAGE / "discovery").glob("*.py"))]
    return _key(json.dumps([__version__, sys.version, [state_of(p.stat()) for p in ours]]))


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
