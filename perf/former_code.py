"""Today's hashes of the code of the revision before identity went by definitions: makes `records/former.json`.

``python -m perf.former_code`` checks out that revision, lists the runs of all its suites with the hashes that it gives
them, and hashes its sources as today's are hashed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from latentbench.core.reach.colours import Colours
from latentbench.core.reach.graph import Boundary, Graph, Sources, Tree
from latentbench.planning.fingerprint import INTERFACE, engine_roots, joined
from latentbench.records.former import FILE, kind_of

REVISION = "489233394297de5a945bd9f8b5da993e1cfa9fb0"
PACKAGE = "benchmarks"
#: What its modules were called that no closure enters.
WORDS_AND_PLACES = ("capabilities", "console", "errors", "imports", "interrupts", "paths", "plugins", "yamlfile")
NO_RESULT = (*(f"core.{name}" for name in WORDS_AND_PLACES), "data.registry", "data.store")
#: The table through which its engine found steps, which a run's own hash covers.
TABLES = ("data.steps:STEPS",)
ENGINE = "runner.experiment:run_experiment"

LIST = """
import json, sys
from benchmarks.data.registry import load_entry
from benchmarks.data.steps import STEPS
from benchmarks.planning.plan import plan
from benchmarks.spec.loading import load_suite, suite_files
found = []
for name in sys.argv[1:] or suite_files():
    loaded = load_suite(name)
    for tier in loaded.suite.tiers:
        for run in plan(loaded, tier):
            steps = [s if isinstance(s, str) else next(iter(s)) for s in run.data["preprocess"]]
            roots = {f"model {run.model}": run.target} | {f"metric {m.name}": m.target for m in run.metrics}
            roots |= {f"step {s}": f"benchmarks.data.steps:{STEPS[s].__name__}" for s in steps}
            if oracle := load_entry(run.data["source"]).oracle:
                roots[f"oracle {run.data['source']}"] = oracle
            one = {"suite": name, "cell": run.cell, "tier": tier, "code": run.code_hash, "roots": roots}
            if one not in found:
                found.append(one)
print(json.dumps(found))
"""


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A work tree of a revision, for as long as the block lasts."""
    with TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], check=True)


def runs_of(tree: Path, suites: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The runs of that revision's suites at all tiers: suite, cell, tier, code hash as it was, roots by label."""
    environment = os.environ | {"PYTHONPATH": str(tree), "LATENTBENCH_ROOT": str(tree)}
    command = [sys.executable, "-c", LIST, *suites]
    done = subprocess.run(command, env=environment, cwd=tree, check=True, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


class FormerCode:
    """Hashes of that revision's sources."""

    def __init__(self, tree: Path) -> None:
        sources = Sources(Tree(PACKAGE.__eq__, lambda module: file_of(tree, module)))
        words = frozenset(f"{PACKAGE}.{m}" for m in NO_RESULT)
        self._of_runs, self._of_engine = (
            Graph(sources, Boundary(words, frozenset(), frozenset(_key(t) for t in cut))) for cut in (INTERFACE, TABLES)
        )
        self._colours = {graph: Colours(graph) for graph in (self._of_runs, self._of_engine)}

    def of(self, roots: dict[str, str]) -> str:
        """The hash of a run's code."""
        return self._joined(self._of_runs, roots)

    def engine(self) -> str:
        """The hash of the engine."""
        return self._joined(self._of_engine, engine_roots(PACKAGE, ENGINE))

    def _joined(self, graph: Graph, roots: dict[str, str]) -> str:
        return joined({label: self._colours[graph].of(graph.root(target)) for label, target in roots.items()})


def file_of(tree: Path, module: str) -> Path | None:
    """The source of a module of a work tree."""
    path = tree.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file if file.is_file() else None


def table(tree: Path, suites: Sequence[str] = ()) -> dict[str, Any]:
    """What `latentbench.records.former` reads, of the given suites or of all."""
    hashes, models, code = FormerCode(tree), {}, {}
    for run in runs_of(tree, suites):
        for label, target in run["roots"].items():
            if label.startswith("model "):
                models[target] = label.removeprefix("model ")
        code.setdefault(run["code"], {})[kind_of(run["roots"])] = hashes.of(run["roots"])
    return {"revision": REVISION, "engine": hashes.engine(), "models": models, "code": code}


def _key(target: str) -> tuple[str, str]:
    module, _, name = target.partition(":")
    return f"{PACKAGE}.{module}", name


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, help="a work tree of the revision, if there is one")
    given = parser.parse_args().tree
    if given:
        found = table(given.resolve())
    else:
        with checked_out(REVISION) as tree:
            found = table(tree)
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
