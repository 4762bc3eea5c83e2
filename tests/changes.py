"""What differs from an earlier revision.

Suites do by a file in their folder, or by the fingerprint of a run; rooms (folders of the package) by a file of theirs
or of their tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latentbench.data.archive import unpack

#: What planning reads, and so what of an earlier revision is needed.
PLANNED = ("benchmarks", "suites", "data/registry")
#: Names of the revision to compare with, beside those of the main branch.
VARIABLE = "LATENTBENCH_BASE"
#: Seconds over which commits on main may have been made that are pushed, and so tested, together.
PUSHED_TOGETHER = 6 * 3600


def git(folder: Path, *args: str) -> bytes | None:
    """What git answers; None where it refuses, or is not there."""
    try:
        done = subprocess.run(("git", *args), cwd=folder, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def base_revision(folder: Path) -> str | None:
    """The revision that `LATENTBENCH_BASE` names, else where this branch left main.

    On main itself, where it stood six hours before its newest commit, or else the revision before: what is pushed is
    seldom one commit. None where there is no such history: in a shallow clone, or without git.
    """
    if named := os.environ.get(VARIABLE):
        return _commit(folder, named)
    head = _commit(folder, "HEAD")
    for main in ("origin/HEAD", "origin/main", "main"):
        found = git(folder, "merge-base", "HEAD", main)
        if found and (base := found.decode().strip()) != head:
            return base
    made = git(folder, "log", "-1", "--format=%ct", "HEAD")
    before = f"--before={int(made) - PUSHED_TOGETHER}" if made else "--before=0"
    stood = git(folder, "rev-list", "-1", "--first-parent", before, "HEAD")
    return (stood.decode().strip() if stood else "") or _commit(folder, "HEAD^")


def _commit(folder: Path, name: str) -> str | None:
    found = git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    return found.decode().strip() if found else None


def changed_suites(folder: Path, base: str) -> dict[str, str] | None:
    """Suites that differ from `base` in the working tree, with what says so; None where that cannot be told."""
    if not _touched_files(folder, base, *PLANNED):
        return {}
    with tempfile.TemporaryDirectory(prefix="latentbench-base-") as scratch:
        tree, packed = Path(scratch, "tree"), Path(scratch, "packed.tar")
        if git(folder, "archive", "--format=tar", f"--output={packed}", base, "--", *PLANNED) is None:
            return None
        unpack(packed, tree)
        before, now = fingerprints(tree, Path(scratch, "before")), fingerprints(folder, Path(scratch, "now"))
    if not before or not now:
        return None
    found = {name: "fingerprint" for name in now if now[name] != before.get(name)}
    return found | {name: "files" for name in _touched(folder, base) if name in now}


def fingerprints(tree: Path, scratch: Path, tier: str = "smoke") -> dict[str, Any]:
    """What the runs of each suite at a tier depend on, as the code of `tree` says; empty where it says nothing."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith("LATENTBENCH_")}
    own = {"LATENTBENCH_ROOT": tree, "LATENTBENCH_DATA": scratch / "data", "LATENTBENCH_RESULTS": scratch / "results"}
    environment = outside | {name: str(place) for name, place in own.items()} | {"PYTHONPATH": str(tree / "benchmarks")}
    if not (scratch / "data").is_dir():
        (scratch / "data").mkdir(parents=True)
        (scratch / "data/registry").symlink_to(tree / "data/registry")  # for code that looks for it there alone
    command = (sys.executable, "-m", "latentbench", "fingerprints", "--tier", tier, "--write", str(scratch / "of"))
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, check=False)
    if done.returncode != 0:
        return {}
    return {path.stem: json.loads(path.read_bytes()) for path in (scratch / "of").glob("*.json")}


def room_of(file: str) -> str | None:
    """The room that a file of the package or of the tests belongs to; None for what belongs to none."""
    for places in ("benchmarks/latentbench/", "tests/"):
        if file.startswith(places):
            room, inside, _ = file.removeprefix(places).partition("/")
            return room if inside else None
    return None


def changed_rooms(folder: Path, base: str) -> list[str]:
    """Rooms that differ from `base` in the working tree, sorted."""
    touched = _touched_files(folder, base, "benchmarks/latentbench", "tests")
    return sorted({room for file in touched if (room := room_of(file))})


def _touched(folder: Path, base: str) -> Iterator[str]:
    """Names of the folders under ``suites/`` in which a file differs from `base`."""
    for name in _touched_files(folder, base, "suites"):
        if len(parts := Path(name).parts) > 2:
            yield parts[1]


def _touched_files(folder: Path, base: str, *places: str) -> list[str]:
    """Files below `places` that differ from `base`, also those that git does not know yet."""
    changed = git(folder, "diff", "--name-only", "-z", "--relative", base, "--", *places) or b""
    new = git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", *places) or b""
    return [name for name in (changed + new).decode().split("\0") if name]
