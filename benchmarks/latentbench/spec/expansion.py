"""The short forms of a suite file written out: grids, groups of claims, tables of numbers, the protocol by item.

Each thing that is written out keeps the lines of what it came from, so that what is wrong with it is found in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from latentbench.core.yamlfile import Path_, YamlFile
from latentbench.spec.grid import Part, Value, Writer, unfilled
from latentbench.spec.layers import merge

#: Tables whose keys may be templates.
NAMED = ("datasets", "methods", "metrics")
#: What stands once over all cells of a pooled claim.
HEADING = ("id", "text", "where", "tiers", "sanity", "pool")
STATUSES = ("stated", "inferred", "unknown")
#: A number with its standard deviation, as papers print it.
_SPREAD = re.compile(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(?:±|\+-|\+/-)\s*([\d.]+(?:[eE][-+]?\d+)?)\s*")


def expand(file: YamlFile) -> dict[str, Any]:
    """The whole of a suite file's data, written out; `file.lines` learns where everything stands."""
    data = dict(file.data)
    writer = Writer(file)
    whole = Part(data, dict(file.lines))
    for table in NAMED:
        if isinstance(data.get(table), dict):
            data[table] = _mapping(writer, whole, table)
    if isinstance(data.get("claims"), list):
        claims = [c for i, p in whole.parts("claims").items() for c in _claims(writer, p, ("claims", i))]
        data["claims"] = _listed(file, "claims", claims)
    if isinstance(data.get("reported"), list):
        numbers = [n for i, p in whole.parts("reported").items() for n in _numbers(writer, p, ("reported", i))]
        data["reported"] = _listed(file, "reported", numbers)
    if isinstance(data.get("protocol"), dict | list):
        items = [_item(file, key, p) for key, p in whole.parts("protocol").items()]
        data["protocol"] = _listed(file, "protocol", items)
    return data


def _mapping(writer: Writer, whole: Part, table: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, part in whole.parts(table).items():
        at: Path_ = (table, key)
        for entry, (name,) in writer.entries(part, at, [str(key)]):
            unfilled(writer.file, entry.data, [name], at)
            if name in out:
                raise writer.file.error(f"{name!r} is written out twice", at, "name each combination of values once")
            out[name] = entry.data
            if name != key:
                writer.file.lines.update({(table, name, *path): line for path, line in entry.lines.items()})
    return out


def _listed(file: YamlFile, key: str, parts: Iterable[Part]) -> list[Any]:
    parts = list(parts)
    for path in [path for path in file.lines if path[0:1] == (key,) and len(path) > 1]:
        del file.lines[path]
    out = []
    for i, part in enumerate(parts):
        file.lines.update({(key, i, *path): line for path, line in part.lines.items()})
        out.append(part.data)
    return out


def _claims(writer: Writer, part: Part, at: Path_) -> list[Part]:
    """A claim, written out; or those of a group, for each of which what stands beside `claims` goes, too."""
    inner = part.data.get("claims") if isinstance(part.data, dict) else None
    if not isinstance(inner, list):
        ids = [str(part.data["id"])] if isinstance(part.data, dict) and "id" in part.data else []
        found = [
            (_pooled(writer, entry, at) if isinstance(entry.data, dict) and "cells" in entry.data else entry, names)
            for entry, names in writer.entries(part, at, ids)
        ]
        for entry, names in found:
            unfilled(writer.file, entry.data, names, at)
        return [entry for entry, _ in found]
    out: list[Part] = []
    for group, _ in writer.entries(part, at, []):
        rest = group.without("claims")
        writer.charge(len(inner) * (1 + len(rest.data) + len(rest.lines)), at, "claims")
        for i, one in group.parts("claims").items():
            if not isinstance(one.data, dict):
                raise writer.file.error("a claim is a mapping", (*at, "claims", i), "start with `id:` and `kind:`")
            given = rest.without("gate") if "gate" in one.data else rest  # a gate is a whole: its parts are not mixed
            claim = Part(merge(given.data, one.data), {**given.lines, **one.lines})
            out += _claims(writer, claim, (*at, "claims", i))
    return out


def _pooled(writer: Writer, part: Part, at: Path_) -> Part:
    """A claim over several cells: its heading, and what it says of each of them, written out as by a grid."""
    axes = part.data["cells"]
    if not isinstance(axes, dict) or not axes:
        what = "cells must map names to values, as a grid does"
        raise writer.file.error(what, (*at, "cells"), "e.g. cells: {dataset: [mnist, omniglot]}")
    said = part.without(*HEADING, "cells")
    label = ", ".join(f"{{{axis}}}" for axis in axes)
    lines = {**said.lines, **{("grid", *path[1:]): n for path, n in part.lines.items() if path[:1] == ("cells",)}}
    body = Part({"label": label, **said.data, "grid": axes}, lines)
    cells = [Part(c.data | {"label": str(c.data["label"])}, c.lines) for c, _ in writer.entries(body, at, [])]
    heading = {key: part.data[key] for key in HEADING if key in part.data}
    own = {path: n for path, n in part.lines.items() if path[:1] != ("cells",)}
    within = {("cells", i, *path): n for i, cell in enumerate(cells) for path, n in cell.lines.items()}
    return Part({**heading, "kind": "pooled", "cells": [cell.data for cell in cells]}, {**own, **within})


def _numbers(writer: Writer, part: Part, at: Path_) -> list[Part]:
    """A reported number as it stands, or those of a table: what stands beside `rows` goes for each of its cells."""
    if not isinstance(part.data, dict) or "rows" not in part.data:
        return [_with_spread(writer.file, part, at)]
    if not isinstance(part.data["rows"], dict) or not part.data["rows"]:
        raise writer.file.error("rows must map names to cells", (*at, "rows"), "e.g. rows: {vae: [86.8, 19]}")
    columns = None
    if "columns" in part.data:
        columns = writer.axis("column", part.parts()["columns"], (*at, "columns"))
    writer.bounded(len(part.data["rows"]) * len(columns or [None]), (*at, "rows"), "table")
    combos = []
    for name, row in part.parts("rows").items():
        place: Path_ = (*at, "rows", name)
        if columns is None:
            combos.append({"row": Value(name, at=place), "cell": _cell(writer.file, row, place)})
            continue
        says, cells, where = Part({}), row, place
        if isinstance(row.data, dict):
            says = row.without("cells")
            cells, where = row.parts().get("cells", Part(None)), (*place, "cells")
        if not isinstance(cells.data, list) or len(cells.data) != len(columns):
            what = f"row {name!r} must list a cell for each of {len(columns)} columns"
            raise writer.file.error(what, where, "write null for an empty one")
        for column, (i, cell) in zip(columns, cells.parts().items(), strict=True):
            if cell.data is not None:
                found = _cell(writer.file, Part(cell.data, cell.lines), (*where, i))
                combos.append({"row": Value(name, says, place), "column": column, "cell": found})
    written = writer.write(part.without("rows", "columns"), combos, at, "table")
    out = []
    for (number, _), combo in zip(written, combos, strict=True):
        unfilled(writer.file, number.data, _places(number.data), at)
        line = writer.file.line(combo["cell"].at)
        here: dict[Path_, int] = {} if line is None else {(): line, ("value",): line}
        headings = {key: str(combo[key].value) for key in ("row", "column") if key in combo}
        placed = Part({**headings, **number.data}, {**number.lines, **here})
        out.append(_with_spread(writer.file, placed, combo["cell"].at))
    return out


def _places(number: dict[str, Any]) -> list[str]:
    return [str(number[key]) for key in ("method", "dataset", "metric") if key in number]


def _cell(file: YamlFile, part: Part, at: Path_) -> Value:
    if isinstance(part.data, dict):
        return Value(None, part, at)
    if isinstance(part.data, list | bool) or part.data is None:
        raise file.error("a cell is a number, a text such as 0.5 ± 0.1, or a mapping with `value`", at, "mend the cell")
    return Value(None, Part({"value": part.data}), at)


def _with_spread(file: YamlFile, part: Part, at: Path_) -> Part:
    """A number whose value may be given as ``5.2 ± 0.1``: as `value` and `std`."""
    if not isinstance(part.data, dict) or not isinstance(part.data.get("value"), str):
        return part
    found = _SPREAD.fullmatch(part.data["value"])
    if found is None or "std" in part.data:
        raise file.error(f"{part.data['value']!r} is no number", (*at, "value"), "write it as 5.2 or 5.2 ± 0.1")
    try:
        return Part({**part.data, "value": float(found[1]), "std": float(found[2])}, part.lines)
    except ValueError:
        raise file.error(f"{part.data['value']!r} is no number", (*at, "value"), "write 5.2 or 5.2 ± 0.1") from None


def _item(file: YamlFile, key: str | int, part: Part) -> Part:
    """An item of the protocol; ``stated: section 4`` says its status and its source in one."""
    if not isinstance(part.data, dict):
        return part
    item = dict(part.data) if isinstance(key, int) else {"item": key, **part.data}
    if isinstance(key, str) and "item" in part.data:
        raise file.error(f"item {key!r} is named twice", ("protocol", key, "item"), "its key is its name")
    for status in STATUSES:
        if status in item:
            if "status" in item or "source" in item:
                raise file.error("status and source are given twice", ("protocol", key), f"keep `{status}:`")
            item |= {"status": status, "source": item.pop(status)}
    return Part(item, part.lines)
