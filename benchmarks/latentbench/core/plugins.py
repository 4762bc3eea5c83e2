"""Where code beside this package comes from: papers' folders, folders that the user names, installed distributions.

A folder of code is imported as a package below `latentbench.papers`, by its own name with ``_`` for whatever is no
letter or digit: ``suites/gumbel-softmax/`` as ``latentbench.papers.gumbel_softmax``. Those that come with latentbench
are ours; naming another, by ``latentbench --plugins FOLDER`` or ``LATENTBENCH_PLUGINS``, is consent to run what is in
it, and so is ``--trust`` for all papers of a project. An installed plug-in declares entry points in `GROUPS`.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

from latentbench.core.errors import UserError
from latentbench.core.paths import shipped_root, suites_dirs

VARIABLE = "LATENTBENCH_PLUGINS"
#: Set by ``latentbench --trust``; inherited by worker processes.
TRUST = "LATENTBENCH_TRUST"
#: Entry points by which a distribution says that it is a plug-in; those of datasets only name its package.
GROUPS = ("latentbench.models", "latentbench.metrics", "latentbench.datasets")
PAPERS = "latentbench.papers"


def folders() -> list[Path]:
    """The folders that the user names, in order.

    Raises:
        UserError: one of them is no folder.
    """
    found = [Path(p).expanduser().resolve() for p in os.environ.get(VARIABLE, "").split(os.pathsep) if p]
    for folder in found:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}", where=VARIABLE, fix="name folders that hold plug-in modules")
    return found


def add_folder(folder: Path) -> None:
    """Name one more folder, for this process and those that it starts."""
    known = [p for p in os.environ.get(VARIABLE, "").split(os.pathsep) if p]
    if str(folder.resolve()) not in known:
        os.environ[VARIABLE] = os.pathsep.join([*known, str(folder.resolve())])
    folders()


def paper_folders() -> dict[str, Path]:
    """Folders of code, by the package below `latentbench.papers` that each is imported as: those that the user names,
    the project's papers, ours.

    Raises:
        UserError: two of them would have one name.
    """
    return _paper_folders(tuple(folders()), (*suites_dirs(), shipped_root() / "suites"))


@lru_cache(maxsize=8)
def _paper_folders(named: tuple[Path, ...], suites: tuple[Path, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in named:
        if (other := found.setdefault(package_name(folder), folder)) != folder:
            raise UserError(f"it has the name of {other}", where=folder, fix="rename one of the folders")
    for place in suites:
        for entry in sorted(os.scandir(place), key=lambda e: e.name) if place.is_dir() else ():
            if entry.is_dir() and entry.name[0] not in "._":
                folder = Path(entry.path)
                other = found.setdefault(package_name(folder), folder)
                if other in named and other != folder.resolve():
                    raise UserError(f"it has the name of a paper's folder, {folder}", where=other, fix="rename it")
    return found


def data_folders() -> list[Path]:
    """Folders ``data/`` of those of `paper_folders` that have one and are the user's or the project's: registry entries
    of their own."""
    return _data_folders(tuple(folders()), tuple(suites_dirs()))


@lru_cache(maxsize=8)
def _data_folders(named: tuple[Path, ...], suites: tuple[Path, ...]) -> list[Path]:
    return [f / "data" for f in _paper_folders(named, suites).values() if (f / "data").is_dir()]


def package_name(folder: Path) -> str:
    """The name of a folder as that of a package."""
    name = re.sub(r"\W", "_", folder.name, flags=re.ASCII)
    return name if name.isidentifier() else f"_{name}"


def strangers() -> list[Path]:
    """Folders whose code may run here and does not come with latentbench: those that the user names, and with
    ``--trust`` all papers of the project that have code."""
    found = [f for f in folders() if not _is_ours(f)]
    if os.environ.get(TRUST) == "1":
        found += [f for f in paper_folders().values() if not _is_ours(f) and f not in found and any(f.glob("*.py"))]
    return found


def _is_ours(folder: Path) -> bool:
    return folder.parent.resolve() == (shipped_root() / "suites").resolve()


def check_trusted(folder: Path) -> None:
    """Refuse to run a folder's code unless it is ours or the user has consented.

    Raises:
        UserError: it is a paper of somebody else's project.
    """
    if not _is_ours(folder) and folder.resolve() not in folders() and os.environ.get(TRUST) != "1":
        raise UserError(
            "it holds code from outside latentbench",
            where=folder,
            fix=f"say `latentbench --plugins {folder} …` if you know what it does, or `--trust` for all papers here",
        )


def forget() -> None:
    """Look again, since there are other folders than before; modules of folders that are gone are imported anew."""
    _paper_folders.cache_clear()
    _data_folders.cache_clear()
    packages.cache_clear()
    now = paper_folders()
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{PAPERS}."):
            top = name.split(".")[2]
            path = list(getattr(sys.modules.get(f"{PAPERS}.{top}", module), "__path__", []))
            if path != [str(now.get(top))]:
                del sys.modules[name]


@cache
def packages() -> frozenset[str]:
    """Top-level packages and modules of installed plug-ins.

    Entry points are only read where some distribution has ours: reading all of them takes longer than a list.
    """
    if not any(_is_plugin(Path(place)) for place in dict.fromkeys(sys.path) if os.path.isdir(place)):
        return frozenset()
    from importlib.metadata import entry_points

    return frozenset(p.module.partition(".")[0] for group in GROUPS for p in entry_points(group=group))


def _is_plugin(place: Path) -> bool:
    """Whether a distribution that is installed in a folder declares one of our entry points."""
    for name in os.listdir(place):
        if name.endswith((".dist-info", ".egg-info")):
            with suppress(OSError):
                text = (place / name / "entry_points.txt").read_bytes()
                if any(f"[{group}]".encode() in text for group in GROUPS):
                    return True
    return False
