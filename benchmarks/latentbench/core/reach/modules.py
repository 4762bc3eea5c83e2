"""A module's source as definitions: what each top-level name is bound to, and what runs whenever it is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Modules whose decorators say what a thing is and return it as it was.
DECLARES = ("latentbench.declare",)
OURS, PAPERS = "latentbench.", "latentbench.papers."
#: A relative path of a file, with an ending.
_FILE = re.compile(r"[\w][\w ./-]{0,200}\.\w{1,12}")


@dataclass(frozen=True)
class Binding:
    """What an import binds a name to: `module` itself, or `name` in it."""

    module: str
    name: str | None = None


@dataclass
class Module:
    """A module of ours.

    Attributes:
        name: dotted.
        file: its source.
        defs: functions, classes and constants by name: the statements that bind it, in order.
        imports: names that imports bind; several bindings where one stands in for another.
        stars: modules whose names are all imported.
        imported: every module that importing this one imports.
        preamble: what runs at import and defines nothing by itself: calls, loops, conditions, changes.
        preamble_binds: names that are bound in there.
    """

    name: str
    file: Path
    defs: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, list[Binding]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    preamble: list[ast.stmt] = field(default_factory=list)
    preamble_binds: set[str] = field(default_factory=set)

    @property
    def is_package(self) -> bool:
        return self.file.name == "__init__.py"

    def beside(self, text: str) -> Path | None:
        """The file that a text names, relative to the folder of this module; None where it names none.

        Of our own package none counts: what its modules read is data, registries and what was found out before.
        """
        if (self.name.startswith(OURS) and not self.name.startswith(PAPERS)) or not _FILE.fullmatch(text):
            return None
        file = self.file.parent / text
        return file if ".." not in file.parts and file.suffix != ".py" and file.is_file() else None

    def absolute(self, node: ast.ImportFrom) -> str:
        """The module that ``from … import`` names, dots at its front resolved."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        here = parts if self.is_package else parts[:-1]
        base = here[: len(here) - node.level + 1]
        return ".".join([*base, node.module] if node.module else base)

    def public(self) -> set[str]:
        """What ``from … import *`` takes of this module's own names."""
        match self.defs.get("__all__"):
            case [ast.Assign(value=ast.List(elts=names) | ast.Tuple(elts=names))]:
                return {n.value for n in names if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        return {n for n in (*self.defs, *self.imports, *self.preamble_binds) if not n.startswith("_")}

    def lines(self) -> Iterator[tuple[str, int, int]]:
        """Each statement of a definition: its name, its first line (of decorators, if any) and its last one."""
        for name, statements in self.defs.items():
            for s in statements:
                first = min([s.lineno, *(d.lineno for d in getattr(s, "decorator_list", ()))])
                yield name, first, s.end_lineno or s.lineno


def read_module(name: str, file: Path) -> Module:
    """The module `name`, whose source is `file`."""
    module = Module(name, file)
    _sort(module, ast.parse(file.read_text(encoding="utf-8")).body)
    module.preamble = [s for s in module.preamble if not (isinstance(s, ast.Expr) and declares(module, s.value))]
    return module


def declares(module: Module, node: ast.expr) -> bool:
    """Whether an expression is made of a decorator of `DECLARES`: ``@model(…)``, or ``metric(…)(function)``."""
    while isinstance(node, ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
    found = module.imports.get(node.id, []) if isinstance(node, ast.Name) else []
    dotted = {f"{b.module}.{b.name}" if b.name else b.module for b in found}
    return any(d == m or d.startswith(f"{m}.") for d in dotted for m in DECLARES)


def _sort(module: Module, statements: Sequence[ast.stmt]) -> None:
    for s in statements:
        match s:
            case ast.Import() | ast.ImportFrom():
                _import(module, s)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                module.defs.setdefault(name, []).append(s)
            case ast.Assign(targets=targets) if (names := _plain_names(targets)) is not None:
                for name in names:
                    module.defs.setdefault(name, []).append(s)
            case ast.AnnAssign(target=ast.Name(id=name)):
                if s.value is not None:
                    module.defs.setdefault(name, []).append(s)
            case ast.If() if is_type_checking(s.test):
                _sort(module, s.orelse)
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case _:
                module.preamble.append(s)
                _inside(module, s)


def _plain_names(targets: Sequence[ast.expr]) -> list[str] | None:
    """The names that an assignment binds; None where it changes something else, too."""
    names: list[str] = []
    for target in targets:
        parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        for part in parts:
            if not isinstance(part, ast.Name):
                return None
            names.append(part.id)
    return names


def _inside(module: Module, statement: ast.stmt) -> None:
    """What a statement of the preamble binds."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.Import() | ast.ImportFrom():
                _import(module, node)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                module.preamble_binds.add(name)
                continue
            case ast.Lambda():
                continue
            case ast.Name(id=name, ctx=ast.Store()):
                module.preamble_binds.add(name)
        waiting += ast.iter_child_nodes(node)


def _import(module: Module, node: ast.Import | ast.ImportFrom) -> None:
    bound, imported = bindings(module, node)
    for name, binding in bound:
        if binding not in module.imports.setdefault(name, []):
            module.imports[name].append(binding)
    module.imported += imported
    if isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names):
        module.stars.append(module.absolute(node))


def bindings(module: Module, node: ast.Import | ast.ImportFrom) -> tuple[list[tuple[str, Binding]], list[str]]:
    """The names that an import binds, and the modules that it runs."""
    if isinstance(node, ast.Import):
        found = [
            (a.asname, Binding(a.name)) if a.asname else (top, Binding(top))
            for a in node.names
            for top in [a.name.partition(".")[0]]
        ]
        return found, [a.name for a in node.names]
    base = module.absolute(node)
    if base == "__future__":
        return [], []
    names = [(a.asname or a.name, Binding(base, a.name)) for a in node.names if a.name != "*"]
    return names, [base, *(f"{base}.{a.name}" for a in node.names if a.name != "*")]


def is_type_checking(test: ast.expr) -> bool:
    """Whether a condition is ``TYPE_CHECKING``, however it is imported."""
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )
