"""Which names a function or a class binds for itself, so that the others are the module's."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from latentbench.core.reach.modules import Binding, Module, bindings, is_type_checking

Comprehension = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp


@dataclass
class Scope:
    """The names of a function, a class or a comprehension; a class's are seen by its own statements alone."""

    kind: Literal["function", "class"] = "function"
    bound: set[str] = field(default_factory=set)
    imports: dict[str, list[Binding]] = field(default_factory=dict)
    of_module: set[str] = field(default_factory=set)


def function_scope(module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Scope:
    """All that a function binds: parameters, and whatever is assigned or imported anywhere in it."""
    scope = Scope()
    args = node.args
    for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
        if arg is not None:
            scope.bound.add(arg.arg)
    elsewhere: set[str] = set()
    body: Iterable[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else node.body
    for statement in body:
        collect(module, statement, scope, elsewhere)
    scope.bound -= elsewhere | scope.of_module
    return scope


def comprehension_scope(node: Comprehension) -> Scope:
    """The targets of a comprehension."""
    scope = Scope()
    for generator in node.generators:
        scope.bound |= {n.id for n in ast.walk(generator.target) if isinstance(n, ast.Name)}
    return scope


def collect(module: Module, node: ast.AST, scope: Scope, elsewhere: set[str]) -> None:
    """Add to `scope` what `node` binds in it, and to `elsewhere` what it declares nonlocal."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            scope.bound.add(node.name)
            return
        case ast.Lambda():
            return
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            scope.bound |= {n.target.id for n in ast.walk(node) if isinstance(n, ast.NamedExpr)}
            return
        case ast.If() if is_type_checking(node.test):
            for statement in node.orelse:
                collect(module, statement, scope, elsewhere)
            return
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            scope.bound.add(name)
        case ast.Global(names=names):
            scope.of_module.update(names)
        case ast.Nonlocal(names=names):
            elsewhere.update(names)
        case ast.Import() | ast.ImportFrom():
            for name, binding in bindings(module, node)[0]:
                scope.imports.setdefault(name, []).append(binding)
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            scope.bound.add(name)
        case ast.MatchMapping(rest=str(name)):
            scope.bound.add(name)
    for child in ast.iter_child_nodes(node):
        collect(module, child, scope, elsewhere)
