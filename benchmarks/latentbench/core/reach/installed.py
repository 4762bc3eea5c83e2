"""Hashes of the code that is installed here: of our package, of the papers' and of plug-ins.

Found hashes are kept under the user's cache folder, by the state of every source file that may count.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple
from functools import cache
from pathlib import Path

from latentbench.core import plugins
from latentbench.core.file_cache import Memory, State, state_of, states_of
from latentbench.core.imports import module_file
from latentbench.core.loose import is_found, loose_root
from latentbench.core.paths import user_cache_dir
from latentbench.core.reach.colours import Colours
from latentbench.core.reach.graph import Boundary, Graph, Key, Sources, Tree

PACKAGE = "latentbench"
#: Modules that decide where things are, how messages read, what methods are called and when a process stops.
WORDS_AND_PLACES = frozenset(
    f"{PACKAGE}.{name}"
    for name in (
        "core.bounds",
        "core.capabilities",
        "core.console",
        "core.errors",
        "core.finder",
        "core.imports",
        "core.interrupts",
        "core.loaded",
        "core.loose",
        "core.opened",
        "core.paths",
        "core.plugins",
        "core.yamlfile",
        "declare",
        "papers",
    )
)
#: The package that finds what is declared.
FINDING = frozenset({f"{PACKAGE}.discovery"})


def code_hashes(targets: Mapping[str, str], boundary: Boundary) -> dict[str, str]:
    """sha256 of what each target and all that it reaches say, by the labels of `targets`.

    Args:
        targets: label -> ``module:name``.
        boundary: what is not entered.

    Raises:
        LookupError: there is no source of a target.
    """
    return {label: code_hash(target, boundary) for label, target in targets.items()}


@cache
def code_hash(target: str, boundary: Boundary) -> str:
    """As `code_hashes`, of one target."""
    kept, at = _kept(plugins.packages(), *plugins.paper_folders().values())
    name = f"{target} {_key(repr([sorted(part) for part in astuple(boundary)]))}"
    known: str | None = kept.recall(name, at)
    if known is None:
        graph = graph_of(boundary, _top(target))
        known = _colours(graph).of(graph.root(target))
        if not _elsewhere(graph, target) and _top(target) in (PACKAGE, *plugins.packages()):
            kept.learn(name, at, known)
            kept.save()
    return known


def _elsewhere(graph: Graph, target: str) -> bool:
    """Whether files count for a target that no later process would look at before it takes what is kept: of loose
    packages, those that definitions name, and of packages that are not found now and may be later."""
    found = False
    for module, name in graph.closure([graph.root(target)]):
        node = graph.node((module, name))
        others = {str(file) for file in node.files}
        if loose_root(module) is not None and (file := module_file(module)) is not None:
            others.add(str(file))
        _others.update(others)
        missing = any(not is_found(m) for m in node.elsewhere)
        found = found or bool(others) or missing
    return found


#: Files beside the sources of ours and of plug-ins that count for the hashes found by this process.
_others: set[str] = set()


def closure(targets: Mapping[str, str], boundary: Boundary) -> set[Key]:
    """Every definition that the targets reach, module and name."""
    found: set[Key] = set()
    for target in targets.values():
        graph = graph_of(boundary, _top(target))
        found |= graph.closure([graph.root(target)])
    return found


def modules_elsewhere(targets: Mapping[str, str], boundary: Boundary) -> set[str]:
    """Top-level modules of other packages, the standard library's left out, that what the targets reach refers to."""
    found: set[str] = set()
    for target in targets.values():
        graph = graph_of(boundary, _top(target))
        for key in graph.closure([graph.root(target)]):
            found |= {name.partition(".")[0] for name in graph.node(key).elsewhere}
    return found - sys.stdlib_module_names - {""}


def graph_of(boundary: Boundary, top: str = PACKAGE) -> Graph:
    """The definitions of this installation; from a plug-in named `top`, its own are followed as well."""
    return _graph(boundary, plugins.packages() | {PACKAGE, top})


@cache
def _graph(boundary: Boundary, ours: frozenset[str]) -> Graph:
    return Graph(_sources(ours), boundary)


@cache
def _colours(graph: Graph) -> Colours:
    return Colours(graph)


@cache
def _sources(ours: frozenset[str]) -> Sources:
    return Sources(Tree(lambda top: top in ours or loose_root(top) is not None, module_file))


def sources() -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Every source file that may count for a hash, with its state."""
    found = [(path, tuple(state)) for path, state in _states(plugins.packages(), plugins.paper_folders().values())]
    for path in _others:
        with suppress(OSError):
            found.append((path, tuple(state_of(os.stat(path)))))
    return tuple(sorted(found))


def forget() -> None:
    """Look at the sources again: some were changed, or plug-ins added."""
    for known in (code_hash, _graph, _colours, _sources, _kept, module_file):
        known.cache_clear()


@cache
def _kept(packages: frozenset[str], *folders: Path) -> tuple[Memory, State]:
    """What was found by earlier processes, and the newest state of a source file."""
    states = sorted(_states(packages, folders))
    path = user_cache_dir() / f"code-{_key(str(Path(__file__).resolve()))}.json"
    newest = [max((s[k] for _, s in states if s), default=0) for k in (0, 1)]
    return Memory(path, _key(json.dumps([sys.version, states]))), newest


def _states(packages: Iterable[str], folders: Iterable[Path]) -> Iterator[tuple[str, State]]:
    """Every source file that a closure may enter, with its state."""
    yield from states_of([Path(__file__).parents[2], *folders], ".py")
    for package in sorted(packages):
        file = module_file(package)
        if file is None:
            yield package, []
        elif file.name == "__init__.py":
            yield from states_of([file.parent], ".py")
        else:
            yield str(file), state_of(file.stat())


def _top(target: str) -> str:
    return target.partition(":")[0].partition(".")[0]


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
