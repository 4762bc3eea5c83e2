"""Hostile variants of good input: bytes flipped, parts of a document removed, swapped, retyped, blown up."""

from __future__ import annotations

import copy
import random
from typing import Any

#: What stands for a value, a name or a key where somebody means harm or made a mistake.
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    -(2**64),
    10**400,
    10**4000,
    1e308,
    -0.0,
    5e-324,
    float("nan"),
    float("inf"),
    "",
    " ",
    "..",
    "../../../tmp/outside",
    "/etc/passwd",
    "C:\\windows",
    "\\\\host\\share",
    "nul\0byte",
    "x" * 5000,
    "=cmd|' /C calc'!A0",
    "\x1b]0;title\x07\x1b[2J",
    "\x9b31m",
    "\u202egnp.exe",
    "\ud800",
    "{k}",
    "{k}{k}{k}",
    "*",
    "[!",
    "train[:" + "9" * 5000 + "]",
    "train+" * 2000,
    "os:system",
    "latentbench.cli.main:main",
    "--trust",
    "<script>alert(1)</script>",
    "${HOME}",
    "!!python/name:os.system",
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"name": "x"},
    {"__class__": "x"},
    {"grid": {"k": list(range(60)), "j": list(range(60))}},
)
MOST_DEEP = 400


def document(data: Any, rng: random.Random, edits: int | None = None) -> Any:
    """A copy of parsed YAML or JSON with 1 to 4 edits at random places."""
    out = copy.deepcopy(data)
    for _ in range(edits or rng.choice((1, 1, 1, 1, 2, 4))):
        out = _edit(out, rng)
    return out


def raw(data: bytes, rng: random.Random) -> bytes:
    """Bytes with 1 to 8 of them flipped, runs removed, doubled or moved, or odd ones put in."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(out) + 1)
        run = min(rng.choice((1, 1, 2, 8, 64)), len(out) - at)
        match rng.randrange(5):
            case 0 if run:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                del out[at : at + run]
            case 2:
                out[at:at] = out[at : at + run] * rng.choice((1, 3, 50))
            case 3:
                out[at:at] = rng.choice((b'"', b"{", b"[", b"\0", b"&a ", b"*a", b"!!x ", b"- " * 99, b": ", b"9" * 99))
            case _:
                moved = out[at : at + run]
                del out[at : at + run]
                to = rng.randrange(len(out) + 1)
                out[to:to] = moved
    return bytes(out)


def _places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a document, the whole of it first."""
    found = [at]
    if isinstance(data, dict):
        for key, value in data.items():
            found += _places(value, (*at, key))
    elif isinstance(data, list):
        for i, value in enumerate(data):
            found += _places(value, (*at, i))
    return found


def _get(data: Any, at: tuple[Any, ...]) -> Any:
    for part in at:
        data = data[part]
    return data


def _edit(data: Any, rng: random.Random) -> Any:
    places = _places(data)
    if len(places) == 1:
        return copy.deepcopy(rng.choice(ODD))
    *folder, last = rng.choice(places[1:])
    parent, old = _get(data, tuple(folder)), _get(data, (*folder, last))
    match rng.randrange(9):
        case 0:
            del parent[last]
        case 1 | 2:
            parent[last] = copy.deepcopy(rng.choice(ODD))
        case 3:
            parent[last] = copy.deepcopy(_get(data, rng.choice(places)))
        case 4:
            for _ in range(rng.choice((1, 3, MOST_DEEP))):
                old = [old] if rng.random() < 0.5 else {"a": old}
            parent[last] = old
        case 5:
            parent[last] = _retyped(old)
        case 6:
            parent[last] = [copy.deepcopy(old) for _ in range(rng.choice((2, 300)))]
        case 7 if isinstance(parent, dict):
            del parent[last]
            parent[_key(rng)] = old
        case _ if isinstance(parent, dict):
            parent[_key(rng)] = copy.deepcopy(old)
        case _:
            parent.append(copy.deepcopy(rng.choice(ODD)))
    return data


def _key(rng: random.Random) -> str:
    return str(rng.choice([o for o in ODD if isinstance(o, str)]))


def _retyped(value: Any) -> Any:
    """The same as another type would write it."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return float(value) if abs(value) < 1 << 53 else str(value)[:100]
    if isinstance(value, float):
        return str(value)
    if isinstance(value, list):
        return {str(i): v for i, v in enumerate(value)}
    return [[k, v] for k, v in value.items()]
