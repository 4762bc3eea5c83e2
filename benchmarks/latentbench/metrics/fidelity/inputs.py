"""Real and generated features (N, D), checked; distances between them in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from latentbench.metrics.arrays import Floats, matrix, same_columns

Values = Any  # array, list or tensor
BLOCK_CELLS = 16_000_000  # distances held at once


def check_features(real: Values, fake: Values, *, min_rows: int = 1) -> tuple[Floats, Floats]:
    """Both as finite (N, D) and (M, D); images (N, ...) are flattened; float32 is kept."""
    x = matrix(real, "real", min_rows=min_rows, flatten=True, keep=True)
    y = matrix(fake, "fake", min_rows=min_rows, flatten=True, keep=True)
    same_columns(real=x, fake=y)
    if x.dtype != y.dtype:
        x, y = x.astype(np.float64), y.astype(np.float64)
    return x, y


def exact_distances(x: Floats, y: Floats, block_cells: int = BLOCK_CELLS) -> Iterator[tuple[slice, Floats]]:
    """`squared_distances`, with those that cancellation has left few digits of taken from the differences.

    For metrics that compare small distances: within a cluster that lies far from the others, between near-copies.
    """
    centre = y.mean(axis=0, dtype=np.float64).astype(y.dtype)
    norms_x, norms_y = (np.einsum("nd,nd->n", part - centre, part - centre) for part in (x, y))
    few = 1e4 * np.finfo(x.dtype).eps
    for rows, d2 in squared_distances(x, y, block_cells):
        near, other = np.nonzero(d2 < few * (norms_x[rows, None] + norms_y))
        step = max(1, block_cells // x.shape[1])
        for start in range(0, len(near), step):
            a, b = near[start : start + step], other[start : start + step]
            difference = x[rows][a].astype(np.float64) - y[b]
            d2[a, b] = np.einsum("nd,nd->n", difference, difference)
        yield rows, d2


def squared_distances(x: Floats, y: Floats, block_cells: int = BLOCK_CELLS) -> Iterator[tuple[slice, Floats]]:
    """Blocks of rows of the (N, M) squared Euclidean distances: (rows, (rows, M)).

    By the matrix product, on data moved to their mean first, where cancellation is least; what rounding leaves of the
    distance between equal points is set to zero.
    """
    centre = y.mean(axis=0, dtype=np.float64).astype(y.dtype)
    a, b = x - centre, y - centre
    norms_a, norms_b = np.einsum("nd,nd->n", a, a), np.einsum("nd,nd->n", b, b)
    unit = 4 * np.finfo(a.dtype).eps
    step = max(1, block_cells // len(b))
    for start in range(0, len(a), step):
        rows = slice(start, start + step)
        sums = norms_a[rows, None] + norms_b
        d2 = a[rows] @ b.T
        d2 *= -2
        d2 += sums
        sums *= unit
        d2[d2 < sums] = 0
        yield rows, d2
