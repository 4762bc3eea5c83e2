"""Rows of a split on the training device, preprocessed as they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from latentbench.core.types import Batch

if TYPE_CHECKING:
    from latentbench.data.preprocess import Pipeline

#: Deterministic preprocessing of the whole split is done once if the result takes no more than this.
KEEP_BYTES = 2 << 30


class Source:
    """A split whose batches are index selections.

    Args:
        raw: (N, …) rows as they are stored.
        columns: further columns of N rows.
        pipeline: fitted preprocessing.
        device: where the rows live.
        dims: coordinates of one preprocessed row.
        augment: apply the steps that are for training rows only.
    """

    def __init__(
        self,
        raw: Tensor,
        columns: Mapping[str, Tensor],
        pipeline: Pipeline,
        device: torch.device,
        dims: int,
        *,
        augment: bool,
    ) -> None:
        self._augment = augment and pipeline.augments
        self._rows = pipeline.arrange(raw.to(device))
        self._columns = {k: v.to(device) for k, v in columns.items()}
        self._pipeline: Pipeline | None = pipeline
        if not pipeline.stochastic and not self._augment and len(raw) * dims * 4 <= KEEP_BYTES:
            self._rows = pipeline.values(self._rows)
            self._pipeline = None

    @classmethod
    def ready(cls, x: Tensor, columns: Mapping[str, Tensor]) -> Source:
        """Rows (N, ...) that need no preprocessing, with further columns of N rows, where they lie."""
        made = cls.__new__(cls)
        made._augment, made._rows, made._columns, made._pipeline = False, x, dict(columns), None
        return made

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, index: Tensor, noise: Generator, step: int, progress: float) -> Batch:
        """The rows at `index`, with fresh preprocessing noise from `noise`."""
        rows = self._rows.index_select(0, index)  # far faster than rows[index]
        x = rows if self._pipeline is None else self._pipeline.values(rows, noise, train=self._augment)
        columns = {k: v.index_select(0, index) for k, v in self._columns.items()}
        return Batch(x, len(self), step, progress, columns)

    def whole(self, noise: Generator) -> Batch:
        """All rows, in their own order."""
        return self.batch(torch.arange(len(self), device=self._rows.device), noise, 0, 0.0)
