"""`matrix`: one entry written out for every combination of some values.

``"{k}"`` standing alone becomes the value itself, with its type; inside a longer text it becomes the value's text.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from latentbench.core.yamlfile import Path_, YamlFile

_HOLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
MAX_ENTRIES = 2000
#: Characters and values that all entries of one matrix may come to; the largest here come to some thousands.
MAX_WRITTEN = 5_000_000


def expand_mapping(file: YamlFile, data: Any, at: Path_) -> Any:
    """Write out the entries of a mapping whose keys may hold ``{name}``."""
    if not isinstance(data, dict):
        return data
    out: dict[str, Any] = {}
    places = _places(file, at)
    for key, entry in data.items():
        for values, body in _combinations(file, entry, (*at, key), len(key)):
            name = str(fill(key, values))
            if name in out:
                raise file.error(f"{name!r} is written out twice", (*at, key), "name every matrix value in the key")
            out[name] = body
            file.lines.update({(*at, name, *rest): line for rest, line in places.get(key, ())})
    return out


def expand_list(file: YamlFile, data: Any, at: Path_) -> Any:
    """Write out the entries of a list."""
    if not isinstance(data, list):
        return data
    out: list[tuple[int, Any]] = []
    for i, entry in enumerate(data):
        out += [(i, body) for _, body in _combinations(file, entry, (*at, i))]
    places = _places(file, at)
    for new, (old, _) in enumerate(out):
        file.lines.update({(*at, new, *rest): line for rest, line in places.get(old, ())})
    return [body for _, body in out]


def _places(file: YamlFile, at: Path_) -> dict[str | int, list[tuple[Path_, int]]]:
    """For each entry of what stands at `at`: the paths within it, and their lines."""
    found: dict[str | int, list[tuple[Path_, int]]] = {}
    for path, line in file.lines.items():
        if len(path) > len(at) and path[: len(at)] == at:
            found.setdefault(path[len(at)], []).append((path[len(at) + 1 :], line))
    return found


def _combinations(file: YamlFile, entry: Any, at: Path_, name: int = 0) -> list[tuple[dict[str, Any], Any]]:
    if not isinstance(entry, dict) or "matrix" not in entry:
        return [({}, entry)]
    matrix = entry["matrix"]
    if not isinstance(matrix, dict) or not matrix or not all(isinstance(v, list) and v for v in matrix.values()):
        raise file.error("matrix must map names to lists of values", (*at, "matrix"), "e.g. matrix: {k: [1, 5, 50]}")
    body = {k: v for k, v in entry.items() if k != "matrix"}
    combos = list(itertools.islice(itertools.product(*matrix.values()), MAX_ENTRIES + 1))
    if len(combos) > MAX_ENTRIES:
        raise file.error(f"matrix writes out more than {MAX_ENTRIES} entries", (*at, "matrix"), "split it")
    largest = {k: max(_size(v, {}) for v in values) for k, values in matrix.items()}
    if len(combos) * (name * (1 + sum(largest.values())) + _size(body, largest)) > MAX_WRITTEN:
        raise file.error("matrix writes out more than a suite may hold", (*at, "matrix"), "shorten it")
    return [(values := dict(zip(matrix, combo, strict=True)), fill(body, values)) for combo in combos]


def _size(data: Any, holes: dict[str, int]) -> int:
    """Characters and values of `data` once its holes are filled by values of these sizes."""
    if isinstance(data, dict):
        return 1 + sum(_size(k, holes) + _size(v, holes) for k, v in data.items())
    if isinstance(data, list):
        return 1 + sum(_size(v, holes) for v in data)
    if not isinstance(data, str):
        return 20
    return 1 + len(data) + sum(holes.get(m[1], 0) for m in _HOLE.finditer(data))


def fill(data: Any, values: dict[str, Any]) -> Any:
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
