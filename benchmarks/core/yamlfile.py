"""YAML files read as plain data, with the line of every key kept for error messages.

No tags, no aliases, no duplicate keys: a suite from a stranger can only be data, and of the size it looks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from benchmarks.core.errors import UserError, did_you_mean
from benchmarks.core.paths import shown

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # PyYAML without libyaml: the same result, slower
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

Path_ = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

MAX_BYTES = 4_000_000


@dataclass
class YamlFile:
    """Parsed data and where each part of it stands."""

    path: Path
    data: Any
    lines: dict[Path_, int] = field(default_factory=dict, repr=False)

    def line(self, path: Path_) -> int | None:
        """Line (from 1) of the value at `path`, or of its nearest parent that stands in the file."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return None

    def error(self, what: str, path: Path_ = (), fix: str | None = None) -> UserError:
        return UserError(what, where=shown(self.path), line=self.line(path), fix=fix)


def read_yaml(path: Path) -> YamlFile:
    """Parse `path`.

    Raises:
        UserError: the file is missing, too large, not YAML, or uses tags, aliases or duplicate keys.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"larger than {MAX_BYTES} bytes", where=shown(path), fix="a suite is a short file")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("no such file", where=shown(path), fix="`latentbench list suites` shows the suites") from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"cannot be read: {e}", where=shown(path), fix="the file must be readable UTF-8 text") from None
    out = YamlFile(path, None)
    try:
        loader = Loader(text)
        try:
            node = loader.get_single_node()
            out.data = _build(loader, node, (), out, set()) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line = mark.line + 1 if mark else None
        raise UserError(f"not YAML: {e.problem}", where=shown(path), line=line, fix="mend the syntax there") from None
    except yaml.YAMLError as e:
        raise UserError(f"not YAML: {e}", where=shown(path), fix="the file must be plain UTF-8 YAML") from None
    except RecursionError:
        raise UserError("nested too deeply", where=shown(path), fix="a suite is a few levels deep") from None
    return out


def read_plain(path: Path) -> Any:
    """The data of a long file of our own, without line numbers: several times as fast as `read_yaml`.

    Raises:
        UserError: as `read_yaml`, which is asked for the place when something is wrong.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)  # plain values only: a safe loader
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return read_yaml(path).data


def _build(loader: Any, node: yaml.Node, path: Path_, out: YamlFile, seen: set[int]) -> Any:
    line = node.start_mark.line + 1
    out.lines.setdefault(path, line)
    if id(node) in seen:
        raise UserError(
            "YAML aliases are not used here", where=shown(out.path), line=line, fix="write it out, or use `matrix`"
        )
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _scalar(loader, key_node, out)
            key = key if isinstance(key, str) else str(key)
            if key in mapping:
                raise UserError(
                    f"key {key!r} stands twice",
                    where=shown(out.path),
                    line=key_node.start_mark.line + 1,
                    fix="keep one of the two",
                )
            out.lines[(*path, key)] = key_node.start_mark.line + 1
            mapping[key] = _build(loader, value_node, (*path, key), out, seen)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, item, (*path, i), out, seen) for i, item in enumerate(node.value)]
    return _scalar(loader, node, out)


_PLAIN = {"tag:yaml.org,2002:" + t for t in ("str", "int", "float", "bool", "null")}


def _scalar(loader: Any, node: yaml.Node, out: YamlFile) -> Any:
    if node.tag == "tag:yaml.org,2002:timestamp":  # a date is text to us
        return node.value
    if node.tag not in _PLAIN or not isinstance(node, yaml.ScalarNode):
        raise UserError(
            f"YAML tag or key {node.tag} is not allowed",
            where=shown(out.path),
            line=node.start_mark.line + 1,
            fix="only plain text, numbers, true, false, null, lists and mappings",
        )
    if node.tag == "tag:yaml.org,2002:str":
        # YAML 1.1 reads 1e-3 as text; every reader of a suite means the number
        try:
            return float(node.value) if node.style is None and "e" in node.value.lower() else node.value
        except ValueError:
            return node.value
    try:
        return loader.construct_object(node, deep=True)
    except ValueError:
        raise UserError(
            f"{node.value!r} is not a value",
            where=shown(out.path),
            line=node.start_mark.line + 1,
            fix="quote it if it is text",
        ) from None


def parse(file: YamlFile, model: type[M], at: Path_ = (), data: Any = None) -> M:
    """Validate `file.data` (or `data`, which stands at path `at`) against a pydantic model.

    Raises:
        UserError: the first fault, with file, line and the nearest known key for an unknown one.
    """
    try:
        return model.model_validate(file.data if data is None else data)
    except ValidationError as e:
        faults = e.errors(include_url=False)
        # an unknown key is usually the cause of the other faults in the same place
        fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
        raise _explain(file, model, at, fault) from None


def _explain(file: YamlFile, model: type[BaseModel], at: Path_, fault: Any) -> UserError:
    loc = tuple(p for p in fault["loc"])
    place = ".".join(str(p) for p in (*at, *loc)) or "the file"
    if fault["type"] == "extra_forbidden":
        known = _keys_at(model, loc[:-1])
        return file.error(f"unknown key {place!r}", (*at, *loc), did_you_mean(str(loc[-1]), known) if known else None)
    if fault["type"] == "missing":
        return file.error(f"{place!r} is missing", (*at, *loc), "add it")
    message = fault["msg"].removeprefix("Value error, ")
    given = fault.get("input")
    shown_value = "" if isinstance(given, dict | list) or given is None else f", not {given!r}"
    fix = (fault.get("ctx") or {}).get("fix")
    return file.error(f"{place}: {message[0].lower() + message[1:]}{shown_value}", (*at, *loc), fix)


def _keys_at(model: type[BaseModel], loc: Path_) -> list[str]:
    """Keys that `model` admits at `loc`, found by walking its annotations."""
    import typing

    kinds: list[Any] = [model]
    for part in loc:
        step: list[Any] = []
        for kind in kinds:
            origin, args = typing.get_origin(kind), typing.get_args(kind)
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                for name, info in kind.model_fields.items():
                    if part in (name, info.alias):
                        step.append(info.annotation)
            elif origin in (list, tuple, dict):
                step.append(args[-1])
        kinds = [k for s in step for k in _flatten(s)]
    keys: list[str] = []
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += [info.alias or name for name, info in kind.model_fields.items()]
    return keys


def _flatten(kind: Any) -> list[Any]:
    """The members of a union or annotated type, each on its own."""
    import types
    import typing

    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        members = typing.get_args(kind)[:1] if origin is typing.Annotated else typing.get_args(kind)
        return [k for a in members for k in _flatten(a)]
    return [kind]
