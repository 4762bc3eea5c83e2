"""Suite files found and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.core.errors import UserError, did_you_mean
from benchmarks.core.paths import shown, suites_dir
from benchmarks.core.yamlfile import YamlFile, parse, read_yaml
from benchmarks.spec.matrix import expand_list, expand_mapping
from benchmarks.spec.suite import Suite


@dataclass(frozen=True)
class LoadedSuite:
    """A suite and the file that it came from."""

    suite: Suite
    file: YamlFile

    @property
    def path(self) -> Path:
        return self.file.path


def suite_files() -> dict[str, Path]:
    """Every suite file by its id, sorted: ``suites/<id>.yaml`` and ``suites/<family>/<id>.yaml``."""
    root = suites_dir()
    files = [p for p in (*root.glob("*.yaml"), *root.glob("*/*.yaml")) if p.name != "papers.yaml"]
    return {p.stem: p for p in sorted(files, key=lambda p: p.stem)}


def find_suite(name: str) -> Path:
    """A suite's file by id, by ``family/id``, or by path.

    Raises:
        UserError: there is none.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    files = suite_files()
    key = name.rsplit("/", 1)[-1]
    if key in files and (("/" not in name) or files[key].parent.name == name.rsplit("/", 1)[0]):
        return files[key]
    raise UserError(f"unknown suite {name!r}", where=shown(suites_dir()), fix=did_you_mean(name, files))


def load_suite(name_or_path: str | Path) -> LoadedSuite:
    """Read and check a suite's form; `benchmarks.spec.validation` checks what it says.

    Raises:
        UserError: with file and line, for anything that is not a suite.
    """
    path = name_or_path if isinstance(name_or_path, Path) else find_suite(name_or_path)
    file = read_yaml(path)
    if not isinstance(file.data, Mapping):
        raise file.error("a suite is a mapping", fix="start with `id:`, `version:` and `paper:`")
    data: dict[str, Any] = dict(file.data)
    data["methods"] = expand_mapping(file, data.get("methods", {}), ("methods",))
    for key in ("claims", "reported"):
        if key in data:
            data[key] = expand_list(file, data[key], (key,))
    suite = parse(file, Suite, data=data)
    if suite.id != path.stem:
        raise file.error(f"id {suite.id!r} is not the file's name {path.stem!r}", ("id",), "make the two the same")
    return LoadedSuite(suite, file)
