"""Hashes of what can change a run's result.

A run's fingerprint joins three hashes: its resolved specification, the content of its data, and the source of the
modules that its code imports. Source is hashed as a syntax tree without docstrings, so comments and layout count for
nothing, and modules that no run imports never enter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from latentbench.core.codehash import WORDS_AND_PLACES, closure

PACKAGE = "latentbench"
#: Modules that decide where things are and how messages read, and those whose work the data's content hash covers.
CANNOT_CHANGE_A_RESULT = (*WORDS_AND_PLACES, "latentbench.data.registry", "latentbench.data.dataset")


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal for equal values, whatever order they were written in."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: Any) -> str:
    """sha256 of `value`'s canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def code_hash(roots: Iterable[str], package: str = PACKAGE) -> str:
    """Hash of the source of `roots` and of every module of `package` that they import, directly or not."""
    return _closure_hash(frozenset(roots), package)


def code_modules(roots: Iterable[str], package: str = PACKAGE) -> list[str]:
    """The modules behind `code_hash`, sorted."""
    return list(closure(roots, package, CANNOT_CHANGE_A_RESULT))


@cache
def _closure_hash(roots: frozenset[str], package: str) -> str:
    return digest([[name, source] for name, source in closure(roots, package, CANNOT_CHANGE_A_RESULT).items()])
