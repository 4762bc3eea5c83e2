"""What an expression of a declaration comes to, without running anything."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


class NotLiteral(ValueError):
    """An expression that only running the module would tell; `line` is where it stands."""

    def __init__(self, node: ast.expr, why: str) -> None:
        super().__init__(f"{ast.unparse(node)[:60]} {why}")
        self.line = node.lineno


class Literals:
    """Values of expressions, given the constants of their module.

    Args:
        constants: expressions that are assigned at the top of the module, by name.
        calls: what may be called, by the name that the module has for it.
    """

    def __init__(self, constants: Mapping[str, ast.expr], calls: Mapping[str, Callable[..., Any]]) -> None:
        self._constants, self._calls = constants, calls
        self._open: list[str] = []

    def value(self, node: ast.expr) -> Any:
        """What `node` comes to.

        Raises:
            NotLiteral: it is no literal, constant of the module, or combination of these.
        """
        match node:
            case ast.Constant():
                return node.value
            case ast.Tuple():
                return tuple(self._items(node.elts))
            case ast.List():
                return self._items(node.elts)
            case ast.Dict():
                return self._mapping(node)
            case ast.Name():
                return self._constant(node)
            case ast.UnaryOp(op=ast.USub()) if _is_number(value := self.value(node.operand)):
                return -value
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                left, right = self.value(node.left), self.value(node.right)
                if _is_number(left) and _is_number(right):
                    return _ARITHMETIC[type(node.op)](left, right)
            case ast.Call(func=ast.Name() as called) if called.id in self._calls:
                return self._calls[called.id](*self._items(node.args), **self.keywords(node))
        raise NotLiteral(node, "is no literal, and no constant of this module")

    def keywords(self, call: ast.Call) -> dict[str, Any]:
        """The keyword arguments of a call. Raises NotLiteral as `value` does."""
        found: dict[str, Any] = {}
        for keyword in call.keywords:
            found |= self.value(keyword.value) if keyword.arg is None else {keyword.arg: self.value(keyword.value)}
        return found

    def _items(self, nodes: list[ast.expr]) -> list[Any]:
        found: list[Any] = []
        for node in nodes:
            found += self.value(node.value) if isinstance(node, ast.Starred) else [self.value(node)]
        return found

    def _mapping(self, node: ast.Dict) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                found |= self.value(value)
            elif isinstance(name := self.value(key), str):
                found[name] = self.value(value)
            else:
                raise NotLiteral(key, "is no text, as keys are")
        return found

    def _constant(self, node: ast.Name) -> Any:
        if node.id not in self._constants or node.id in self._open:
            raise NotLiteral(node, "is no constant of this module, assigned once at its top")
        self._open.append(node.id)
        try:
            return self.value(self._constants[node.id])
        finally:
            self._open.pop()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What is assigned to a plain name at the top of a module, once."""
    found: dict[str, ast.expr] = {}
    twice: set[str] = set()
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                twice |= {name} & found.keys()
                found[name] = value
    return {name: value for name, value in found.items() if name not in twice}
