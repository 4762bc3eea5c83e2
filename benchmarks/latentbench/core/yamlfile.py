"""YAML files read as plain data, with the line of every key kept for error messages.

No tags, no aliases, no duplicate keys: a suite from a stranger can only be data, and of the size it looks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from latentbench.core.bounds import DEPTH, YAML_BYTES, YAML_NODES, read_at_most
from latentbench.core.errors import UserError
from latentbench.core.paths import shown, without_mark

try:
    from yaml import CSafeLoader as _Safe
except ImportError:  # PyYAML without libyaml: the same result, slower
    from yaml import SafeLoader as _Safe  # type: ignore[assignment]

Path_ = tuple[str | int, ...]

MAX_BYTES = YAML_BYTES
MAX_DEPTH = DEPTH
#: Levels that libyaml builds within its stack: a tenth of what ends it.
SAFE_DEPTH = 2000
_INDENT = re.compile(rf"^[ ?:-]{{{SAFE_DEPTH}}}", re.MULTILINE)
#: Numbers lie below it: NaN and infinities have no place in JSON, and longer integers none in its readers.
LARGEST = 1e308
#: Digits of a number: `1:00:00:…` takes time in the square of its length.
LONGEST_NUMBER = 400


_TAG = "tag:yaml.org,2002:"


class Loader(_Safe):
    """Plain words and numbers as YAML 1.2's core schema reads them, where 1.1, which PyYAML follows, surprises.

    `no`, `on`, `yes` and `off` are words, `1:30` is text and no 90, `1e-3` and `1e5` are numbers, the latter a whole
    one. `010`, which is 8 in the one and 10 in the other, is refused. `1_000` stays a thousand.
    """

    yaml_implicit_resolvers: dict[str, list[Any]] = {}


def _leading_zero(loader: Any, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    if _LEADING_ZERO.fullmatch(text):
        raise ConstructorError(None, None, f"{text[:40]!r} may be octal or decimal", node.start_mark)
    found: int = loader.construct_yaml_int(node)
    return found


def _without_zeros(text: str) -> str:
    return text[:40].lstrip("+-0_") or "0"


def _number(loader: Any, node: yaml.ScalarNode) -> int | float:
    text = str(node.value)
    if _POWER_OF_TEN.fullmatch(text):
        value = float(text)
        return int(value) if value.is_integer() else value
    found: float = loader.construct_yaml_float(node)
    return found


_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_POWER_OF_TEN = re.compile(r"[-+]?\d+[eE][-+]?\d+")
_WORDS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)", "-+0123456789"),
    "float": (
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "merge": (r"<<", "<"),
    "value": (r"=", "="),
}
for _name, (_pattern, _first) in _WORDS.items():
    Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), list(_first))
Loader.add_constructor(_TAG + "int", _leading_zero)
Loader.add_constructor(_TAG + "float", _number)


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
        content = read_at_most(path, MAX_BYTES)
        if content is None:
            raise UserError(f"larger than {MAX_BYTES} bytes", where=shown(path), fix="a suite is a short file")
        text = without_mark(content).decode("utf-8")
    except FileNotFoundError:
        raise UserError("no such file", where=shown(path), fix="`latentbench list suites` shows the suites") from None
    except (OSError, UnicodeDecodeError) as e:
        why = getattr(e, "strerror", None) or e
        raise UserError(f"cannot be read: {why}", where=shown(path), fix="it must be a file of UTF-8 text") from None
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> YamlFile:
    """Parse what stands in the file `path`.

    Raises:
        UserError: it is not YAML, or uses tags, aliases or duplicate keys.
    """
    out = YamlFile(path, None)
    try:
        _look_over(text, path)
        loader = Loader(text)
        try:
            node = loader.get_single_node()
            out.data = _build(loader, node, (), out) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line = mark.line + 1 if mark else None
        raise UserError(f"not YAML: {e.problem}", where=shown(path), line=line, fix="mend the syntax there") from None
    except yaml.YAMLError as e:
        raise UserError(f"not YAML: {e}", where=shown(path), fix="the file must be plain UTF-8 YAML") from None
    return out


def _look_over(text: str, path: Path) -> None:
    """Refuse aliases and deep nesting, event by event: libyaml would build the latter until the stack ends."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=Loader)):
        line = event.start_mark.line + 1 if event.start_mark else None
        if count > YAML_NODES:
            raise UserError(f"more than {YAML_NODES} keys and values", where=shown(path), fix="a suite is a short file")
        if isinstance(event, yaml.AliasEvent):
            raise UserError(
                "YAML aliases are not used here", where=shown(path), line=line, fix="write it out, or use `matrix`"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise UserError("nested too deeply", where=shown(path), line=line, fix="a suite is a few levels deep")


def read_plain(path: Path) -> Any:
    """The data of a long file of our own, without line numbers: several times as fast as `read_yaml`.

    Raises:
        UserError: as `read_yaml`, which is asked for the place when something is wrong.
    """
    try:
        text = without_mark(read_at_most(path, MAX_BYTES) or b"").decode("utf-8")
        if text and not _may_nest(text):
            return yaml.load(text, Loader=Loader)  # plain values only: a safe loader
    except (OSError, ValueError, LookupError, yaml.YAMLError):
        pass
    return read_yaml(path).data


def _may_nest(text: str) -> bool:
    """Whether `text` could nest so deeply that libyaml, which recurses without a limit, ends the process."""
    return text.count("[") + text.count("{") > SAFE_DEPTH or _INDENT.search(text) is not None


def _build(loader: Any, node: yaml.Node, path: Path_, out: YamlFile) -> Any:
    out.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            _admitted(key_node, out)
            key = str(key_node.value)  # as it is written: `true`, `010` and `1e3` are names there
            if key in mapping:
                raise _refusal(out, key_node, f"key {key!r} stands twice", "keep one of the two")
            out.lines[(*path, key)] = key_node.start_mark.line + 1
            mapping[key] = _build(loader, value_node, (*path, key), out)
        return mapping
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_build(loader, item, (*path, i), out) for i, item in enumerate(node.value)]
    return _scalar(loader, node, out)


_PLAIN = {_TAG + t for t in ("str", "int", "float", "bool", "null")}


def _admitted(node: yaml.Node, out: YamlFile) -> None:
    """Refuse what is no scalar, or one with a tag of its own."""
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _PLAIN | {_TAG + "timestamp"}:
        raise _refusal(
            out,
            node,
            f"YAML tag or key {node.tag} is not allowed",
            "only plain text, numbers, true, false, null, lists and mappings",
        )


def _scalar(loader: Any, node: yaml.Node, out: YamlFile) -> Any:
    _admitted(node, out)
    text: str = node.value
    if node.tag == _TAG + "timestamp":  # a date is text to us
        return text
    if node.tag != _TAG + "str" and len(text) > LONGEST_NUMBER:
        raise _refusal(out, node, f"{text[:40]!r} is not a value", "quote it if it is text")
    try:
        value = text if node.tag == _TAG + "str" else loader.construct_object(node, deep=True)
    except ConstructorError as e:
        raise _refusal(out, node, str(e.problem), f"write {_without_zeros(text)}, or quote it if it is text") from None
    except (ValueError, LookupError):  # what PyYAML raises for `!!int x` and `!!bool x`
        raise _refusal(out, node, f"{text[:40]!r} is not a value", "quote it if it is text") from None
    if isinstance(value, int | float) and not abs(value) < LARGEST:
        raise _refusal(out, node, f"{text[:40]!r} is no number that can be used", "write a finite one, or quote text")
    return value


def _refusal(out: YamlFile, node: yaml.Node, what: str, fix: str) -> UserError:
    return UserError(what, where=shown(out.path), line=node.start_mark.line + 1, fix=fix)
