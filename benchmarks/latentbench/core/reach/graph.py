"""Definitions and what each refers to, over all modules that are followed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from latentbench.core.paths import is_companion
from latentbench.core.reach.modules import Binding, Module, read_module
from latentbench.core.reach.text import Text, Whole, write

Key = tuple[str, str]
"""A definition: module and name; the name `PREAMBLE` for what runs at import, `ALL` for a module as a whole."""

PREAMBLE, ALL = "<preamble>", "<all>"


@dataclass(frozen=True)
class Tree:
    """A source tree.

    Attributes:
        follows: whether a top-level package or module is ours, so that its definitions count.
        find: the source file of a module, or None.
    """

    follows: Callable[[str], bool]
    find: Callable[[str], Path | None]


@dataclass(frozen=True)
class Boundary:
    """What a closure does not enter: of what is taken from there, only the name counts.

    Attributes:
        modules: whole modules, such as those that only word messages.
        packages: whole packages.
        definitions: single definitions that count elsewhere.
    """

    modules: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    definitions: frozenset[Key] = frozenset()

    def is_outside(self, module: str) -> bool:
        """Whether a module, or a package above it, is left out."""
        return module in self.modules or any(f"{module}.".startswith(f"{p}.") for p in self.packages)


@dataclass
class Node:
    """A definition with its references resolved.

    Attributes:
        items: text, and keys of other definitions in the order in which they stand.
        beside: what runs as well whenever this is imported.
        elsewhere: modules that are not ours and that it refers to.
        files: that it names, beside its module.
    """

    items: list[str | Key] = field(default_factory=list)
    beside: frozenset[Key] = frozenset()
    elsewhere: frozenset[str] = frozenset()
    files: tuple[Path, ...] = ()

    @cached_property
    def edges(self) -> list[Key]:
        return [i for i in self.items if isinstance(i, tuple)]


class Sources:
    """The modules of a tree, each read once, with the text of their definitions."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._modules: dict[str, Module | None] = {}
        self._texts: dict[Key, Text] = {}

    def ours(self, module: str) -> bool:
        return self._tree.follows(module.partition(".")[0])

    def module(self, name: str) -> Module | None:
        """The module, or None where there is no source of that name."""
        if name not in self._modules:
            file = self._tree.find(name) if self.ours(name) else None
            self._modules[name] = None if file is None else read_module(name, file)
        return self._modules[name]

    def text(self, module: Module, name: str) -> Text:
        """The text of a definition, or of the preamble."""
        key = (module.name, name)
        if key not in self._texts:
            self._texts[key] = write(module, module.preamble if name == PREAMBLE else module.defs[name])
        return self._texts[key]

    def instead(self, module: Module) -> Sources:
        """The same sources but for one module."""
        found = Sources(self._tree)
        found._modules = {**self._modules, module.name: module}
        found._texts = {key: text for key, text in self._texts.items() if key[0] != module.name}
        return found

    def below(self, package: str) -> list[str]:
        """A module, and those below it where it is a package, sorted."""
        file = self._tree.find(package)
        if file is None or file.name != "__init__.py":
            return [package] if file else []
        found = []
        for path in sorted(file.parent.rglob("*.py")):
            if is_companion(path.name):
                continue
            parts = path.relative_to(file.parent).with_suffix("").parts
            found.append(".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)]))
        return found


class Graph:
    """The definitions of `sources` as a graph that ends at `boundary`."""

    def __init__(self, sources: Sources, boundary: Boundary) -> None:
        self.sources, self._boundary = sources, boundary
        self._nodes: dict[Key, Node] = {}
        self._beside: dict[str, frozenset[Key]] = {}
        self._met: set[str] = set()

    def root(self, target: str) -> Key:
        """The definition that ``module:name`` names, wherever it is re-exported from.

        Raises:
            LookupError: there is none.
        """
        module, _, name = target.partition(":")
        if (found := self.sources.module(module)) is None:
            raise LookupError(f"module {module} has no source file")
        items = self._in_module(found, name, (), frozenset())
        if not items:
            raise LookupError(f"{module} has no {name}")
        return next((i for i in items if isinstance(i, tuple)), (module, name))

    def node(self, key: Key) -> Node:
        """The definition with its references resolved."""
        if key not in self._nodes:
            self._met = set()
            node = self._nodes[key] = self._resolved(key)
            node.elsewhere = frozenset(self._met)
        return self._nodes[key]

    def closure(self, roots: Iterable[Key]) -> set[Key]:
        """`roots` and all that they reach."""
        found: set[Key] = set()
        waiting = list(roots)
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                node = self.node(key)
                waiting += [*node.edges, *node.beside]
        return found

    def _resolved(self, key: Key) -> Node:
        name, what = key
        module = self.sources.module(name)
        assert module is not None  # keys are made of modules that were found
        beside = self._runs_with(module)
        if what == ALL:
            items: list[str | Key] = []
            for own in sorted({*module.defs, *module.imports, *module.preamble_binds}):
                items += [own, *(self._in_module(module, own, (), frozenset()) or ())]
            return Node(items, beside)
        if what != PREAMBLE and what not in module.defs:
            if what in module.preamble_binds or "__getattr__" in module.defs:  # there, or made when it is asked for
                return Node([what, (name, PREAMBLE if what in module.preamble_binds else "__getattr__")], beside)
            return Node([what, *(self._in_module(module, what, (), frozenset()) or ())], beside)  # another package's
        text = self.sources.text(module, what)
        items = [what]
        for token in text.tokens:
            if isinstance(token, str):
                items.append(token)
            elif isinstance(token, Whole):
                items += self._whole(token)
            else:
                for binding in token.bindings:
                    items += self._binding(binding, token.attributes, module)
        self._met.update(name for name in text.imported if not self.sources.ours(name))
        late = [self._runs_with(m) for name in text.imported if (m := self.sources.module(name)) is not None]
        return Node(items, beside.union(*late) - {key}, files=tuple(text.files))

    def _whole(self, token: Whole) -> list[str | Key]:
        """Whole modules: one, or all whose names start alike."""
        if not token.prefix:
            return self._at_module(token.module, (), frozenset())
        package, _, start = token.module.rpartition(".")
        names = [m for m in self.sources.below(package) if m.startswith(f"{package}.{start}")]
        return [item for m in names for item in self._at_module(m, (), frozenset())]

    def _binding(self, binding: Binding, attributes: tuple[str, ...], at: Module) -> list[str | Key]:
        """What a name in `at`, with attributes, stands for."""
        if binding.module == at.name and binding.name is not None:
            found = self._in_module(at, binding.name, attributes, frozenset())
            return found if found is not None else [binding.name, *_after(attributes)]  # a builtin
        return self._at_module(binding.module, (*([binding.name] if binding.name else []), *attributes), frozenset())

    def _at_module(self, name: str, path: tuple[str, ...], seen: frozenset[Key]) -> list[str | Key]:
        """What `path` below a module is: text where it is not ours, else keys of definitions."""
        if not self.sources.ours(name):
            self._met.add(name)
            return [".".join(["", name, *path])]
        module = self.sources.module(name)
        if module is None:  # a folder without __init__.py, or nothing
            return self._at_module(f"{name}.{path[0]}", path[1:], seen) if path else ["?", name.rpartition(".")[2]]
        if path:
            found = self._in_module(module, path[0], path[1:], seen)
            if found is not None:
                return found
            if self._boundary.is_outside(name) or path[0].startswith("__"):
                return ["outside", path[0], *_after(path[1:])]
            return [(name, ALL), path[0], *_after(path[1:])]  # made when it runs: who knows of what
        modules = [m for m in self.sources.below(name) if not self._boundary.is_outside(m)]
        return [(m, ALL) for m in modules] or ["outside", name.rpartition(".")[2]]

    def _in_module(
        self, module: Module, name: str, rest: tuple[str, ...], seen: frozenset[Key]
    ) -> list[str | Key] | None:
        """What a name of a module stands for; None where nothing in its source binds it."""
        key = (module.name, name)
        if key in seen:
            return []
        found: list[str | Key] = []
        if name in module.defs or name in module.preamble_binds:
            outside = self._boundary.is_outside(module.name) or key in self._boundary.definitions
            found += [*(["outside", name] if outside else [key]), *_after(rest)]
        for binding in module.imports.get(name, ()):
            path = (*([binding.name] if binding.name else []), *rest)
            found += self._at_module(binding.module, path, seen | {key})
        if found:
            return found
        if module.is_package:
            for deep in (0, 1):  # a module, or a module in a folder without __init__.py
                below = ".".join([module.name, name, *rest[:deep]])
                if len(rest) >= deep and self.sources.module(below) is not None:
                    return self._at_module(below, rest[deep:], seen)
        for star in module.stars:
            other = self.sources.module(star) if self.sources.ours(star) else None
            if other is not None and (name in other.public() or other.stars):
                from_there = self._in_module(other, name, rest, seen | {key})
                if from_there:
                    return from_there
        return [key, *_after(rest)] if "__getattr__" in module.defs and not name.startswith("__") else None

    def _runs_with(self, module: Module) -> frozenset[Key]:
        """Preambles of all that importing a module runs."""
        if module.name not in self._beside:
            found, seen, waiting = set(), set(), [module.name]
            while waiting:
                name = waiting.pop()
                if name in seen or self._boundary.is_outside(name) or not self.sources.ours(name):
                    continue
                seen.add(name)
                waiting.append(name.rpartition(".")[0])
                if (one := self.sources.module(name)) is not None:
                    waiting += one.imported
                    if one.preamble:
                        found.add((name, PREAMBLE))
            self._beside[module.name] = frozenset(found)
        return self._beside[module.name]


def _after(attributes: Iterable[str]) -> list[str]:
    return [f".{a}" for a in attributes]
