"""What one source file declares, read as a syntax tree."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from latentbench import declare
from latentbench.core.capabilities import CAPABILITIES, PROPERTIES
from latentbench.core.errors import UserError
from latentbench.core.paths import shown
from latentbench.discovery.literals import Literals, NotLiteral, constants

KINDS = ("model", "metric", "of_arrays", "step", "loader", "generator", "oracle")
_HOME = "latentbench.declare"


@dataclass(frozen=True)
class Declared:
    """A declaration.

    Attributes:
        kind: the decorator.
        name: what is declared is called.
        target: ``module:attribute``.
        line: of the declaration.
        arguments: of the decorator, by name, defaults filled in, as JSON keeps them.
    """

    kind: str
    name: str
    target: str
    line: int
    arguments: dict[str, Any]


def declarations(path: Path, module: str) -> list[Declared]:
    """What `path`, imported as `module`, declares.

    Raises:
        UserError: it is no Python, or a declaration cannot be read or is wrong.
    """
    source = path.read_bytes()
    if _HOME.encode() not in source:
        return []
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as e:
        raise UserError(f"is no Python: {e}", where=shown(path), fix="mend it") from None
    local = _imported(tree)
    reader = Literals(constants(tree), {name: declare.Example for name, what in local.items() if what == "Example"})
    found: list[Declared] = []
    for call, kind, attribute, about in _calls(tree, local):
        try:
            found += _read(call, kind, module, attribute, about, reader)
        except NotLiteral as e:
            fix = "write it out, or assign it once at the top of the module"
            raise UserError(str(e), where=f"{shown(path)}:{e.line}", fix=fix) from None
        except (TypeError, ValueError, ArithmeticError) as e:
            raise UserError(
                f"declaration @{kind}: {e}", where=f"{shown(path)}:{call.lineno}", fix=f"see latentbench.declare.{kind}"
            ) from None
    return found


def _imported(tree: ast.Module) -> dict[str, str]:
    """Names of a module that stand for something of `latentbench.declare`."""
    return {
        alias.asname or alias.name: alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == _HOME and not node.level
        for alias in node.names
    }


def _calls(tree: ast.Module, local: dict[str, str]) -> Iterator[tuple[ast.Call, str, str, str]]:
    """Each declaration: its call, its kind, the attribute that it is of, and the first line of that one's docstring."""
    for node in tree.body:
        match node:
            case ast.ClassDef() | ast.FunctionDef():
                about = (ast.get_docstring(node) or "").partition("\n")[0].rstrip(".")
                for decorator in node.decorator_list:
                    if isinstance(decorator, ast.Call) and (kind := _kind(decorator, local)):
                        yield decorator, kind, node.name, about
            case ast.Expr(value=ast.Call(func=ast.Call() as call, args=[ast.Name(id=name)])) if kind := _kind(
                call, local
            ):
                yield call, kind, name, ""


def _kind(call: ast.Call, local: dict[str, str]) -> str:
    named = local.get(call.func.id, "") if isinstance(call.func, ast.Name) else ""
    return named if named in KINDS else ""


@cache
def _signature(kind: str) -> inspect.Signature:
    return inspect.signature(getattr(declare, kind))


def _read(call: ast.Call, kind: str, module: str, attribute: str, about: str, reader: Literals) -> Iterator[Declared]:
    bound = _signature(kind).bind(*(reader.value(a) for a in call.args), **reader.keywords(call))
    bound.apply_defaults()
    arguments: dict[str, Any] = json.loads(json.dumps(bound.arguments, default=asdict, allow_nan=False))
    name = arguments.pop("name") or attribute
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is no name")
    if "summary" in arguments:
        arguments["summary"] = arguments["summary"] or about
    variants = arguments.pop("each", None) or {"": {}}
    for suffix, changed in variants.items():
        own = {**arguments, **{k: v for k, v in changed.items() if k in arguments}}
        if changed:
            own["summary"] = own["summary"].format(**changed)
        called = f"{name}_{suffix}" if suffix else name
        _check(kind, own)
        yield Declared(
            kind, called, f"{module}:{called if attribute == '__getattr__' else attribute}", call.lineno, own
        )


def _check(kind: str, arguments: dict[str, Any]) -> None:
    """Refuse what the signature alone lets pass."""
    named = {"model": "can", "metric": "needs"}.get(kind)
    for word in arguments[named].split() if named else ():
        for capability in word.split("|"):
            if capability not in CAPABILITIES and capability not in PROPERTIES:
                raise ValueError(f"no capability is called {capability!r}")
    if kind == "metric":
        _check_range(arguments["within"])
    for name, values in _choices(kind).items():
        if arguments.get(name) not in values:
            known = ", ".join(map(repr, values))
            raise ValueError(f"`{name}` is {arguments.get(name)!r}, and should be one of {known}")
    if unknown := set(arguments.get("lowest") or {}) - set(arguments.get("settings") or {}):
        raise ValueError(f"`lowest` of {', '.join(sorted(unknown))}, which is no setting")


@cache
def _choices(kind: str) -> dict[str, tuple[Any, ...]]:
    """The arguments of a declaration that are one of few words, and those words."""
    hints = get_type_hints(getattr(declare, kind))
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}


def _check_range(within: Any) -> None:
    numbers = isinstance(within, list) and len(within) == 2 and all(x is None or _is_number(x) for x in within)
    if not numbers or (None not in within and not within[0] < within[1]):
        raise ValueError(f"`within` is {within!r}, and should be the lowest and the highest value, None for no end")


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)
