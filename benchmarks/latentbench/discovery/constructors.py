"""What a model's constructor takes, read from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache

from latentbench.core.imports import module_file


@cache
def parameters(target: str) -> dict[str, str | None]:
    """Keyword parameters of a model's constructor and the source of their defaults, read without importing it.

    The first argument (`DataInfo`) is left out; parameters of base classes in the same module are followed where the
    class has no constructor of its own.
    """
    module, _, name = target.partition(":")
    source = module_file(module)
    if source is None:
        raise LookupError(f"{target} has no source file")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
    while name in classes:
        node = classes[name]
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                return _arguments(item.args)
        name = next((b.id for b in node.bases if isinstance(b, ast.Name) and b.id in classes), "")
    raise LookupError(f"{target} has no constructor that can be read")


def _arguments(args: ast.arguments) -> dict[str, str | None]:
    plain = [*args.posonlyargs, *args.args][2:]  # self, info
    defaults: Iterable[ast.expr | None] = [None] * (len(plain) - len(args.defaults[-len(plain) :] if plain else []))
    defaults = [*defaults, *(args.defaults[-len(plain) :] if plain else [])]
    pairs = [*zip(plain, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return {a.arg: ast.unparse(d) if d is not None else None for a, d in pairs}
