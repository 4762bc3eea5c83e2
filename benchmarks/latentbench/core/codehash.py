"""Hashes of source: of modules and of all that they import.

Source is hashed as a syntax tree without docstrings, so comments and layout count for nothing, and modules that are not
imported never enter.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterable, Iterator
from functools import cache

from latentbench.core.imports import module_file
from latentbench.core.plugins import packages

#: Modules that decide where things are, how messages read, what methods are called and when a process stops.
WORDS_AND_PLACES = (
    "latentbench.core.capabilities",
    "latentbench.core.errors",
    "latentbench.core.interrupts",
    "latentbench.core.paths",
    "latentbench.core.plugins",
    "latentbench.core.console",
    "latentbench.core.yamlfile",
    "latentbench.declare",
)


def closure(roots: Iterable[str], package: str, leave_out: Collection[str] = WORDS_AND_PLACES) -> dict[str, str]:
    """`roots` and every module of `package` that they import, directly or not, sorted: name -> hash of its source.

    From a plug-in's module, those of the plug-in are followed as well.

    Args:
        roots: module names.
        package: top-level package whose modules are followed.
        leave_out: modules that do not count, nor what only they import.

    Raises:
        LookupError: a root has no source file.
    """
    found: dict[str, str] = {}
    waiting = [r for r in roots if r not in leave_out]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found[module], imported = _module(module, package)
        waiting += [m for m in imported if m not in found and m not in leave_out]
    return dict(sorted(found.items()))


@cache
def _module(module: str, package: str) -> tuple[str, tuple[str, ...]]:
    """A module's own hash and the modules of `package`, or of its own plug-in, that it imports anywhere in its text."""
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
    top = module.partition(".")[0]
    followed = {package} if top == package else {package, top, *packages()}
    ours = {m for m in imported if m.partition(".")[0] in followed}
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
