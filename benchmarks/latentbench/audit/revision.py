"""The code of an earlier revision: whether this clone has it, a work tree of it, and a run by it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from latentbench.core.errors import UserError
from latentbench.core.paths import checkout, data_dir
from latentbench.records.archive import record_files
from latentbench.records.record import Record, read_record
from latentbench.running.settings import Settings

CHECKOUT = checkout()


def _git(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(("git", *args), cwd=CHECKOUT, capture_output=True, text=True, check=False)


def is_ours(revision: str) -> bool:
    """Whether a revision is in the history of this clone: of what is checked out, or of a branch or tag of one's own.

    A commit that is merely stored, such as one fetched from somebody's fork, is not run because a record names it.
    What a record says goes to git as data, never as an option.
    """
    if CHECKOUT is None or not (len(revision) in (40, 64) and all(c in "0123456789abcdef" for c in revision)):
        return False
    if _git("merge-base", "--is-ancestor", revision, "HEAD").returncode == 0:
        return True
    return bool(_git("for-each-ref", "--count=1", f"--contains={revision}", "refs/heads", "refs/tags").stdout.strip())


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A work tree of `revision`, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="latentbench-revision-") as folder:
        tree = Path(folder) / "tree"
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
