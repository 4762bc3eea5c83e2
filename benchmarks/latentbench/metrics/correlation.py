"""Canonical correlations of two sets of columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.metrics.arrays import Floats, matrix, same_rows

Values = Any  # array, list or tensor


def canonical_correlations(first: Values, second: Values) -> Floats:
    """Canonical correlations of two representations, descending, (min(rank1, rank2),), each 0 … 1.

    Singular values of the product of orthonormal bases of the two column spaces (Björck & Golub 1973).
    """
    x, y = centred_pair(first, second)
    return np.clip(np.linalg.svd(orthonormal_basis(x).T @ orthonormal_basis(y), compute_uv=False), 0, 1)


def centred_pair(first: Values, second: Values) -> tuple[Floats, Floats]:
    x, y = matrix(first, "first", min_rows=2), matrix(second, "second", min_rows=2)
    same_rows(first=x, second=y)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    for name, array in (("first", x), ("second", y)):
        if not array.any():
            raise UserError("is constant", where=name, fix="it has no direction to compare: a collapsed representation")
    return x, y


def orthonormal_basis(x: Floats, variance: float = 1.0) -> Floats:
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    rank = int((s > s[0] * max(x.shape) * np.finfo(np.float64).eps).sum())
    if variance < 1:
        share = np.cumsum(s**2) / np.sum(s**2)
        rank = min(rank, int(np.searchsorted(share, variance * (1 - 1e-12)) + 1))
    return u[:, :rank]
