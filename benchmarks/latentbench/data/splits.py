"""Split expressions such as ``train[:50000]`` or ``train[80%:]+valid``, and seeded partitions of unsplit data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from latentbench.core.errors import UserError, did_you_mean

_PART = re.compile(
    r"^\s*([A-Za-z0-9_.-]+)\s*(?:\[\s*(-?\d+%?)?\s*:\s*(-?\d+%?)?\s*\]|@([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.(\d+))?\s*$"
)
_FORM = "as in train[:50000], train+valid or all@folds.train.0"


@dataclass(frozen=True)
class Listed:
    """Row numbers that the data themselves hold: row `row` of the ragged column `column` of split `split`."""

    split: str
    column: str
    row: int


@dataclass(frozen=True)
class Part:
    """Rows ``start .. stop - 1`` of split `name`, or those that `listed` tells."""

    name: str
    start: int
    stop: int
    listed: Listed | None = None

    @property
    def rows(self) -> int:
        return self.stop - self.start


def parse(expression: str, rows: Mapping[str, int]) -> list[Part]:
    """What `expression` names: as in Hugging Face `datasets`, parts joined by ``+``, bounds in rows or per cent.

    Beyond that, ``all@folds.train.3`` are the rows of ``all`` that row 3 of column ``train`` of split ``folds`` lists.

    Args:
        expression: e.g. ``train``, ``train[:50000]``, ``train[-10%:]``, ``train+valid``, ``all@folds.train.0``.
        rows: split name -> number of rows.

    Raises:
        UserError: not of this form, an unknown split, or no rows.
    """
    parts = []
    for text in expression.split("+"):
        match = _PART.match(text)
        if match is None:
            raise UserError(f"not a split expression: {expression!r}", fix=_FORM)
        name, low, high, table, column, row = match.groups()
        for split in (name, table):
            if split is not None and split not in rows:
                raise UserError(f"no split {split!r} in {expression!r}", fix=did_you_mean(split, rows))
        n = rows[name]
        if table is not None:
            if int(row) >= rows[table]:
                raise UserError(f"no row {row} in {expression!r}", fix=f"{table} has {rows[table]}")
            parts.append(Part(name, 0, n, Listed(table, column, int(row))))
            continue
        part = Part(name, _bound(low, n, 0), _bound(high, n, n))
        if part.rows <= 0:
            raise UserError(f"{expression!r} has no rows", fix=f"{name} has {n}")
        parts.append(part)
    return parts


def _bound(text: str | None, n: int, default: int) -> int:
    if text is None:
        return default
    value = round(n * int(text[:-1]) / 100) if text.endswith("%") else int(text)
    return min(max(value + n if value < 0 else value, 0), n)


def mix(keys: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser (Steele, Lea & Flood 2014) of uint64 keys, elementwise."""
    z = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def permutation(n: int, seed: int) -> np.ndarray:
    """A pseudo-random order of ``0 .. n - 1``, (n,) int64: by hashed key, so the same under every numpy release."""
    base = mix(np.array([seed], dtype=np.uint64))
    return np.argsort(mix(base ^ np.arange(n, dtype=np.uint64)), kind="stable")


def sample_rows(n: int, most: int) -> np.ndarray:
    """At most `most` of the rows ``0 .. n - 1``, ascending: all, or a fixed pseudo-random choice.

    Evenly spaced rows would not do: on a grid of factors they can miss values of the fast ones.
    """
    return np.arange(n) if n <= most else np.sort(permutation(n, 0)[:most])


def partition(n: int, sizes: Mapping[str, int], seed: int) -> dict[str, np.ndarray]:
    """A seeded partition of n rows: name -> sorted row numbers, int64, in the order and the sizes given.

    Raises:
        UserError: the sizes do not sum to n.
    """
    if sum(sizes.values()) != n:
        raise UserError(f"split sizes {dict(sizes)} do not sum to the {n} rows there are")
    order = permutation(n, seed)
    ends = np.cumsum(list(sizes.values()))
    return {name: np.sort(order[end - size : end]) for (name, size), end in zip(sizes.items(), ends)}
