"""The files that a run's own code reads from beside itself, for its record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from latentbench.core.errors import UserError
from latentbench.core.imports import module_file
from latentbench.core.loaded import read_by
from latentbench.core.loose import loose_root
from latentbench.core.opened import MOST, UNREADABLE, reads
from latentbench.core.paths import results_dir
from latentbench.core.plugins import PAPERS, paper_folders
from latentbench.planning.fingerprint import code_definitions
from latentbench.planning.plan import RunSpec


class FilesRead:
    """What a run reads from the folders of its paper, plug-ins and loose packages.

    Args:
        spec: the run.
    """

    def __init__(self, spec: RunSpec) -> None:
        try:
            self._modules = {module for module, _ in code_definitions(spec.roots())}
        except (LookupError, SyntaxError, UserError):  # the run fails for it, and says so
            self._modules = set()
        self._folders = sorted({f for m in self._modules if (f := _folder(m)) is not None})
        self._found: Mapping[str, str] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Notice what is read meanwhile."""
        with reads(self._folders) as found:
            self._found = found
            yield

    def named(self) -> dict[str, str]:
        """sha256 of each file by its path from the folder that holds the code's; empty of one that is gone."""
        found = {Path(path): digest for path, digest in ({**read_by(self._modules), **self._found}).items()}
        named = {
            _name(path, folder): digest
            for path, digest in sorted(found.items())
            for folder in self._folders
            if path.is_relative_to(folder) and not _is_known(path, folder)
        }
        return dict(list(named.items())[:MOST])

    def faults(self) -> list[str]:
        """What cannot be said of them, in one line each."""
        named = self.named()
        unread = [name for name, digest in named.items() if digest == UNREADABLE]
        said = [f"read from beside the code, and gone or no regular file: {', '.join(unread)}"] if unread else []
        many = f"more than {MOST} files were read from beside the code; the first are named"
        return said + ([many] if len(named) == MOST else [])


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder.parent).as_posix()


def _is_known(path: Path, folder: Path) -> bool:
    """Whether a file is one of ours that hashes cover: a suite, a dataset's entry, a result."""
    below = path.relative_to(folder).parts
    return (
        below == ("suite.yaml",)
        or (below[0] == "data" and path.suffix == ".yaml")
        or path.is_relative_to(results_dir().absolute())
    )


def _folder(module: str) -> Path | None:
    """The folder of the paper, plug-in or loose package that a module is of; None of our own."""
    if module.startswith(f"{PAPERS}."):
        folder = paper_folders().get(module.split(".")[2])
        return None if folder is None else folder.absolute()
    if module.partition(".")[0] == "latentbench":
        return None
    root = loose_root(module)
    if root is not None:
        return root.parent if root.suffix == ".py" else root
    file = module_file(module.partition(".")[0])  # of an installed plug-in; a lone module stands among those of others
    return file.parent.absolute() if file is not None and file.name == "__init__.py" else None
