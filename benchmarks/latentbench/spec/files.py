"""Where suite files are."""

from __future__ import annotations

from pathlib import Path

from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.paths import shown, suites_dir


def suite_files() -> dict[str, Path]:
    """Every suite file by its id, sorted: ``suites/<id>.yaml`` and ``suites/<family>/<id>.yaml``."""
    root = suites_dir()
    files = [p for p in (*root.glob("*.yaml"), *root.glob("*/*.yaml")) if p.name != "papers.yaml"]
    return {p.stem: p for p in sorted(files, key=lambda p: p.stem)}


def find_suite(name: str) -> Path:
    """A suite's file by id, by ``family/id``, or by path.

    Raises:
        UserError: there is none.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    files = suite_files()
    key = name.rsplit("/", 1)[-1]
    if key in files and (("/" not in name) or files[key].parent.name == name.rsplit("/", 1)[0]):
        return files[key]
    raise UserError(f"unknown suite {name!r}", where=shown(suites_dir()), fix=did_you_mean(name, files))
