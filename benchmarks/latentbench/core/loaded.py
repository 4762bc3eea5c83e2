"""Which bytes the modules of this process were made from: a source that is edited later says nothing of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from latentbench.core.loose import loose_root
from latentbench.core.opened import UNREADABLE, reads, sha256_of

PACKAGE, PAPERS = "latentbench.", "latentbench.papers."
#: sha256 of the source that a module was made from, by module; empty where it changed while it was read.
_made_from: dict[str, tuple[str, str]] = {}
#: Other files that a module read when it was imported, with their sha256, by module.
_read: dict[str, dict[str, str]] = {}


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        before = sha256_of(self.path)
        code = super().get_code(fullname)
        _made_from[fullname] = self.path, before if sha256_of(self.path) == before else UNREADABLE
        return code

    def exec_module(self, module: ModuleType) -> None:
        if self.name.startswith(PACKAGE) and not self.name.startswith(PAPERS):
            super().exec_module(module)
            return
        with reads([_folder(self.name, self.path)]) as found:
            super().exec_module(module)
        _read[self.name] = found


class _Finder:  # not derived from importlib.abc's, which takes longer to import than all else here
    def __init__(self, watches: Callable[[str], bool]) -> None:
        self._watches = watches

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self._watches(fullname):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def made_from() -> dict[str, tuple[str, str]]:
    """Path and sha256 of the source that each module was made from, by module."""
    return dict(_made_from)


def read_by(modules: Iterable[str]) -> dict[str, str]:
    """Path and sha256 of the files beside their code that modules read when they were imported."""
    return {path: digest for m in modules for path, digest in _read.get(m, {}).items()}


def _folder(module: str, file: str) -> Path:
    """The folder of a paper, of a plug-in or of a loose package that a module is in."""
    path = Path(file)
    depth = module.count(".") + (path.name == "__init__.py") - (2 if module.startswith(PAPERS) else 0)
    return path.parents[max(depth - 1, 0)]


#: From here on: our modules, those of papers and of plug-in folders; after whoever else imports in a way of his own,
#: those of loose packages.
sys.meta_path.insert(0, _Finder(lambda name: name.startswith(PACKAGE)))
_usual = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
sys.meta_path.insert(_usual, _Finder(lambda name: loose_root(name) is not None))
