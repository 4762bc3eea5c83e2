"""What a model's constructor takes, read from its source: names, defaults, types and ranges.

Types and ranges are the annotations: ``int``, ``Sequence[int]``, ``Literal["full", "diag"]``, ``PositiveInt`` of
pydantic, ``Annotated[float, Gt(0), Le(1)]``, and unions of these. What is none of them passes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from latentbench.core import plugins
from latentbench.core.imports import module_file


@dataclass(frozen=True)
class Parameter:
    """A keyword parameter.

    Attributes:
        default: source of its default; None where it has none.
        annotation: source of its annotation; empty where it has none.
        module: where that stands, which says what its names mean.
    """

    default: str | None
    annotation: str
    module: str


@cache
def parameters(target: str) -> dict[str, Parameter]:
    """Keyword parameters of the constructor of ``module:Class``, read without importing it.

    The first argument (`DataInfo`) is left out. Where a class has no constructor of its own, its first base that has
    one counts, in whatever module; where the constructor hands ``**rest`` on to `super().__init__`, the base's
    parameters are added, but for those that it sets itself.

    Raises:
        LookupError: there is no source, or no constructor in it.
    """
    found = _constructor(target)
    if found is None:
        raise LookupError(f"{target} has no constructor that can be read")
    return found


def _constructor(target: str) -> dict[str, Parameter] | None:
    module, _, name = target.partition(":")
    source = read_module(module)
    node = source.classes.get(name)
    if node is None:
        raise LookupError(f"{target} has no source")
    bases = [b for b in map(source.resolve, node.bases) if b]
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            own = _arguments(item.args, module)
            forwarded = _forwarded(item)
            above = next(filter(None, map(_constructor, bases)), {}) if forwarded is not None else {}
            return {**{k: v for k, v in above.items() if k not in (forwarded or ())}, **own}
    return next((found for found in map(_constructor, bases) if found is not None), None)


def _forwarded(constructor: ast.FunctionDef) -> set[str] | None:
    """Keywords that the constructor gives to `super().__init__` beside its ``**rest``; None if it hands none on."""
    rest = constructor.args.kwarg
    for node in ast.walk(constructor):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__init__")) if rest:
                if any(k.arg is None and ast.unparse(k.value) == rest.arg for k in node.keywords):
                    return {k.arg for k in node.keywords if k.arg is not None}
    return None


def _arguments(args: ast.arguments, module: str) -> dict[str, Parameter]:
    plain = [*args.posonlyargs, *args.args]
    defaults = [*[None] * (len(plain) - len(args.defaults)), *args.defaults]
    pairs = [*zip(plain, defaults, strict=True)][2:]  # without self and info
    pairs += zip(args.kwonlyargs, args.kw_defaults, strict=True)
    return {a.arg: Parameter(_text(d), _text(a.annotation) or "", module) for a, d in pairs}


def _text(node: ast.expr | None) -> str | None:
    return None if node is None else ast.unparse(node)


@dataclass(frozen=True)
class Module:
    """A module's source.

    Attributes:
        imported: what its names stand for: ``module`` or ``module:name``.
        assigned: what is assigned to a name at the top.
    """

    name: str
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    assigned: dict[str, ast.expr] = field(default_factory=dict)

    def named(self, node: ast.expr) -> str:
        """``module:name`` of what an expression names; empty where it is no name."""
        match node:
            case ast.Name(id=name) if name in self.imported:
                return self.imported[name]
            case ast.Name(id=name):
                return f"{self.name}:{name}" if name in self.classes or name in self.assigned else f"builtins:{name}"
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in self.imported:
                return f"{self.imported[name].replace(':', '.')}:{attribute}"
        return ""

    def resolve(self, base: ast.expr) -> str:
        """``module:Class`` of a base class whose source can be read; empty where it is somebody else's."""
        target = self.named(base)
        module, _, name = target.partition(":")
        return target if name and is_ours(module) and name in read_module(module).classes else ""


@cache
def read_module(name: str) -> Module:
    """The source of a module. Raises LookupError where it has none."""
    file = module_file(name)
    if file is None:
        raise LookupError(f"module {name} has no source file")
    module = Module(name)
    for node in _statements(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.ClassDef():
                module.classes[node.name] = node
            case ast.Assign(targets=[ast.Name(id=assigned)], value=value):
                module.assigned[assigned] = value
            case ast.Import():
                module.imported.update({a.asname: a.name for a in node.names if a.asname})
            case ast.ImportFrom():
                package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
                start = package[: len(package) - node.level + 1] if node.level else []
                home = ".".join([*start, *([node.module] if node.module else [])])
                module.imported.update({a.asname or a.name: f"{home}:{a.name}" for a in node.names})
    return module


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements at the top, those under ``if TYPE_CHECKING`` among them."""
    for node in tree.body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from node.body
        yield node


def is_ours(module: str) -> bool:
    """Whether a module's source may be read for what a name of it means: ours, and plug-ins'."""
    return module.partition(".")[0] in {"latentbench", *plugins.packages()} and module_file(module) is not None
