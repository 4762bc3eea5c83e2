"""A results folder of real runs, and what somebody may do to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latentbench.planning.engines import era
from latentbench.planning.fingerprint import digest
from latentbench.records.record import Record, seal

from tests.project import Project

_kept: list[Path] = []


def run_folder(project: Project, keep: Path) -> Path:
    """The results of two seeds of a trained method and one of a fitted one; run once, then copied."""
    project.suite()
    if not _kept:
        answer = project.run("small", "--tier", "cpu", "--seeds", "2", "--method", "wide", "--method", "floor", "-q")
        assert answer.code == 0, answer.err
        shutil.copytree(project.results, keep / "results")
        _kept.append(keep / "results")
    else:
        shutil.copytree(_kept[0], project.results)
    return project.results


def record_of(results: Path, start: str = "wide--line--cpu--s0") -> Path:
    """The record file of the run whose name starts so."""
    [path] = results.glob(f"runs/small/{start}*/record.json")
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], None], *, reseal: bool = False) -> dict[str, Any]:
    """Change a record in place; sealed anew as whoever has the code can do."""
    data = json.loads(path.read_text())
    change(data)
    if reseal:
        data["seal"] = seal(Record.model_validate_json(json.dumps(data | {"seal": None})))
    path.write_text(json.dumps(data))
    return data


def rename(path: Path, data: dict[str, Any]) -> Path:
    """Give a changed record the fingerprint, name and folder that its hashes call for, and seal it."""
    h = data["hashes"]
    data["fingerprint"] = digest([h["spec"], h["data"], h["code"], era(h["engine"])])
    data["run_id"] = data["run_id"].rpartition("--")[0] + "--" + data["fingerprint"][:10]
    data["seal"] = seal(Record.model_validate_json(json.dumps(data | {"seal": None})))
    path.write_text(json.dumps(data))
    return path.parent.rename(path.parent.with_name(data["run_id"])) / "record.json"
