"""ruff, mypy, the layers of the architecture (import-linter), and how suites are laid out, in this environment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def link(folder: Path) -> Path:
    """`folder`, with papers' folders as links in the package that they are imported from, for mypy."""
    package = folder / "benchmarks/latentbench"
    (package / "papers").mkdir(parents=True)
    for part in (ROOT / "benchmarks/latentbench").iterdir():
        if part.name not in ("papers", "__pycache__"):
            (package / part.name).symlink_to(part)
    (package / "papers/__init__.py").symlink_to(ROOT / "benchmarks/latentbench/papers/__init__.py")
    for file in (ROOT / "suites").glob("*/*.py"):
        if not file.name.startswith(("test_", "conftest")):
            paper = package / "papers" / file.parent.name.replace("-", "_")
            paper.mkdir(exist_ok=True)
            (paper / "__init__.py").touch()
            (paper / file.name).symlink_to(file)
    return folder


def run(*command: str, folder: Path = ROOT) -> int:
    print("$", *command, flush=True)
    return subprocess.run((str(Path(sys.executable).parent / command[0]), *command[1:]), cwd=folder).returncode


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        own = (f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={ROOT / '.mypy_cache'}")
        failed = [
            run("ruff", "check", "."),
            run("ruff", "format", "--check", "."),
            run("mypy", *own, folder=link(Path(scratch))),
            run("lint-imports"),
            run("latentbench", "fmt", "--check"),
        ]
    sys.exit(any(failed))
