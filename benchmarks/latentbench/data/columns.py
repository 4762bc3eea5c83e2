"""Columns in memory: fixed-size rows as numpy arrays, rows of varying length as flat values with offsets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """Rows of varying length, laid end to end: row i is ``values[offsets[i]:offsets[i + 1]]``.

    Sequences, sets, edge lists and UTF-8 text all have this one form.

    Attributes:
        values: (total, *item_shape), any stored dtype.
        offsets: (rows + 1,) int64, from 0, never falling.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[np.ndarray], dtype: Any = None, item_shape: tuple[int, ...] = ()) -> Ragged:
        """From one array a row, each (length, *item_shape)."""
        lengths = np.fromiter((len(r) for r in rows), dtype=np.int64, count=len(rows))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        if len(rows):
            values = np.concatenate([np.asarray(r, dtype=dtype).reshape(-1, *item_shape) for r in rows])
        else:
            values = np.zeros((0, *item_shape), dtype=dtype)
        return cls(values, offsets)

    @classmethod
    def of_text(cls, rows: Iterable[str]) -> Ragged:
        """UTF-8 bytes, one row a string."""
        return cls.of([np.frombuffer(row.encode(), dtype=np.uint8) for row in rows], np.uint8)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def item_shape(self) -> tuple[int, ...]:
        return self.values.shape[1:]

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) int64."""
        return np.diff(self.offsets)

    def __getitem__(self, index: Any) -> Any:
        """Row `index` as an array; a `Ragged` for a slice (no copy of the values where its step is 1) or an array."""
        if isinstance(index, (int, np.integer)):
            i = int(index)
            n = len(self)
            if not -n <= i < n:
                raise IndexError(f"row {i} of {n}")
            i %= n
            return self.values[self.offsets[i] : self.offsets[i + 1]]
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                stop = max(start, stop)
                first, last = self.offsets[start], self.offsets[stop]
                return Ragged(self.values[first:last], self.offsets[start : stop + 1] - first)
            index = np.arange(start, stop, step)
        rows = np.arange(len(self))[index]
        return Ragged.of([self[int(i)] for i in rows], self.dtype, self.item_shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def text(self, index: int) -> str:
        """Row `index` of a uint8 column, as text."""
        return bytes(self[index]).decode()

    def texts(self) -> list[str]:
        """All rows of a uint8 column, as text."""
        return [bytes(row).decode() for row in self]


@runtime_checkable
class Indexed(Protocol):
    """Rows that are made when they are asked for. Behaves as an array of `shape` for reading rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: Any) -> np.ndarray:
        """The row `index`, or the rows of a slice or an integer array."""
        ...

    def restrict(self, rows: np.ndarray | range) -> Indexed:
        """The same column restricted to `rows`, still not materialised."""
        ...


AnyColumn = np.ndarray | Ragged | Indexed
Columns = Mapping[str, AnyColumn]


@dataclass(frozen=True)
class Chunk:
    """Some rows of one split, in order, as a loader yields them; all columns have the same number of rows."""

    split: str
    columns: Mapping[str, np.ndarray | Ragged]


def concatenate(parts: Sequence[AnyColumn]) -> np.ndarray | Ragged:
    """Parts of one column one after the other; what is rendered on demand is rendered."""
    first = parts[0]
    if isinstance(first, Ragged):
        ragged = [p for p in parts if isinstance(p, Ragged)]
        lengths = np.concatenate([p.lengths for p in ragged])
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return Ragged(np.concatenate([p.values for p in ragged]), offsets)
    return np.concatenate([np.asarray(p[:]) for p in parts])
