"""Where things are: what comes with latentbench, and where a user's own things, data and results go.

Suites with the catalogue of papers, the dataset registry and the reference records are *shipped*: they lie in the
checkout that the package runs from, or in the package itself, where a wheel was installed. A *project* is the folder
that a user works in: its ``data/`` and ``results/`` take what is prepared and run, and suites, registry entries and
reference records of its own stand before the shipped ones of the same name. A project with a catalogue of its own
(``suites/papers.yaml``), such as a checkout, is whole: nothing is looked for elsewhere.
"""

from __future__ import annotations

import codecs
import os
import re
from functools import lru_cache
from pathlib import Path

from latentbench.core.errors import UserError

CATALOGUE = Path("suites", "papers.yaml")
_PACKAGE = Path(__file__).resolve().parents[1]


def checkout() -> Path | None:
    """The checkout that this package runs from; None where it was installed from a wheel."""
    folder = _PACKAGE.parents[1]
    return folder if (folder / CATALOGUE).is_file() else None


def shipped_root() -> Path:
    """The folder of the ``suites/``, ``data/registry/`` and ``results/reference/`` that come with the package."""
    return checkout() or _PACKAGE / "_shipped"


def project_root() -> Path:
    """The folder that a user works in.

    ``LATENTBENCH_ROOT`` if set, else the nearest of the working directory and its parents with a catalogue or a paper's
    suite (``suites/*/suite.yaml``), else the checkout that this package runs from, else the working directory.

    Raises:
        UserError: ``LATENTBENCH_ROOT`` names no folder.
    """
    named = os.environ.get("LATENTBENCH_ROOT")
    if named:
        root = Path(named).expanduser().resolve()
        if not root.is_dir():
            raise UserError(f"{root} is no folder", where="LATENTBENCH_ROOT", fix="name a project's folder or unset it")
        return root
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / CATALOGUE).is_file() or next(folder.glob("suites/*/suite.yaml"), None):
            return folder
    return checkout() or here


def roots() -> list[Path]:
    """Folders to look for suites, registry entries and reference records in; the first that has a thing counts."""
    root, shipped = project_root(), shipped_root()
    return [root] if root == shipped or (root / CATALOGUE).is_file() else [root, shipped]


def suites_dirs() -> list[Path]:
    """Folders of suites, the project's own first."""
    return [root / "suites" for root in roots()]


def catalogue_file() -> Path:
    """The catalogue of papers."""
    return roots()[-1] / CATALOGUE


def data_dir() -> Path:
    """Cached files, prepared data and registry entries of the user's own; ``LATENTBENCH_DATA`` moves it."""
    named = os.environ.get("LATENTBENCH_DATA")
    return Path(named).expanduser().resolve() if named else project_root() / "data"


def registry_dirs() -> list[Path]:
    """Folders of registry entries, the user's own first."""
    return list(dict.fromkeys(folder / "registry" for folder in (data_dir(), *(root / "data" for root in roots()))))


def results_dir() -> Path:
    """Run records and tables; ``LATENTBENCH_RESULTS`` moves it."""
    named = os.environ.get("LATENTBENCH_RESULTS")
    return Path(named).expanduser().resolve() if named else project_root() / "results"


def reference_dirs(results: Path | None = None) -> list[Path]:
    """Folders of reference records: of `results`, and the shipped ones, unless those are results from elsewhere."""
    mine = results_dir()
    folders = [mine, *(root / "results" for root in roots())] if results in (None, mine) else [Path(results)]
    return list(dict.fromkeys(folder / "reference" for folder in folders))


def cache_dir(results: Path | None = None) -> Path:
    """What was found out about files and can be found out again.

    It lies with the results; where a folder holds no project, looking at what there is leaves nothing in it, and the
    user's own cache is taken.
    """
    folder = results or results_dir()
    if folder.is_dir() or (project_root() / "suites").is_dir():
        return folder / "cache"
    return user_cache_dir()


def user_cache_dir() -> Path:
    """Where the user's programs keep what can be found out again, whatever project they are in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "latentbench"


def shown(path: Path) -> str:
    """A path as a message shows it: relative to the working directory where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def is_companion(name: str) -> bool:
    """Whether a file or folder of that name was put beside what people keep: by a Mac (``._x``, ``.DS_Store``,
    ``__MACOSX``), by Windows, or hidden."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def without_mark(text: bytes) -> bytes:
    """UTF-8 text without the mark that editors on Windows put at its start."""
    return text.removeprefix(codecs.BOM_UTF8)


def stays_inside(path: Path, folder: Path) -> Path:
    """`path`, provided that no link on the way to it leads out of `folder`.

    Raises:
        UserError: one does.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            "a link leads out of the folder",
            where=shown(path.parent),
            fix=f"remove it; to keep all of it elsewhere, name that place in place of {folder.name}/",
        )
    return path


_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


@lru_cache(maxsize=4096)
def safe_name(text: str) -> str:
    """`text` as one path component that cannot climb out of its folder."""
    name = _UNSAFE.sub("_", text).strip(".") or "_"
    return name[:120].rstrip(".")
