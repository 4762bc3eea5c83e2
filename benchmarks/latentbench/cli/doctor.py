"""`latentbench doctor`"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import click

from latentbench.cli.options import examples, format_option, print_json, print_table

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `fix` says how to mend or to get it."""

    level: Level
    what: str
    found: str
    fix: str = ""


@click.command(epilog=examples("doctor", "doctor --format json"))
@format_option("table", "json")
@click.pass_context
def command(ctx: click.Context, form: str) -> None:
    """Environment, devices, disk, credentials and pipeline: what is missing and how to get it.

    Exits with 1 if anything is a problem; a note is only worth knowing.
    """
    findings = [f for check in CHECKS for f in check()]
    if form == "json":
        print_json([vars(f) for f in findings])
    else:
        print_table("", ["", "what", "found", "what to do"], [[f.level, f.what, f.found, f.fix] for f in findings])
    ctx.exit(1 if any(f.level == "problem" for f in findings) else 0)


def _python() -> Iterator[Finding]:
    version = sys.version.split()[0]
    fine = sys.version_info >= (3, 11)
    yield Finding("ok" if fine else "problem", "python", version, "" if fine else "install Python 3.11 or newer")


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    for text in metadata.requires("latentbench") or []:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            yield Finding("problem", need.name, "not installed", f"pip install -c constraints.txt '{need}'")
            continue
        fine = need.specifier.contains(version, prereleases=True)
        yield Finding("ok" if fine else "problem", need.name, version, "" if fine else f"pip install '{need}'")


def _devices() -> Iterator[Finding]:
    from latentbench.scheduling.local import cores

    yield Finding("ok", "processor cores", str(cores()))
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            p = torch.cuda.get_device_properties(i)
            yield Finding("ok", f"cuda:{i}", f"{p.name}, {p.total_memory / 2**30:.0f} GiB")
    elif shutil.which("nvidia-smi"):
        yield Finding("problem", "cuda", "a driver, but torch cannot use it", "install a CUDA build of torch")
    else:
        yield Finding("note", "cuda", "no GPU", "tiers smoke and cpu need none")


def _compiler() -> Iterator[Finding]:
    """What torch compiles losses with on the CPU."""
    wanted = os.environ.get("CXX")
    found = next((c for c in ([wanted] if wanted else ["g++", "clang++"]) if shutil.which(c)), None)
    if found is None:
        yield Finding("note", "C++ compiler", wanted or "none", "install g++ to use `run --compile` on the CPU")
    else:
        yield Finding("ok", "C++ compiler", found)


def _folders() -> Iterator[Finding]:
    from latentbench.core.paths import data_dir, project_root, results_dir, shown

    yield Finding("ok", "project", shown(project_root()))
    from latentbench.running.provenance import git_fault, git_state

    if (fault := git_fault()) is not None:
        yield Finding(
            "problem",
            "revision",
            f"{fault}; records say so",
            "own the checkout, or `git config --global --add safe.directory <checkout>`; or install a wheel",
        )
    elif (revision := git_state()[0]) is not None:
        yield Finding("ok", "revision", revision[:12])
    for what, folder in (("data", data_dir()), ("results", results_dir())):
        place = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(place).free / 2**30
        if not os.access(place, os.W_OK):
            yield Finding(
                "problem", f"{what} folder", f"{shown(folder)} is not writable", f"set LATENTBENCH_{what.upper()}"
            )
        elif free < 2:
            yield Finding("problem", f"{what} folder", f"{free:.1f} GiB free", "make room, or move it (LATENTBENCH_…)")
        else:
            yield Finding("ok", f"{what} folder", f"{shown(folder)}, {free:.0f} GiB free")
    mirror = os.environ.get("LATENTBENCH_MIRROR")
    if mirror is None:
        yield Finding(
            "note", "mirror", "LATENTBENCH_MIRROR is not set", "set it to a folder that holds datasets' files"
        )
    elif not Path(mirror).is_dir():
        yield Finding("problem", "mirror", "LATENTBENCH_MIRROR is no folder", "unset it or correct it")
    else:
        yield Finding("ok", "mirror", "set")


def _credentials() -> Iterator[Finding]:
    from latentbench.scheduling.tracking import default_mode

    mode = default_mode()
    fix = "`wandb login` tracks online" if mode == "offline" else ""
    yield Finding("ok", "wandb", mode, fix)


def _pipeline() -> Iterator[Finding]:
    from latentbench.core.errors import UserError
    from latentbench.core.paths import project_root
    from latentbench.core.yamlfile import read_plain

    lock = project_root() / "dvc.lock"
    if not lock.is_file():
        yield Finding("note", "dvc.lock", "none yet", "`dvc repro` makes it")
        return
    try:
        data = read_plain(lock)
    except UserError:
        data = None
    if _is_whole(data):
        yield Finding("ok", "dvc.lock", f"{len(data['stages'])} stages")
    else:
        yield Finding(
            "problem",
            "dvc.lock",
            "cut off or damaged",
            "delete it and run `dvc repro`: finished runs are not done again",
        )


def _is_whole(lock: Any) -> bool:
    """Whether the data of a lock file have the form that DVC demands; DVC itself is asked if it is there."""
    if not (isinstance(lock, dict) and isinstance(lock.get("stages"), dict)):
        return False
    try:
        from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    except ImportError:
        return all(isinstance(s, dict) and "cmd" in s for s in lock["stages"].values())
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(lock)
    except Invalid:
        return False
    return True


def _records() -> Iterator[Finding]:
    from latentbench.core.errors import UserError
    from latentbench.core.paths import results_dir, shown
    from latentbench.records.archive import pack_faults, record_files, suites_with_records
    from latentbench.records.record import place_fault, read_record, seal_fault

    root, count = results_dir(), 0
    suites = suites_with_records(root)
    found = [file for suite in suites for _, file in record_files(suite, root)]
    broken = [fault for suite in suites for fault in pack_faults(suite, root)]
    for file in map(Path, found):
        count += 1
        try:
            record = read_record(file)
            if (fault := seal_fault(record) or place_fault(record, file)) is not None:
                broken.append(f"{shown(file)}: {fault}")
        except UserError as e:
            broken.append(str(e))
    yield Finding("ok", "records", str(count))
    for text in broken:
        yield Finding("problem", "record", text, "delete it; the next run makes it anew")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _packages,
    _devices,
    _compiler,
    _folders,
    _credentials,
    _pipeline,
    _records,
)
