"""Where a project's folders are."""

from __future__ import annotations

import os
import re
from pathlib import Path

from latentbench.core.errors import UserError


def project_root() -> Path:
    """The folder that holds ``suites/``.

    ``LATENTBENCH_ROOT`` if set, else the nearest parent of the working directory with ``suites/papers.yaml``,
    else the checkout that this package was installed from.

    Raises:
        UserError: none of these holds a ``suites/`` folder.
    """
    named = os.environ.get("LATENTBENCH_ROOT")
    if named:
        root = Path(named).expanduser().resolve()
        if not (root / "suites").is_dir():
            raise UserError(
                f"{root} has no folder suites/", where="LATENTBENCH_ROOT", fix="name a latentbench checkout"
            )
        return root
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "suites" / "papers.yaml").is_file():
            return folder
    checkout = Path(__file__).resolve().parents[3]
    if (checkout / "suites").is_dir():
        return checkout
    raise UserError(
        "no folder suites/ here or above",
        where=here,
        fix="run inside a latentbench checkout or set LATENTBENCH_ROOT to one",
    )


def suites_dir() -> Path:
    return project_root() / "suites"


def data_dir() -> Path:
    """Registry entries, cached files and prepared data; ``LATENTBENCH_DATA`` moves it."""
    named = os.environ.get("LATENTBENCH_DATA")
    return Path(named).expanduser().resolve() if named else project_root() / "data"


def results_dir() -> Path:
    """Run records and tables; ``LATENTBENCH_RESULTS`` moves it."""
    named = os.environ.get("LATENTBENCH_RESULTS")
    return Path(named).expanduser().resolve() if named else project_root() / "results"


def shown(path: Path) -> str:
    """A path as a message shows it: relative to the working directory where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def read_at_most(path: Path, most: int) -> bytes | None:
    """The bytes of a file, or None where they are more than `most`; a pipe or a device keeps nobody waiting.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=lambda p, flags: os.open(p, flags | getattr(os, "O_NONBLOCK", 0))) as f:
        content: bytes | None = f.read(most + 1)
    content = content or b""  # of a pipe that nobody writes to
    return content if len(content) <= most else None


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


def safe_name(text: str) -> str:
    """`text` as one path component that cannot climb out of its folder."""
    name = _UNSAFE.sub("_", text).strip(".") or "_"
    return name[:120].rstrip(".")
