"""What every metric asks of its arrays: finite numbers of the right shape, or an error that names the array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentbench.core.errors import Diverged, UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class NotFiniteError(UserError, Diverged):
    """NaN or infinite input: a mistake where a file was given, an outcome where a model produced it."""


def to_numpy(x: ArrayLike | Any) -> NDArray[Any]:
    """A numpy view (or copy) of an array, a list or a tensor on any device."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
    return np.asarray(x)


def _numeric(x: ArrayLike | Any, name: str) -> NDArray[Any]:
    array = to_numpy(x)
    if array.dtype.kind not in "biuf":
        raise UserError(f"holds {array.dtype}, not real numbers", where=name, fix="give an array of numbers")
    if array.size == 0:
        raise UserError(f"is empty, shape {array.shape}", where=name, fix="give at least one row")
    return array


def _finite(array: NDArray[Any], name: str) -> None:
    # a finite sum proves that all is finite without a temporary mask (overflow to inf only costs the second look)
    if array.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        total = array.sum()
    if not np.isfinite(total) and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise NotFiniteError(f"{bad} of {array.size} values are NaN or infinite", where=name, fix="drop or mend them")


def vector(x: ArrayLike | Any, name: str, *, min_rows: int = 1) -> Floats:
    """(N,) finite float64, or `UserError`."""
    array = _numeric(x, name)
    if array.ndim != 1:
        raise UserError(f"has shape {array.shape}", where=name, fix="give one number a sample, shape (N,)")
    return _rows(array, name, min_rows).astype(np.float64, copy=False)


def matrix(x: ArrayLike | Any, name: str, *, min_rows: int = 1, flatten: bool = False, keep: bool = False) -> Floats:
    """(N, D) finite numbers, or `UserError`.

    Args:
        flatten: turn (N, ...) into (N, D), for images.
        keep: leave float32 as it is (large feature matrices); otherwise float64.
    """
    array = _numeric(x, name)
    if flatten and array.ndim > 2:
        array = array.reshape(len(array), -1)
    if array.ndim != 2:
        raise UserError(f"has shape {array.shape}", where=name, fix="give one row a sample, shape (N, D)")
    array = _rows(array, name, min_rows)
    return array if keep and array.dtype == np.float32 else array.astype(np.float64, copy=False)


def _rows(array: NDArray[Any], name: str, min_rows: int) -> NDArray[Any]:
    if len(array) < min_rows:
        raise UserError(f"has {len(array)} rows", where=name, fix=f"give at least {min_rows}")
    _finite(array, name)
    return array


def integers(x: ArrayLike | Any, name: str, *, ndim: int = 1, min_rows: int = 1) -> Ints:
    """Whole numbers of `ndim` dimensions as int64 (floats that are whole pass), or `UserError`."""
    array = _numeric(x, name)
    if array.ndim != ndim:
        raise UserError(f"has shape {array.shape}", where=name, fix=f"give {ndim} dimension(s)")
    array = _rows(array, name, min_rows)
    if array.dtype.kind == "f" and not (array == np.floor(array)).all():
        raise UserError("holds fractions where classes are needed", where=name, fix="give integers, or bin them first")
    if array.dtype.kind in "fu" and (array > np.iinfo(np.int64).max).any():
        raise UserError("holds values beyond 64-bit integers", where=name, fix="number the classes from 0")
    return array.astype(np.int64, copy=False)


def ranks_of_values(labels: Ints) -> tuple[Ints, int]:
    """Labels renumbered 0 … n-1 in order of value, and n: histograms then need n cells, whatever the values are."""
    values, ranks = np.unique(labels, return_inverse=True)
    return ranks.reshape(labels.shape).astype(np.int64, copy=False), len(values)


def compact(labels: Ints) -> tuple[Ints, int]:
    """Labels (N,) shifted to start at 0, and a size above the largest: renumbered only where the range is wide."""
    low, high = int(labels.min()), int(labels.max())
    if high - low < 4 * len(labels) + 1024:
        return labels - low, high - low + 1
    return ranks_of_values(labels)


def same_rows(**arrays: NDArray[Any]) -> None:
    """Raise `UserError` unless all arrays have as many rows as the first."""
    (first, reference), *others = arrays.items()
    for name, array in others:
        if len(array) != len(reference):
            raise UserError(
                f"has {len(array)} rows where {first} has {len(reference)}", where=name, fix="pair them row by row"
            )


def same_shape(**arrays: NDArray[Any]) -> None:
    """Raise `UserError` unless all arrays have the shape of the first."""
    (first, reference), *others = arrays.items()
    for name, array in others:
        if array.shape != reference.shape:
            raise UserError(f"has shape {array.shape} where {first} has {reference.shape}", where=name)


def same_columns(**arrays: NDArray[Any]) -> None:
    """Raise `UserError` unless all (N, D) arrays have as many columns as the first."""
    (first, reference), *others = arrays.items()
    for name, array in others:
        if array.shape[1] != reference.shape[1]:
            raise UserError(
                f"has {array.shape[1]} columns where {first} has {reference.shape[1]}",
                where=name,
                fix="use the same features for both",
            )


def mean_and_se(values: Floats) -> tuple[float, float | None]:
    """Mean, and its standard error (None for one value)."""
    n = len(values)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else None
