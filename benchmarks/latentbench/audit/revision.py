"""The code of an earlier revision: whether this clone has it, a work tree of it, and a run by it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from latentbench.core import plugins
from latentbench.core.errors import UserError
from latentbench.core.imports import module_file
from latentbench.core.paths import checkout, data_dir
from latentbench.core.plugins import PAPERS
from latentbench.core.reach.colours import Colours
from latentbench.core.reach.graph import Graph, Sources, Tree
from latentbench.core.reach.installed import PACKAGE
from latentbench.discovery.reading import declarations
from latentbench.planning.fingerprint import engine_roots, joined, of_engine, of_runs
from latentbench.planning.plan import RunSpec
from latentbench.records.archive import record_files
from latentbench.records.record import Record, read_record
from latentbench.running.settings import Settings
from latentbench.scheduling.scratch import scratch_folder

CHECKOUT = checkout()


def _git(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(("git", *args), cwd=CHECKOUT, capture_output=True, text=True, check=False)


def is_stored(revision: str) -> bool:
    """Whether this clone has a commit of that name at all.

    What a record says goes to git as data, never as an option.
    """
    if CHECKOUT is None or not (len(revision) in (40, 64) and all(c in "0123456789abcdef" for c in revision)):
        return False
    return _git("cat-file", "-e", f"{revision}^{{commit}}").returncode == 0


def is_ours(revision: str) -> bool:
    """Whether a revision is in the history of what is checked out, whose code this is.

    A commit that is merely stored is not run because a record names it: fetching somebody's fork brings its commits,
    its tags among one's own, and perhaps a branch to look at.
    """
    return is_stored(revision) and _git("merge-base", "--is-ancestor", revision, "HEAD").returncode == 0


def code_of(tree: Path, run: RunSpec) -> dict[str, str] | None:
    """Hashes of a run's code and of the engine in a work tree, from its sources; nothing of it is imported.

    None where its sources are laid out otherwise, or lack what the run starts from.
    """
    package = tree / "benchmarks" / PACKAGE
    if not package.is_dir():
        return None
    papers = {f.name.replace("-", "_"): f for f in sorted((tree / "suites").glob("*")) if f.is_dir()}

    def find(module: str) -> Path | None:
        parts = module.split(".")
        if parts[0] != PACKAGE:
            return module_file(module)
        base, inner = package, parts[1:]
        if module.startswith(f"{PAPERS}.") and inner[1] in papers:
            base, inner = papers[inner[1]], inner[2:]
        path = base.joinpath(*inner)
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        return file if file.is_file() else None

    modules = (target.partition(":")[0] for target in run.roots().values())
    follows = plugins.packages() | {PACKAGE} | {module.partition(".")[0] for module in modules}
    sources = Sources(Tree(follows.__contains__, find))
    try:
        targets = _declared(package, papers)
        roots = {label: targets.get(label, target) for label, target in run.roots().items()}
        return {
            "code": _joined(Graph(sources, of_runs()), roots),
            "engine": _joined(Graph(sources, of_engine()), engine_roots()),
        }
    except (LookupError, SyntaxError, ValueError, OSError, UserError, RecursionError):
        return None


def _joined(graph: Graph, roots: dict[str, str]) -> str:
    colours = Colours(graph)
    return joined({label: colours.of(graph.root(target)) for label, target in roots.items()})


def _declared(package: Path, papers: dict[str, Path]) -> dict[str, str]:
    """Where the models, metrics and steps of a work tree are, by what they are called in `RunSpec.roots`."""
    found: dict[str, str] = {}
    folders = [(package, PACKAGE), *((folder, f"{PAPERS}.{name}") for name, folder in papers.items())]
    for folder, name in folders:
        for path in sorted(folder.rglob("*.py")):
            inner = path.relative_to(folder).with_suffix("")
            if not path.stem.startswith("test_") and all(part.isidentifier() for part in inner.parts):
                for one in declarations(path, ".".join((name, *inner.parts)).removesuffix(".__init__")):
                    found[f"{one.kind} {one.name}"] = one.target
    return found


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A work tree of `revision`, for as long as the block lasts."""
    with scratch_folder() as folder:
        tree = folder / "tree"
        _git("worktree", "prune")  # of what a killed process left
        done = _git("worktree", "add", "--detach", "--quiet", str(tree), revision)
        if done.returncode != 0:
            raise UserError(
                f"revision {revision[:10]} cannot be checked out: {done.stderr.strip()[:200]}",
                fix="replay with --today to use the code as it is",
            )
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def run_there(tree: Path, record: Record, settings: Settings) -> Record:
    """The run of a record by the code of a work tree, in a process of its own."""
    sources, package, compiling = _package(tree)
    command: Sequence[str] = (
        *(sys.executable, "-m", package, "run", f"--tier={record.tier}", f"--seeds={record.seed},"),
        *(f"--method={_literal(record.method)}", f"--dataset={_literal(record.dataset)}"),
        *("--jobs=1", f"--device={settings.device}", "--wandb=disabled", "--quiet"),
        *([f"--devices={settings.devices}"] if settings.devices > 1 else ()),
        *([f"--compile={settings.compile}"] if compiling else ()),
        *("--", record.suite),
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(sources), os.environ.get("PYTHONPATH")))),
        "LATENTBENCH_ROOT": str(tree),
        "LATENTBENCH_RESULTS": str(settings.results),
        "LATENTBENCH_DATA": str(_data(tree, settings.results / "data")),
        "OMP_NUM_THREADS": str(settings.threads),
    }
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    files = [file for _, file in record_files(record.suite, settings.results)]
    if len(files) != 1:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UserError(
            f"the code of its revision made {len(files)} records (exit code {done.returncode}): {said}",
            where=record.run_id,
            fix="replay with --today to use the code as it is",
        )
    return read_record(Path(files[0]))


def _data(tree: Path, folder: Path) -> Path:
    """A data folder for a revision: its registry entries, which today's code may read otherwise, and our downloads."""
    if not (tree / "data/registry").is_dir():
        return data_dir()
    folder.mkdir()
    (folder / "registry").symlink_to(tree / "data/registry")
    if (downloads := data_dir() / "cache").is_dir():
        (folder / "cache").symlink_to(downloads)
    return folder


def _package(tree: Path) -> tuple[Path, str, bool]:
    """Where a revision keeps its package, the package's name, and whether it can compile losses."""
    if (tree / "benchmarks/latentbench").is_dir():
        return tree / "benchmarks", "latentbench", True
    return tree, "benchmarks", (tree / "benchmarks/runner/compiling.py").is_file()  # until November 2026


def _literal(name: str) -> str:
    """A name as a pattern that matches it alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
