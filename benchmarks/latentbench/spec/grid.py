"""`grid`: one entry written out for every combination of some values.

An axis is a list of values, or a mapping of names to what each says of the entry. ``{axis}`` is the value or the name:
standing alone it becomes the value itself, with its type; inside a longer text, the value's text. What a named value
says is laid over the entry, save what some text asks for as ``{axis.key}``, which goes there instead.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from latentbench.core.yamlfile import Path_, YamlFile
from latentbench.spec.layers import merge

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_HOLE = re.compile(rf"\{{({_NAME}(?:\.{_NAME})?)\}}")
MAX_ENTRIES = 2000
#: Characters and values that a file may come to, written out; the largest here come to some thousands.
MAX_WRITTEN = 5_000_000
#: What a number counts for.
_PLAIN = 20


@dataclass(frozen=True)
class Part:
    """Some of a file's data, and the lines of what it holds, by their paths within it."""

    data: Any
    lines: Mapping[Path_, int] = field(default_factory=dict, repr=False)

    def parts(self, *at: str | int) -> dict[str | int, Part]:
        """What stands at `at` within it, a mapping or a list, part by part."""
        data: Any = self.data
        for step in at:
            data = data[step]
        lines: dict[str | int, dict[Path_, int]] = {}
        n = len(at)
        for path, line in self.lines.items():
            if len(path) > n and path[:n] == at:
                lines.setdefault(path[n], {})[path[n + 1 :]] = line
        items: Iterable[tuple[str | int, Any]] = data.items() if isinstance(data, dict) else enumerate(data)
        return {key: Part(value, lines.get(key, {})) for key, value in items}

    def without(self, *keys: str) -> Part:
        """A mapping less some of its keys."""
        data = {key: value for key, value in self.data.items() if key not in keys}
        return Part(data, {path: line for path, line in self.lines.items() if path[:1] not in [(key,) for key in keys]})


@dataclass(frozen=True)
class Value:
    """One value of an axis, what it says of an entry, and where it stands in the file."""

    value: Any
    says: Part = Part({})
    at: Path_ = ()


class Writer:
    """Writes out the entries of one file, as many and as long as a suite may hold."""

    def __init__(self, file: YamlFile) -> None:
        self.file = file
        self._left = MAX_WRITTEN

    def entries(self, part: Part, at: Path_, names: Sequence[str]) -> list[tuple[Part, list[str]]]:
        """An entry written out, and `names` with it.

        Args:
            part: the entry, with or without `grid`.
            at: its place in the file.
            names: what must tell its copies apart: its key or id, with every axis in it.
        """
        if not isinstance(part.data, dict):
            return [(part, list(names))]
        if "matrix" in part.data:
            raise self.file.error("`matrix` is called `grid`", (*at, "matrix"), "rename it")
        if "grid" not in part.data:
            return [(part, list(names))]
        axes = self._axes(part, at)
        for name in names:
            self._named(name, axes, at)
        self.bounded(math.prod(map(len, axes.values())), (*at, "grid"), "grid")
        combos = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
        return self.write(part.without("grid"), combos, at, "grid", names)

    def write(
        self, body: Part, combos: list[dict[str, Value]], at: Path_, what: str, names: Sequence[str] = ()
    ) -> list[tuple[Part, list[str]]]:
        """`body` once for each combination of axes' values, with what they say laid over it."""
        asked = _holes([body.data, *names])
        values = {id(v): v for combo in combos for v in combo.values()}
        asks = {i: _holes(v.says.data) for i, v in values.items()}
        largest: dict[str, int] = {}
        for axis, value in {(axis, id(v)): (axis, v) for combo in combos for axis, v in combo.items()}.values():
            for hole, filling in [(axis, value.value), *((f"{axis}.{k}", v) for k, v in value.says.data.items())]:
                largest[hole] = max(largest.get(hole, 0), _size(filling, {}))
        sizes = {i: _size(v.says.data, largest) for i, v in values.items()}
        each = _size(body.data, largest) + sum(_size(name, largest) for name in names)
        self.charge(len(combos) * each + sum(sizes[id(v)] for c in combos for v in c.values()), (*at, what), what)
        needed = [asked.union(*(asks[id(v)] for v in combo.values())) for combo in combos]
        asked = asked.union(*asks.values())
        return [self._written(body, c, at, asked, need, names) for c, need in zip(combos, needed, strict=True)]

    def bounded(self, entries: int, at: Path_, what: str) -> None:
        """Refuse more entries than one grid or table may come to."""
        if entries > MAX_ENTRIES:
            raise self.file.error(f"{what} writes out more than {MAX_ENTRIES} entries", at, "split it")

    def charge(self, size: int, at: Path_, what: str) -> None:
        """Count what is about to be written."""
        self._left -= size
        if self._left < 0:
            raise self.file.error(f"{what} writes out more than a suite may hold", at, "shorten it")

    def _written(
        self, body: Part, combo: dict[str, Value], at: Path_, asked: set[str], needed: set[str], names: Sequence[str]
    ) -> tuple[Part, list[str]]:
        data: dict[str, Any] = body.data
        lines = dict(body.lines)
        fillings: dict[str, Any] = {}
        for axis, value in combo.items():
            says = value.says.data
            fillings[axis] = value.value
            fillings |= {f"{axis}.{key}": said for key, said in says.items()}
            if lacks := sorted(hole for hole in needed if hole.startswith(f"{axis}.") and hole not in fillings):
                what = f"{str(value.value)!r} of {axis!r} has no {lacks[0].partition('.')[2]!r}"
                raise self.file.error(what, value.at or at, f"{{{lacks[0]}}} asks for it")
            data = merge(data, {key: said for key, said in says.items() if f"{axis}.{key}" not in asked})
            lines |= {path: line for path, line in value.says.lines.items() if path}
        return Part(fill(data, fillings), lines), [str(fill(name, fillings)) for name in names]

    def _axes(self, part: Part, at: Path_) -> dict[str, list[Value]]:
        grid = part.data["grid"]
        if not isinstance(grid, dict) or not grid:
            raise self.file.error("grid must map names to values", (*at, "grid"), _EXAMPLE)
        return {str(axis): self.axis(str(axis), one, (*at, "grid", axis)) for axis, one in part.parts("grid").items()}

    def axis(self, name: str, part: Part, at: Path_) -> list[Value]:
        """The values of an axis, which is a list of them or a mapping of names to what they say."""
        if not re.fullmatch(_NAME, name):
            raise self.file.error(f"{name!r} is no name that can stand in braces", at, "letters, digits and _")
        if isinstance(part.data, list) and part.data:
            return [Value(v, at=(*at, i)) for i, v in enumerate(part.data)]
        if not isinstance(part.data, dict) or not part.data:
            raise self.file.error(f"{name!r} must be a list of values, or map names to what they say", at, _EXAMPLE)
        out = []
        for key, says in part.parts().items():
            if not isinstance(says.data, dict | NoneType):
                raise self.file.error(f"what {key!r} of {name!r} says must be a mapping", (*at, key), _EXAMPLE)
            out.append(Value(key, Part(says.data or {}, says.lines), (*at, key)))
        return out

    def _named(self, name: str, axes: Mapping[str, Any], at: Path_) -> None:
        found = {hole.partition(".")[0] for hole in _holes([name])}
        for axis in axes:
            if axis not in found:
                raise self.file.error(f"{name!r} does not name {axis!r} of its grid", at, f"put {{{axis}}} in it")


_EXAMPLE = "e.g. grid: {k: [1, 5], prior: {flow: {params: {flow: true}}, plain: {}}}"


def unfilled(file: YamlFile, body: Any, names: Iterable[str], at: Path_) -> None:
    """Refuse what still waits for a value: ``{axis}`` in a name, and ``{axis.key}`` anywhere."""
    waiting = _holes(list(names)) | {hole for hole in _holes(body) if "." in hole}
    if waiting:
        axis = min(waiting).partition(".")[0]
        raise file.error(f"{{{min(waiting)}}} asks for {axis!r}, which no grid has", at, "mend the name")


def _holes(data: Any) -> set[str]:
    """Every name in braces, in keys and values at any depth."""
    if isinstance(data, dict):
        return set().union(*(_holes(k) | _holes(v) for k, v in data.items()))
    if isinstance(data, list):
        return set().union(*map(_holes, data))
    return set(_HOLE.findall(data)) if isinstance(data, str) else set()


def _size(data: Any, holes: Mapping[str, int]) -> int:
    """Characters and values of `data` once its holes are filled by values of these sizes."""
    if isinstance(data, dict):
        return 1 + sum(_size(k, holes) + _size(v, holes) for k, v in data.items())
    if isinstance(data, list):
        return 1 + sum(_size(v, holes) for v in data)
    if not isinstance(data, str):
        return _PLAIN + (len(str(data)) if isinstance(data, int) else 0)
    return 1 + len(data) + sum(holes.get(m[1], 0) for m in _HOLE.finditer(data))


def fill(data: Any, values: Mapping[str, Any]) -> Any:
    """`data` with every ``{name}`` of `values` replaced, in keys and values at any depth."""
    if not values:
        return data
    if isinstance(data, dict):
        return {str(fill(k, values)): fill(v, values) for k, v in data.items()}
    if isinstance(data, list):
        return [fill(v, values) for v in data]
    if not isinstance(data, str):
        return data
    whole = _HOLE.fullmatch(data)
    if whole and whole[1] in values:
        return values[whole[1]]
    return _HOLE.sub(lambda m: str(values[m[1]]) if m[1] in values else m[0], data)
