"""Codes (N, D) and ground-truth factors (N, K), checked, and split into training and test rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.metrics.arrays import Floats, Ints, integers, matrix, ranks_of_values, same_columns, same_rows

Values = Any  # array, list or tensor


def check_codes(codes: Values, *, min_rows: int = 2, name: str = "codes") -> Floats:
    """(N, D) finite numbers, float32 kept as it is."""
    return matrix(codes, name, min_rows=min_rows, keep=True)


def check_factors(factors: Values, bins: int | None = None, *, name: str = "factors", varied: bool = True) -> Ints:
    """(N, K) integers; with `bins`, real-valued factors are cut into that many equal-width bins first.

    A factor with a single value tells nothing of any code and would divide by its entropy of zero: refused if `varied`.
    """
    array = histogram_bins(matrix(factors, name), bins) if bins is not None else integers(factors, name, ndim=2)
    if varied:
        constant = [k for k in range(array.shape[1]) if (array[:, k] == array[0, k]).all()]
        if constant:
            columns = ", ".join(map(str, constant))
            raise UserError(f"column(s) {columns} have a single value", where=name, fix="leave them out")
    return array


def check_pair(codes: Values, factors: Values, bins: int | None = None) -> tuple[Floats, Ints]:
    """Codes and factors of as many rows."""
    z, v = check_codes(codes), check_factors(factors, bins)
    same_rows(codes=z, factors=v)
    return z, v


def histogram_bins(values: Floats, bins: int) -> Ints:
    """Column-wise equal-width bins 0 … bins-1 over each column's own range, as `numpy.histogram` draws them.

    The edges are in the input's precision, and a value on an edge belongs to the bin above it, the maximum to the last:
    what `numpy.digitize` on `numpy.histogram`'s left edges gives, without its search.
    """
    if bins < 1:
        raise UserError(f"is {bins}", where="bins", fix="give a positive number of bins")
    out = np.empty(values.shape[::-1], dtype=np.int64)
    for j, column in enumerate(np.ascontiguousarray(values.T)):
        low, high = column.min(), column.max()
        if not math.isfinite(float(high) - float(low)):
            raise UserError(f"column {j} spans more than a float can hold", where="codes", fix="scale it")
        out[j] = _cut(column, low, high, bins) if high > low else 0
    return out.T


def _cut(column: Floats, low: Any, high: Any, bins: int) -> Ints:
    edges = np.linspace(low, high, bins + 1, dtype=column.dtype)
    if not (np.diff(edges) > 0).all():  # a few units in the last place wide: exact once the offset is gone
        column = column.astype(np.float64) - float(low)
        edges = np.linspace(0, column.max(), bins + 1)
    if bins > 4096:  # rounding could be off by more than one bin below
        return np.searchsorted(edges[:-1], column, side="right") - 1
    guess = ((column - edges[0]) * (bins / (edges[-1] - edges[0]))).astype(np.int64)
    # rounding can put a value one bin off; the maximum lies on the last edge, which no bin above it owns
    right = np.append(edges[1:-1], np.inf)
    np.minimum(guess, bins - 1, out=guess)
    guess += column >= right.take(guess)
    guess -= column < edges.take(guess)
    return guess


@dataclass(frozen=True)
class Split:
    """Training and test rows; factor values renumbered 0 … n-1 over both."""

    codes: Floats
    factors: Ints
    codes_test: Floats
    factors_test: Ints


def _check_order(train: Ints, test: Ints) -> None:
    """Refuse rows that are sorted by a factor: the last of them have values that no earlier one has."""
    for k, (seen, held) in enumerate(zip(train.T, test.T)):
        values, counts = np.unique(seen, return_counts=True)
        if len(values) > 1 and counts.mean() >= 2 and np.isin(held, values, invert=True).mean() > 0.5:
            raise UserError(
                f"its rows are in order: most of the last ones have values of column {k} that no earlier one has",
                where="factors",
                fix="shuffle codes and factors together, or give codes_test and factors_test",
            )


def split(
    codes: Values,
    factors: Values,
    codes_test: Values | None,
    factors_test: Values | None,
    train_share: float,
    bins: int | None = None,
) -> Split:
    """The rows that were given as test, or the last rows after the first ⌈train_share N⌉ (never shuffled)."""
    if (codes_test is None) != (factors_test is None):
        raise UserError("give both codes_test and factors_test, or neither", where="codes_test")
    if codes_test is not None and factors_test is not None:
        z, z_test = check_codes(codes), check_codes(codes_test, min_rows=1, name="codes_test")
        n = len(z)
        same_columns(codes=z, codes_test=z_test)
        parts = [matrix(factors, "factors"), matrix(factors_test, "factors_test")]
        same_rows(codes=z, factors=parts[0])
        same_rows(codes_test=z_test, factors_test=parts[1])
        same_columns(factors=parts[0], factors_test=parts[1])
        v = check_factors(np.concatenate(parts), bins)
    else:
        z, v = check_pair(codes, factors, bins)
        if not 0 < train_share < 1:
            raise UserError(f"is {train_share}", where="train_share", fix="give a number between 0 and 1")
        n = math.ceil(len(z) * train_share)
        if n >= len(z):
            raise UserError(f"has {len(z)} rows, which leaves none for testing", where="codes", fix="give more rows")
        z, z_test = z[:n], z[n:]
        _check_order(v[:n], v[n:])
    v = np.stack([ranks_of_values(column)[0] for column in v.T], axis=1)
    check_factors(v[:n], name="factors (training rows)")
    return Split(z, v[:n], z_test, v[n:])
