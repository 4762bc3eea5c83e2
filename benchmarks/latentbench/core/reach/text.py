"""A definition as text in which every name from outside it is a reference, for whoever knows all modules to resolve.

Comments, docstrings, layout, annotations of functions and of local names, what stands under ``if TYPE_CHECKING`` and
the decorators of `latentbench.declare` do not count. Annotations in a class do: dataclasses and pydantic read them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latentbench.core.opened import sha256_of
from latentbench.core.reach.modules import Binding, Module, bindings, declares, is_type_checking
from latentbench.core.reach.scopes import Comprehension, Scope, collect, comprehension_scope, function_scope

#: A target as registries write it: ``module:name``.
TARGET = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*:[A-Za-z_]\w*")
#: Names that make any name of the module reachable.
ANYTHING = {"globals", "eval", "exec", "__import__"}


@dataclass(frozen=True)
class Ref:
    """`attributes` of what a binding names: ``np.linalg.norm`` is (linalg, norm) of the module numpy."""

    bindings: tuple[Binding, ...]
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Whole:
    """All of the modules whose name is `module`, or starts with it where `prefix` is set."""

    module: str
    prefix: bool = False


Token = str | Ref | Whole


@dataclass
class Text:
    """A definition: its tokens, the modules that it imports when it runs, and the files beside it that it names."""

    tokens: list[Token]
    imported: list[str]
    files: list[Path] = field(default_factory=list)


def write(module: Module, statements: Sequence[ast.stmt]) -> Text:
    """The text of statements at the top level of `module`: those of one definition, or of its preamble."""
    writer = _Writer(module)
    for statement in statements:
        writer.node(statement)
    return Text(writer.out, writer.imported, writer.files)


class _Writer:
    def __init__(self, module: Module) -> None:
        self._module = module
        self._scopes: list[Scope] = []
        self.out: list[Token] = []
        self.imported: list[str] = []
        self.files: list[Path] = []

    def node(self, node: ast.AST) -> None:
        """Write `node`; the same for every Python version that reads it the same way."""
        match node:
            case ast.Name():
                self._name(node.id, (), node.ctx)
            case ast.Attribute():
                self._attribute(node)
            case ast.Constant(value=str(text)) if TARGET.fullmatch(text):
                target, _, name = text.partition(":")
                self.out.append(Ref((Binding(target, name),)))
            case ast.Constant(value=str(text)) if (file := self._module.beside(text)) is not None:
                self.files.append(file)
                self._generic(node)
                self.out.append(f"file {sha256_of(file)}")
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._function(node)
            case ast.Lambda():
                self._lambda(node)
            case ast.ClassDef():
                self._class(node)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                self._comprehension(node)
            case ast.Import() | ast.ImportFrom():
                self.imported += bindings(self._module, node)[1]
            case ast.If() if is_type_checking(node.test):
                self._nodes(node.orelse)
            case ast.AnnAssign() if not self._in_class():
                if node.value is not None:
                    self._generic(ast.Assign([node.target], node.value))
            case ast.arg():
                self._generic(node, leave_out=("annotation",))
            case ast.Call():
                self._imports_by_name(node)
                self._generic(node)
            case _:
                self._generic(node)

    def _nodes(self, nodes: Sequence[ast.AST]) -> None:
        for node in nodes:
            self.node(node)

    def _generic(self, node: ast.AST, leave_out: Sequence[str] = ()) -> None:
        self.out.append(type(node).__name__)
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == [] or name in ("type_comment", "kind", "type_params", *leave_out):
                continue
            self.out.append(name)
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, ast.AST):
                    self.node(item)
                else:
                    self.out.append(repr(item))
        self.out.append(";")

    def _find(self, name: str) -> list[Binding] | None:
        """What a name is bound to outside this definition; None where it is bound inside."""
        for k, scope in enumerate(reversed(self._scopes)):
            if scope.kind == "class" and k > 0:
                continue
            if name in scope.of_module:
                break
            if name in scope.imports:
                return scope.imports[name]
            if name in scope.bound:
                return None
        return [Binding(self._module.name, name)]

    def _name(self, name: str, attributes: tuple[str, ...], ctx: ast.expr_context) -> None:
        found = self._find(name)
        binds_here = not attributes and not isinstance(ctx, ast.Load) and (not self._scopes or self._in_class())
        if found is None or binds_here:
            self.out += ["Name", name]
        else:
            if name in ANYTHING and found == [Binding(self._module.name, name)]:
                self.out.append(Whole(self._module.name))
            self.out.append(Ref(tuple(found), attributes))
        if not isinstance(ctx, ast.Load):
            self.out.append(type(ctx).__name__)

    def _attribute(self, node: ast.Attribute) -> None:
        if (ref := self._chain(node)) is not None:
            self._name(*ref, node.ctx)
        else:
            self._generic(node)

    def _chain(self, node: ast.expr) -> tuple[str, tuple[str, ...]] | None:
        """A name from outside with the attributes taken of it; None for any other expression."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and self._find(node.id) is not None:
            return node.id, tuple(attributes)
        return None

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._decorators(node.decorator_list)
        self.out += [type(node).__name__, node.name]
        self._generic(node.args)  # defaults are evaluated outside the function
        self._scopes.append(function_scope(self._module, node))
        self._nodes(_without_docstring(node))
        self._scopes.pop()
        self.out.append(";")

    def _lambda(self, node: ast.Lambda) -> None:
        self.out.append("Lambda")
        self._generic(node.args)  # defaults are evaluated outside the function
        self._scopes.append(function_scope(self._module, node))
        self.node(node.body)
        self._scopes.pop()
        self.out.append(";")

    def _class(self, node: ast.ClassDef) -> None:
        self._decorators(node.decorator_list)
        self.out += ["ClassDef", node.name]
        self._nodes([*node.bases, *node.keywords])
        scope = Scope("class")
        self._scopes.append(scope)
        for statement in _without_docstring(node):
            self.node(statement)
            collect(self._module, statement, scope, set())  # a class's names are there from where they are bound
        self._scopes.pop()
        self.out.append(";")

    def _decorators(self, decorators: Sequence[ast.expr]) -> None:
        for decorator in decorators:
            if not declares(self._module, decorator):
                self.out.append("decorator")
                self.node(decorator)

    def _comprehension(self, node: Comprehension) -> None:
        self.out.append(type(node).__name__)
        first, *others = node.generators
        self.node(first.iter)  # in the scope around it
        self._scopes.append(comprehension_scope(node))
        self._nodes([first.target, *first.ifs, *others])
        self.out.append(str(first.is_async))
        self._nodes([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        self._scopes.pop()
        self.out.append(";")

    def _imports_by_name(self, node: ast.Call) -> None:
        """``import_module("…")`` takes all of that module; of a name put together, of those that start with it."""
        chain = self._chain(node.func)
        if chain is None or [chain[0], *chain[1]][-1] not in ("import_module", "__import__"):
            return
        match node.args:
            case [ast.Constant(value=str(name)), *_]:
                self.out.append(Whole(name))
            case [ast.JoinedStr(values=[ast.Constant(value=str(start)), *_]), *_]:
                self.out.append(Whole(start, prefix=True))
            case _:
                self.out.append(Whole(self._module.name))

    def _in_class(self) -> bool:
        return bool(self._scopes) and self._scopes[-1].kind == "class"


def _without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
