"""`matrix`: one entry written out for every combination of some values.

``"{k}"`` standing alone becomes the value itself, with its type; inside a longer text it becomes the value's text.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from benchmarks.core.yamlfile import Path_, YamlFile

_HOLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
MAX_ENTRIES = 2000


def expand_mapping(file: YamlFile, data: Any, at: Path_) -> Any:
    """Write out the entries of a mapping whose keys may hold ``{name}``."""
    if not isinstance(data, dict):
        return data
    out: dict[str, Any] = {}
    for key, entry in data.items():
        for values, body in _combinations(file, entry, (*at, key)):
            name = str(fill(key, values))
            if name in out:
                raise file.error(f"{name!r} is written out twice", (*at, key), "name every matrix value in the key")
            out[name] = body
            _same_place(file, (*at, key), (*at, name))
    return out


def expand_list(file: YamlFile, data: Any, at: Path_) -> Any:
    """Write out the entries of a list."""
    if not isinstance(data, list):
        return data
    out: list[tuple[Path_, Any]] = []
    for i, entry in enumerate(data):
        out += [((*at, i), body) for _, body in _combinations(file, entry, (*at, i))]
    places = dict(file.lines)
    for new, (old, _) in enumerate(out):
        _same_place(file, old, (*at, new), places)
    return [body for _, body in out]


def _same_place(file: YamlFile, old: Path_, new: Path_, places: dict[Path_, int] | None = None) -> None:
    places = dict(file.lines) if places is None else places
    for path, line in places.items():
        if path[: len(old)] == old:
            file.lines[(*new, *path[len(old) :])] = line


def _combinations(file: YamlFile, entry: Any, at: Path_) -> list[tuple[dict[str, Any], Any]]:
    if not isinstance(entry, dict) or "matrix" not in entry:
        return [({}, entry)]
    matrix = entry["matrix"]
    if not isinstance(matrix, dict) or not matrix or not all(isinstance(v, list) and v for v in matrix.values()):
        raise file.error("matrix must map names to lists of values", (*at, "matrix"), "e.g. matrix: {k: [1, 5, 50]}")
    body = {k: v for k, v in entry.items() if k != "matrix"}
    combos = list(itertools.islice(itertools.product(*matrix.values()), MAX_ENTRIES + 1))
    if len(combos) > MAX_ENTRIES:
        raise file.error(f"matrix writes out more than {MAX_ENTRIES} entries", (*at, "matrix"), "split it")
    return [(values := dict(zip(matrix, combo, strict=True)), fill(body, values)) for combo in combos]


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
