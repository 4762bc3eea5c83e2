"""Makes folders of code importable below `latentbench.papers`: see `latentbench.core.plugins`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType

from latentbench.core import plugins


class PaperFinder(MetaPathFinder):
    """Finds the package of a folder; what lies in it, Python's own finder does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        folder = plugins.paper_folders().get(name) if package == plugins.PAPERS else None
        if folder is None:
            return None
        plugins.check_trusted(folder)
        inner = folder / "__init__.py"
        if inner.is_file():
            return spec_from_file_location(fullname, inner, submodule_search_locations=[str(folder)])
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        return spec


def install() -> None:
    """Look there first."""
    sys.meta_path.insert(0, PaperFinder())
