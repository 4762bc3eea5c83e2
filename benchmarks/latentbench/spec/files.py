"""Where suite files are: ``suites/<paper-id>/suite.yaml``, or ``suites/<id>.yaml`` for one that needs no folder."""

from __future__ import annotations

from pathlib import Path

from latentbench.core import plugins
from latentbench.core.bounds import read_at_most
from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.paths import CATALOGUE, is_companion, shown, suites_dirs

#: A suite's file in its paper's folder, whose name is then the suite's id.
SUITE = "suite.yaml"
#: What came out, in prose, beside it: first in a sentence.
NOTES = "notes.md"
_MOST_BYTES = 100_000


def suite_id(path: Path) -> str:
    """The id that a suite's file must have: its folder's name for ``suite.yaml``, else its own."""
    return path.resolve().parent.name if path.name == SUITE else path.stem


def suite_files() -> dict[str, Path]:
    """Every suite file by its id, sorted; a project's own stands before a shipped one of the same id."""
    found: dict[str, Path] = {}
    for root in reversed(suites_dirs()):
        files = [
            p
            for p in (*root.glob("*.yaml"), *root.glob(f"*/{SUITE}"))
            if p.name != CATALOGUE.name and not any(map(is_companion, p.relative_to(root).parts))
        ]
        found |= {suite_id(p): p for p in files}
    return dict(sorted(found.items()))


def notes(path: Path) -> str | None:
    """What came out, as the notes beside a suite's file tell it; None where there are none."""
    try:
        text = read_at_most(path.parent / NOTES, _MOST_BYTES) if path.name == SUITE else None
    except OSError:
        return None
    return text.decode(errors="replace").strip() or None if text else None


def find_suite(name: str) -> Path:
    """A suite's file by id or by path; by id also in the working directory and in folders named by ``--plugins``.

    Raises:
        UserError: there is none.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    files = suite_files()
    if name in files:
        return files[name]
    for folder in (Path.cwd(), *plugins.folders()):  # of one's own, outside the project
        for place in (folder / "suites" / name / SUITE, folder / name / SUITE, folder / f"{name}.yaml"):
            if place.is_file():
                return place
    raise UserError(f"unknown suite {name!r}", where=shown(suites_dirs()[0]), fix=did_you_mean(name, files))
