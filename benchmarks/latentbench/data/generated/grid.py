"""Data on a full grid of factor values, addressed by row number and rendered when read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from latentbench.data.splits import permutation

_BLOCK = 4096


@dataclass(frozen=True)
class Grid:
    """All combinations of factor values, numbered with the last factor fastest."""

    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of combinations."""
        return math.prod(self.sizes)

    def factors(self, rows: np.ndarray) -> np.ndarray:
        """Row numbers (N,) -> factor values (N, K) int64."""
        return np.stack(np.unravel_index(np.asarray(rows, np.int64), self.sizes), axis=-1).astype(np.int64)

    def rows(self, factors: np.ndarray) -> np.ndarray:
        """Factor values (N, K) -> row numbers (N,) int64."""
        return np.ravel_multi_index(tuple(np.asarray(factors, np.int64).T), self.sizes).astype(np.int64)


class RenderedColumn:
    """A column of a grid's images, read like an array: an integer gives a row, a slice or integer array gives rows.

    Args:
        grid: the factors.
        render: factor values (N, K) -> rows (N, *row_shape).
        row_shape, dtype: of one row.
        chosen: row numbers of the grid that this column shows; all of them where None.
    """

    def __init__(
        self,
        grid: Grid,
        render: Callable[[np.ndarray], np.ndarray],
        row_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chosen: np.ndarray | range | None = None,
    ) -> None:
        self._grid, self._render, self._row_shape = grid, render, row_shape
        self.dtype = dtype
        self._chosen: np.ndarray | range = range(grid.size) if chosen is None else chosen

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._chosen), *self._row_shape)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: Any) -> np.ndarray:
        picked = self._pick(index)
        if isinstance(picked, int):
            return self._render(self._grid.factors(np.array([picked])))[0]
        out = np.empty((len(picked), *self._row_shape), self.dtype)
        for start in range(0, len(picked), _BLOCK):
            block = np.asarray(picked[start : start + _BLOCK], np.int64)
            out[start : start + len(block)] = self._render(self._grid.factors(block))
        return out

    def restrict(self, rows: np.ndarray | range) -> RenderedColumn:
        """The rows `rows` of this column, as a column that is rendered when read."""
        chosen = self._pick(np.asarray(rows)) if isinstance(rows, np.ndarray) else self._chosen[rows.start : rows.stop]
        assert not isinstance(chosen, int)  # several rows were asked for
        return RenderedColumn(self._grid, self._render, self._row_shape, self.dtype, chosen)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def _pick(self, index: Any) -> np.ndarray | range | int:
        if isinstance(index, (int, np.integer)):
            return int(self._chosen[int(index)])
        if isinstance(index, slice):
            return self._chosen[index]
        where = np.asarray(index)
        if where.dtype == bool:
            where = np.flatnonzero(where)
        n = len(self._chosen)
        if where.size and (where.min() < -n or where.max() >= n):
            raise IndexError(f"rows {where.min()} .. {where.max()} of {n}")
        where = where.astype(np.int64) % max(n, 1)
        if isinstance(self._chosen, range):
            return self._chosen.start + where * self._chosen.step
        return self._chosen[where]


class Scene(Protocol):
    """A grid of factor values with a picture for each."""

    @property
    def grid(self) -> Grid: ...
    @property
    def row_shape(self) -> tuple[int, ...]: ...
    def render(self, factors: np.ndarray) -> np.ndarray:
        """Factor values (N, K) int64 -> images (N, *row_shape) uint8."""
        ...


def rendered_columns(scene: Scene, rows: int) -> dict[str, RenderedColumn]:
    """x and factors of the whole grid in its order, made when they are asked for; `rows` must be its size."""
    grid = scene.grid
    if rows != grid.size:
        raise ValueError(f"the grid has {grid.size} images, not {rows}")
    return {
        "x": RenderedColumn(grid, scene.render, scene.row_shape, np.dtype(np.uint8)),
        "factors": RenderedColumn(grid, lambda factors: factors, (len(grid.sizes),), np.dtype(np.int64)),
    }


def stored_columns(scene: Scene, rows: int, first: int) -> dict[str, np.ndarray]:
    """x and factors of `rows` images, from place `first` of a fixed shuffling of the grid: so splits do not overlap."""
    chosen = np.sort(permutation(scene.grid.size, 0)[first : first + rows])
    return {name: column[chosen] for name, column in rendered_columns(scene, scene.grid.size).items()}
