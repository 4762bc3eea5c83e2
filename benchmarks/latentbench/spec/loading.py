"""Suite files read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from latentbench.core.yamlfile import YamlFile, read_yaml
from latentbench.core.yamlschema import parse
from latentbench.spec.expansion import expand
from latentbench.spec.files import find_suite, suite_files, suite_id
from latentbench.spec.suite import Suite

__all__ = ["LoadedSuite", "find_suite", "load_suite", "suite_files", "suite_id"]


@dataclass(frozen=True)
class LoadedSuite:
    """A suite and the file that it came from."""

    suite: Suite
    file: YamlFile

    @property
    def path(self) -> Path:
        return self.file.path


def load_suite(name_or_path: str | Path) -> LoadedSuite:
    """Read and check a suite's form; `latentbench.spec.validation` checks what it says.

    Raises:
        UserError: with file and line, for anything that is not a suite.
    """
    path = name_or_path if isinstance(name_or_path, Path) else find_suite(name_or_path)
    file = read_yaml(path)
    if not isinstance(file.data, Mapping):
        raise file.error("a suite is a mapping", fix="start with `id:`, `version:` and `paper:`")
    suite = parse(file, Suite, data=expand(file))
    if suite.id != (name := suite_id(path)):
        which = "folder" if path.stem != name else "file"
        raise file.error(f"id {suite.id!r} is not the {which}'s name {name!r}", ("id",), "make the two the same")
    return LoadedSuite(suite, file)
