"""Whether a value suits the annotation of a constructor's parameter; no model is imported."""

from __future__ import annotations

import ast
import builtins
import importlib
from functools import cache, reduce
from operator import or_
from typing import Any

from latentbench.discovery.constructors import Parameter, is_ours, read_module

#: Whose names annotations may use: what they are gets imported, and nothing else does.
KNOWN = ("typing", "collections.abc", "annotated_types", "pydantic")


def fault(parameter: Parameter, value: Any) -> str:
    """What is wrong with a value that a suite gives, in words; empty if nothing is."""
    from pydantic import ValidationError

    try:
        _adapter(parameter.annotation, parameter.module).validate_python(value)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        return str(first["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    return ""


@cache
def _adapter(annotation: str, module: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    meant = _type(ast.parse(annotation, mode="eval").body, module) if annotation else Any
    return TypeAdapter(meant, config=ConfigDict(strict=True, arbitrary_types_allowed=True))


def _type(node: ast.expr, module: str) -> Any:
    """The type that an annotation means; `Any` where it cannot be told."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str() as quoted):
            return _type(ast.parse(quoted, mode="eval").body, module)
        case ast.BinOp(op=ast.BitOr()):
            sides = [_type(node.left, module), _type(node.right, module)]
            return Any if Any in sides else reduce(or_, [type(None) if s is None else s for s in sides])
        case ast.Subscript():
            return _subscripted(_type(node.value, module), node.slice, module)
        case ast.Name() | ast.Attribute():
            return _named(node, module)
    return Any


def _named(node: ast.expr, module: str) -> Any:
    source = read_module(module)
    home, _, name = source.named(node).partition(":")
    if home == "builtins":
        return getattr(builtins, name) if name in ("int", "float", "str", "bool", "list", "dict", "tuple") else Any
    if home in KNOWN:
        return getattr(importlib.import_module(home), name, Any)
    if is_ours(home):
        above = read_module(home)
        return _type(above.assigned[name], home) if name in above.assigned else Any
    return Any


def _subscripted(generic: Any, index: ast.expr, module: str) -> Any:
    import typing
    from collections.abc import Mapping, Sequence

    items = index.elts if isinstance(index, ast.Tuple) else [index]
    if generic is typing.Literal:
        return typing.Literal[tuple(ast.literal_eval(i) for i in items)]
    if generic is typing.Annotated:
        marks = [mark for mark in (_mark(i, module) for i in items[1:]) if mark is not None]
        meant = _type(items[0], module)
        return reduce(lambda t, mark: typing.Annotated[t, mark], marks, meant)
    inner = [_type(i, module) for i in items if not (isinstance(i, ast.Constant) and i.value is ...)]
    if generic in (list, tuple, Sequence):  # YAML has lists alone
        return Sequence[Any if Any in inner else reduce(or_, inner)]  # type: ignore[misc]
    if generic in (dict, Mapping):
        return dict[inner[0], inner[1]]  # type: ignore[valid-type]
    return Any


def _mark(node: ast.expr, module: str) -> Any:
    """A bound such as ``Ge(1)``."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    home, _, name = read_module(module).named(node.func).partition(":")
    if home != "annotated_types":
        return None
    return getattr(importlib.import_module(home), name)(ast.literal_eval(node.args[0]))
