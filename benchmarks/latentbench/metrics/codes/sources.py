"""Where interventional metrics draw codes from: arrays, or a ground truth that can be sampled by factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.random import Generator

from latentbench.core.errors import UserError
from latentbench.metrics.arrays import Floats, Ints, ranks_of_values
from latentbench.metrics.codes.inputs import Values, check_codes, check_pair


class FactorSource(Protocol):
    """Codes of samples, some of whose factors are held fixed."""

    n_factors: int

    def random(self, n: int, rng: Generator) -> Floats:
        """(n, D) codes of samples of the data."""
        ...

    def fixed(self, factors: Ints, size: int, rng: Generator) -> Floats:
        """(B, size, D): in batch b, all samples share one random value of factor `factors[b]`."""
        ...

    def pairs(self, factors: Ints, size: int, rng: Generator) -> tuple[Floats, Floats]:
        """Twice (B, size, D): in batch b, the two samples of each pair share the value of factor `factors[b]`."""
        ...


class ArraySource:
    """Draws rows with replacement; a factor is held by drawing among the rows that have its value.

    Values of a factor that a single row has are not held fixed (a batch of one row would vary in no code at all).
    """

    def __init__(self, codes: Values, factors: Values, factor_bins: int | None = None) -> None:
        self.codes, self.factors = check_pair(codes, factors, factor_bins)
        self.n_factors = self.factors.shape[1]
        self._groups = [_Groups(column, k) for k, column in enumerate(self.factors.T)]

    def random(self, n: int, rng: Generator) -> Floats:
        """All rows once, if n is their number or more; else n of them."""
        return self.codes if n >= len(self.codes) else self.codes[rng.choice(len(self.codes), n, replace=False)]

    def fixed(self, factors: Ints, size: int, rng: Generator) -> Floats:
        rows = np.empty((len(factors), size), dtype=np.int64)
        for k, groups in enumerate(self._groups):
            batches = np.flatnonzero(factors == k)
            anchors = rng.choice(groups.eligible, len(batches))
            rows[batches] = groups.companions(np.repeat(anchors[:, None], size, axis=1), rng)
        return self.codes[rows]

    def pairs(self, factors: Ints, size: int, rng: Generator) -> tuple[Floats, Floats]:
        first = np.empty((len(factors), size), dtype=np.int64)
        second = np.empty_like(first)
        for k, groups in enumerate(self._groups):
            batches = np.flatnonzero(factors == k)
            anchors = rng.choice(groups.eligible, (len(batches), size))
            first[batches], second[batches] = anchors, groups.companions(anchors, rng)
        return self.codes[first], self.codes[second]


class _Groups:
    """Rows sorted by the value of one factor."""

    def __init__(self, column: Ints, k: int) -> None:
        value_of_row, n_values = ranks_of_values(column)
        counts = np.bincount(value_of_row, minlength=n_values)
        self.order = np.argsort(value_of_row, kind="stable")
        self.start, self.count = (np.cumsum(counts) - counts)[value_of_row], counts[value_of_row]
        self.eligible = np.flatnonzero(self.count > 1)
        if not len(self.eligible):
            raise UserError(
                f"no two rows share a value of column {k}, so it cannot be held fixed", where="factors", fix="bin it"
            )

    def companions(self, rows: Ints, rng: Generator) -> Ints:
        offsets = (rng.random(rows.shape) * self.count[rows]).astype(np.int64)
        return self.order[self.start[rows] + offsets]


class GroundTruthSource:
    """A data set whose samples can be made from chosen factors.

    Args:
        sample_factors: (n, rng) -> (n, K) random factor values.
        encode: (n, K) factor values -> (n, D) codes (renders and encodes; may draw what the factors leave open).
        batch: samples encoded at a time.
    """

    def __init__(
        self,
        n_factors: int,
        sample_factors: Callable[[int, Generator], Any],
        encode: Callable[[Any], Any],
        *,
        batch: int = 1024,
    ) -> None:
        self.n_factors, self._sample, self._encode, self._batch = n_factors, sample_factors, encode, batch

    def random(self, n: int, rng: Generator) -> Floats:
        return self._codes(np.asarray(self._sample(n, rng)))

    def fixed(self, factors: Ints, size: int, rng: Generator) -> Floats:
        v = self._batches(len(factors), size, rng)
        batches = np.arange(len(factors))
        v[batches, :, factors] = v[batches, 0, factors][:, None]
        return self._codes(v)

    def pairs(self, factors: Ints, size: int, rng: Generator) -> tuple[Floats, Floats]:
        first, second = self._batches(len(factors), size, rng), self._batches(len(factors), size, rng)
        batches = np.arange(len(factors))
        second[batches, :, factors] = first[batches, :, factors]
        return self._codes(first), self._codes(second)

    def _batches(self, n: int, size: int, rng: Generator) -> Any:
        v = np.array(self._sample(n * size, rng))
        if v.ndim != 2 or v.shape != (n * size, self.n_factors):
            raise UserError(f"gave shape {v.shape}", where="sample_factors", fix=f"return (n, {self.n_factors})")
        return v.reshape(n, size, self.n_factors)

    def _codes(self, factors: Any) -> Floats:
        flat = factors.reshape(-1, factors.shape[-1])
        parts = [self._encode(flat[i : i + self._batch]) for i in range(0, len(flat), self._batch)]
        codes = check_codes(np.concatenate([np.asarray(p) for p in parts]), name="encode")
        return codes.reshape(*factors.shape[:-1], -1)
