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
    found: dict[str, Parameter] | None = None
    hidden: set[str] = set()
    for module, node in _resolution_order(target):
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                own = _arguments(item.args, module)
                found = {**{k: v for k, v in own.items() if k not in hidden}, **(found or {})}
                forwarded = _forwarded(item)
                if forwarded is None:
                    return found
                hidden |= forwarded | set(own)
    return found


def _resolution_order(target: str) -> list[tuple[str, ast.ClassDef]]:
    """A class and those above it whose source can be read, in the order in which `super()` comes to them: each after
    all that inherit from it, bases from left to right.

    Raises:
        LookupError: the class has no source.
    """
    found: dict[str, tuple[str, ast.ClassDef]] = {}

    def visit(name: str) -> None:
        module, _, cls = name.partition(":")
        source = read_module(module)
        node = source.classes.get(cls)
        if node is None:
            raise LookupError(f"{name} has no source")
        found.pop(name, None)  # a class that several inherit from comes after the last of them
        found[name] = (module, node)
        for base in filter(None, map(source.resolve, node.bases)):
            visit(base)

    visit(target)
    return list(found.values())


def _forwarded(constructor: ast.FunctionDef) -> set[str] | None:
    """Keywords that the constructor gives to a constructor above it beside its ``**rest``; None if it hands none on.

    What is handed on may be made of it: ``**{**rest, "k": 1}``, ``**dict(rest, k=1)``, a variable that holds either.
    """
    if constructor.args.kwarg is None:
        return None
    made: dict[str, set[str]] = {constructor.args.kwarg.arg: set()}
    for node in ast.walk(constructor):
        if isinstance(node, ast.Assign) and (keys := _made_of(node.value, made)) is not None:
            made.update({t.id: keys for t in node.targets if isinstance(t, ast.Name)})
    for node in ast.walk(constructor):
        match node:
            case ast.Call(func=ast.Attribute(attr="__init__")):
                for keyword in node.keywords:
                    if keyword.arg is None and (keys := _made_of(keyword.value, made)) is not None:
                        return keys | {k.arg for k in node.keywords if k.arg is not None}
    return None


def _made_of(value: ast.expr, made: dict[str, set[str]]) -> set[str] | None:
    """Keys that an expression sets beside those of the mappings `made`, which it holds; None if it holds none."""
    held = [made[n.id] for n in ast.walk(value) if isinstance(n, ast.Name) and n.id in made]
    if not held:
        return None
    keys: set[str] = set().union(*held)
    for node in ast.walk(value):
        if isinstance(node, ast.Dict):
            keys |= {k.value for k in node.keys if isinstance(k, ast.Constant) and isinstance(k.value, str)}
        elif isinstance(node, ast.Call):
            keys |= {k.arg for k in node.keywords if k.arg is not None}
    return keys


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
