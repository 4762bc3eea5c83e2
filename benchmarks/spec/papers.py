"""The catalogue of papers, ``suites/papers.yaml``, and how far each one's suite has come."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from benchmarks.core.errors import UserError
from benchmarks.core.paths import results_dir, safe_name, shown, suites_dir
from benchmarks.core.yamlfile import read_plain
from benchmarks.spec.loading import LoadedSuite, load_suite, suite_files
from benchmarks.spec.suite import Tier
from benchmarks.spec.validation import problems

State = Literal["no suite", "invalid", "validates", "runs (smoke)", "verdict at cpu", "verdict at paper"]
_AFTER: tuple[tuple[Tier, State], ...] = (
    ("paper", "verdict at paper"),
    ("cpu", "verdict at cpu"),
    ("smoke", "runs (smoke)"),
)


class PaperEntry(BaseModel):
    """One paper of the catalogue; keys that are not needed here are kept out of the way."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    title: str
    family: str
    scope: Literal["core", "extended", "pretrained", "theory"]
    priority: int
    arxiv: str | None = None
    year: int | None = None
    claim: str | None = None
    small: str | None = None


def catalogue() -> list[PaperEntry]:
    """All papers, in the catalogue's order."""
    path = suites_dir() / "papers.yaml"
    try:
        return TypeAdapter(list[PaperEntry]).validate_python(read_plain(path))
    except ValidationError as e:
        fault = e.errors(include_url=False)[0]
        place = ".".join(str(p) for p in fault["loc"])
        raise UserError(f"{place}: {fault['msg']}", where=shown(path), fix="restore it from git") from None


def states(results: Path | None = None) -> dict[str, State]:
    """How far each suite has come, by id; papers without one are absent."""
    root = results or results_dir()
    return {name: state_of(name, partial(load_suite, path), root) for name, path in suite_files().items()}


def state_of(name: str, load: Callable[[], LoadedSuite], results: Path | None = None) -> State:
    """How far a suite has come; `load` gives it, or raises UserError, and is called where no record says so."""
    root = results or results_dir()
    files = {p.parent.name: p for p in (root / "runs" / safe_name(name)).glob("*/record.json")}
    files |= {p.stem: p for p in (root / "reference" / safe_name(name)).glob("*.json")}
    for tier, state in _AFTER:
        if any(f"--{tier}--" in run and _finished(file) for run, file in files.items()):
            return state
    try:
        return "invalid" if problems(load()) else "validates"
    except UserError:
        return "invalid"


def _finished(record: Path) -> bool:
    try:
        return bool(json.loads(record.read_bytes())["status"] == "finished")
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False
