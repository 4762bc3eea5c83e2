"""Which bytes the modules of this process were made from: a source that is edited later says nothing of them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

PACKAGE = "latentbench."
#: sha256 of the source that a module was made from, by module; empty where it changed while it was read.
_made_from: dict[str, tuple[str, str]] = {}


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType | None:
        before = digest_of(self.path)
        code = super().get_code(fullname)
        _made_from[fullname] = self.path, before if digest_of(self.path) == before else ""
        return code


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(PACKAGE):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def made_from() -> dict[str, tuple[str, str]]:
    """Path and sha256 of the source that each module was made from, by module."""
    return dict(_made_from)


def digest_of(path: str) -> str:
    """sha256 of a file's bytes; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


sys.meta_path.insert(0, _Finder())  # from here on: our modules, those of papers and of plug-in folders
