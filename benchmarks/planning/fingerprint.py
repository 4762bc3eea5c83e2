"""Hashes of what can change a run's result.

A run's fingerprint joins three hashes: its resolved specification, the content of its data, and the source of the
modules that its code imports. Source is hashed as a syntax tree without docstrings, so comments and layout count for
nothing, and modules that no run imports never enter.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from benchmarks.core.imports import module_file

PACKAGE = "benchmarks"
#: Modules that decide where things are and how messages read, and those whose work the data's content hash covers.
CANNOT_CHANGE_A_RESULT = (
    "benchmarks.core.errors",
    "benchmarks.core.paths",
    "benchmarks.core.console",
    "benchmarks.core.yamlfile",
    "benchmarks.data.registry",
    "benchmarks.data.store",
)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal for equal values, whatever order they were written in."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: Any) -> str:
    """sha256 of `value`'s canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def code_hash(roots: Iterable[str], package: str = PACKAGE) -> str:
    """Hash of the source of `roots` and of every module of `package` that they import, directly or not."""
    return _closure_hash(frozenset(roots), package)


def code_modules(roots: Iterable[str], package: str = PACKAGE) -> list[str]:
    """The modules behind `code_hash`, sorted."""
    found: set[str] = set()
    waiting = [r for r in roots if r not in CANNOT_CHANGE_A_RESULT]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        waiting += [m for m in _module(module, package)[1] if m not in found and m not in CANNOT_CHANGE_A_RESULT]
    return sorted(found)


@cache
def _closure_hash(roots: frozenset[str], package: str) -> str:
    return digest([[m, _module(m, package)[0]] for m in code_modules(roots, package)])


@cache
def _module(module: str, package: str) -> tuple[str, tuple[str, ...]]:
    """A module's own hash and the modules of `package` that it imports anywhere in its text."""
    file = module_file(module)
    if file is None:
        raise LookupError(f"module {module} has no source file")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported: set[str] = set()
    here = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in _run_time(tree):
        if isinstance(node, ast.Import):
            imported.update(a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = here.split(".")[: len(here.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            imported.add(base)
            imported.update(f"{base}.{a.name}" for a in node.names)
    ours = {m for m in imported if m == package or m.startswith(package + ".")}
    modules = tuple(sorted(m for m in ours if module_file(m) is not None))
    text: list[str] = []
    _write(tree, text)
    return hashlib.sha256("\n".join(text).encode()).hexdigest(), modules


def _run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of `tree`, but for what stands under ``if TYPE_CHECKING``."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _write(node: ast.AST, out: list[str]) -> None:
    """A syntax tree as text, the same for every Python version that reads it the same way."""
    out.append(type(node).__name__)
    for name in node._fields:
        value = getattr(node, name, None)
        if value is None or value == [] or name in ("type_comment", "kind", "type_params"):
            continue
        if name == "body" and _has_docstring(node):
            value = value[1:]
        out.append(name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                _write(item, out)
            else:
                out.append(repr(item))
    out.append(";")


def _has_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
        ast.get_docstring(node, clean=False) is not None
    )
