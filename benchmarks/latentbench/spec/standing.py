"""Each suite and each paper of the catalogue in a line, with how far its suite has come.

Reading and checking hundreds of suites takes seconds, so what came of it is kept (`latentbench.core.file_cache`), by
the state of the suite's file and of all that its validation reads; where nothing has changed, neither pydantic nor
numpy is imported. How far the records have come is looked up each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from latentbench import __version__
from latentbench.core import plugins
from latentbench.core.bounds import RECORD_BYTES, open_regular, read_at_most
from latentbench.core.errors import UserError
from latentbench.core.file_cache import Memory, State, state_of, states_of
from latentbench.core.imports import module_file
from latentbench.core.paths import (
    cache_dir,
    catalogue_file,
    reference_dirs,
    registry_dirs,
    results_dir,
    safe_name,
)
from latentbench.spec.files import suite_files

Standing = Literal["no suite", "invalid", "validates", "runs (smoke)", "verdict at cpu", "verdict at paper"]
#: What each standing means, in the order in which a suite climbs.
LEGEND: dict[Standing, str] = {
    "no suite": "nobody has written one",
    "invalid": "`latentbench validate` says why",
    "validates": "it can be run",
    "runs (smoke)": "a smoke run has finished",
    "verdict at cpu": "a cpu run has",
    "verdict at paper": "a run of the paper's own protocol has",
}
_AFTER: tuple[tuple[str, Standing], ...] = (
    ("paper", "verdict at paper"),
    ("cpu", "verdict at cpu"),
    ("smoke", "runs (smoke)"),
)


def suites() -> list[dict[str, Any]]:
    """A row for each suite: id, title, version, tiers, methods, datasets, claims, state."""
    memory = _memory("suites")
    found = []
    for name, path in suite_files().items():
        at = state_of(path.stat())
        known = memory.recall(str(path), at)
        if known is None:
            known, lasting = _examined(path)
            if lasting:
                memory.learn(str(path), at, known)
        found.append({"id": name, **known["row"], "state": _standing(name, valid=known["valid"])})
    memory.save()
    return found


def papers() -> list[dict[str, Any]]:
    """A row for each paper: id, title, family, scope, priority, state; in the catalogue's order."""
    path = catalogue_file()
    memory = _memory("papers")
    at = _state(path)
    rows = memory.recall("papers", at)
    if rows is None:
        from latentbench.spec.papers import catalogue

        rows = [p.model_dump(include={"id", "title", "family", "scope", "priority"}) for p in catalogue()]
        memory.learn("papers", at, rows)
        memory.save()
    standings = states()
    return [{**row, "state": standings.get(row["id"], "no suite")} for row in rows]


def states() -> dict[str, Standing]:
    """How far each suite has come, by id; papers without one are absent."""
    return {row["id"]: row["state"] for row in suites()}


def _examined(path: Path) -> tuple[dict[str, Any], bool]:
    """What `suites` says of a suite, and whether it holds for as long as the file stays as it is."""
    from latentbench.spec.loading import load_suite
    from latentbench.spec.validation import problems

    try:
        loaded = load_suite(path)
        suite = loaded.suite
        row: dict[str, Any] = {"title": suite.paper.title, "version": suite.version, "tiers": list(suite.tiers)}
        row |= {"methods": len(suite.methods), "datasets": list(suite.datasets), "claims": len(suite.claims)}
        return {"row": row, "valid": not problems(loaded)}, True
    except UserError as e:  # which names the file as it is seen from the working directory
        row = {"title": f"unreadable: {e}", "version": None, "tiers": []}
        return {"row": row | {"methods": None, "datasets": [], "claims": None}, "valid": False}, False


def _standing(name: str, *, valid: bool) -> Standing:
    runs, folders = results_dir() / "runs" / safe_name(name), [d / safe_name(name) for d in reference_dirs()]
    files = [(run, runs / run / "record.json") for run in _listed(runs)]
    files += [(file, d / file) for d in folders for file in _listed(d) if file.endswith(".json")]
    for tier, standing in _AFTER:
        single = any(f"--{tier}--" in run and _finished(file) for run, file in files)
        if single or any(_packed(d / f"{tier}.jsonl") for d in folders):
            return standing
    return "validates" if valid else "invalid"


def _packed(pack: Path) -> bool:
    """Whether a pack of records has a finished run; a line of one says its status only where it is another."""
    with suppress(OSError), open_regular(pack) as lines:
        return any(line.startswith(b'{"run":') and _status(line, "finished") == "finished" for line in lines)
    return False


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _finished(record: Path) -> bool:
    try:
        return _status(read_at_most(record, RECORD_BYTES) or b"") == "finished"
    except OSError:
        return False


def _status(text: bytes, usual: str = "") -> Any:
    try:
        return json.loads(text).get("status", usual)
    except (ValueError, AttributeError, RecursionError):
        return ""


def _memory(name: str) -> Memory:
    return Memory(cache_dir() / f"{name}.json", _version())


def _version() -> str:
    """Of all but the suite's own file that reading and checking a suite depends on."""
    text = json.dumps([__version__, sys.version, list(surroundings())])
    return hashlib.sha256(text.encode()).hexdigest()


def surroundings() -> Iterator[tuple[str, State]]:
    """Our code, that of papers and plug-ins, the dataset registry: every file with its state."""
    yield from states_of([Path(__file__).parents[1]], ".py")
    yield from states_of([*registry_dirs(), *plugins.data_folders()], ".yaml")
    yield from states_of(plugins.paper_folders().values(), ".py")
    for package in sorted(plugins.packages()):
        file = module_file(package)
        if file is None:
            yield package, []
        elif file.name == "__init__.py":
            yield from states_of([file.parent], ".py")
        else:
            yield str(file), _state(file)


def _state(path: Path) -> State:
    """The state of a file; empty where there is none."""
    try:
        return state_of(path.stat())
    except OSError:
        return []
