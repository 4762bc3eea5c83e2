"""Copies of the source tree with something changed, hashed without importing them."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from latentbench.core.plugins import package_name
from latentbench.core.reach.colours import Colours
from latentbench.core.reach.graph import Graph, Key, Sources, Tree
from latentbench.core.reach.modules import Module, read_module
from latentbench.planning.fingerprint import joined, of_engine, of_runs
from latentbench.planning.plan import RunSpec, plan
from latentbench.spec.loading import load_suite, suite_files

from tests.project import REPOSITORY

PAPERS = "latentbench.papers."


def copied(folder: Path) -> Path:
    """Our sources in a folder of a test's own."""
    for part in ("benchmarks", "suites"):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.json"))
    return folder


def sources_in(tree: Path) -> Sources:
    """The modules of a source tree."""
    papers = {package_name(folder): folder for folder in (tree / "suites").iterdir() if folder.is_dir()}

    def find(module: str) -> Path | None:
        base, parts = tree / "benchmarks/latentbench", module.split(".")[1:]
        if module.startswith(PAPERS):
            base, parts = papers[parts[1]], parts[2:]
        path = base.joinpath(*parts)
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        return file if file.is_file() else None

    return Sources(Tree("latentbench".__eq__, find))


def cells_of(tier: str = "cpu") -> dict[str, RunSpec]:
    """One run of each method on each dataset of every shipped suite at a tier."""
    found: dict[str, RunSpec] = {}
    for name in suite_files():
        loaded = load_suite(name)
        for run in plan(loaded, tier) if tier in loaded.suite.tiers else ():  # type: ignore[arg-type]
            found.setdefault(f"{name} {run.method} on {run.dataset}", run)
    return found


class Hashes:
    """Code hashes of runs by the sources of a tree."""

    def __init__(self, sources: Sources, moved: Callable[[str], str] = str) -> None:
        self.graph = Graph(sources, of_runs())
        self._colours, self._moved = Colours(self.graph), moved

    def of(self, roots: Mapping[str, str]) -> str:
        return joined({label: self._colours.of(self.key(target)) for label, target in roots.items()})

    def key(self, target: str) -> Key:
        return self.graph.root(self._moved(target))

    def closure(self, roots: Mapping[str, str]) -> set[Key]:
        return self.graph.closure([self.key(target) for target in roots.values()])

    def all(self, runs: Iterable[RunSpec]) -> list[str]:
        return [self.of(run.roots()) for run in runs]


def engine_of(sources: Sources, roots: Mapping[str, str]) -> str:
    graph = Graph(sources, of_engine())
    colours = Colours(graph)
    return joined({label: colours.of(graph.root(target)) for label, target in roots.items()})


def together(module: Module, name: str) -> set[Key]:
    """A definition and those that one statement binds with it: `A, B = 1, 2` is one source for both."""
    lines = {s.lineno for s in module.defs[name]}
    return {(module.name, other) for other, bound in module.defs.items() if lines & {s.lineno for s in bound}}


def planted(module: Module, name: str, folder: Path) -> Module:
    """A module in which one definition does something else."""
    tree = ast.parse(module.file.read_text(encoding="utf-8"))
    lines = {s.lineno for s in module.defs[name]}
    for node in tree.body:
        if node.lineno not in lines:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.body.append(ast.parse("planted = 1").body[0])
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            assert node.value is not None  # or it would be no definition
            node.value = ast.Tuple([node.value, ast.Constant(1)], ast.Load())
    file = folder / "planted.py"
    file.write_text(ast.unparse(ast.fix_missing_locations(tree)))
    return read_module(module.name, file)
