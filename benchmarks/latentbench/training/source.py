"""Rows of a split on the training device, preprocessed as they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from latentbench.core.types import Batch
from latentbench.data.rows import RaggedTensor, Rows

if TYPE_CHECKING:
    from latentbench.data.preprocess import Pipeline

#: Deterministic preprocessing of the whole split is done once if the result takes no more than this.
KEEP_BYTES = 2 << 30


class Source:
    """A split whose batches are index selections.

    Args:
        raw: (N, …) rows as they are stored, or ragged ones, whose items are preprocessed as rows are.
        columns: further columns of N rows.
        pipeline: fitted preprocessing.
        device: where the rows live.
        dims: coordinates of one preprocessed row (item).
        augment: apply the steps that are for training rows only.
        whole: parts that belong to the whole problem: every batch has all of them.
        edges: the column with the edges of each row, where rows are graphs.
        sparse: columns that are rows of a sparse matrix, as `latentbench.data.rows.Rows` has them.
    """

    def __init__(
        self,
        raw: Tensor | RaggedTensor,
        columns: Mapping[str, Tensor | RaggedTensor],
        pipeline: Pipeline,
        device: torch.device,
        dims: int,
        *,
        augment: bool,
        whole: Mapping[str, Tensor] | None = None,
        edges: str | None = None,
        sparse: Mapping[str, tuple[int, str | None]] | None = None,
    ) -> None:
        self._augment = augment and pipeline.augments
        items = raw.values if isinstance(raw, RaggedTensor) else raw
        arranged = pipeline.arrange(items.to(device))
        self._pipeline: Pipeline | None = pipeline
        if not pipeline.stochastic and not self._augment and len(items) * dims * 4 <= KEEP_BYTES:
            arranged = pipeline.values(arranged)
            self._pipeline = None
        main = replace(_to(raw, device), values=arranged) if isinstance(raw, RaggedTensor) else arranged
        self._rows = Rows(
            main,
            {k: _to(v, device) if isinstance(v, RaggedTensor) else v.to(device) for k, v in columns.items()},
            {k: v.to(device) for k, v in (whole or {}).items()},
            edges,
            sparse or {},
        )
        self._index = torch.arange(len(self._rows), device=device)

    @classmethod
    def ready(cls, x: Tensor, columns: Mapping[str, Tensor]) -> Source:
        """Rows (N, ...) that need no preprocessing, with further columns of N rows, where they lie."""
        made = cls.__new__(cls)
        made._augment, made._pipeline, made._rows = False, None, Rows(x, dict(columns), {})
        made._index = torch.arange(len(x), device=x.device)
        return made

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, index: Tensor, noise: Generator, step: int, progress: float) -> Batch:
        """The rows at `index`, with fresh preprocessing noise from `noise`."""
        return self._batch(index, noise, step, progress)

    def whole(self, noise: Generator, step: int = 0, progress: float = 0.0) -> Batch:
        """All rows, in their own order."""
        return self._batch(None, noise, step, progress)

    def _batch(self, index: Tensor | None, noise: Generator, step: int, progress: float) -> Batch:
        def values(items: Tensor) -> Tensor:
            return items if self._pipeline is None else self._pipeline.values(items, noise, train=self._augment)

        x, columns = self._rows.select(index, values)
        return Batch(x, len(self), step, progress, columns, self._index if index is None else index)


def _to(rows: RaggedTensor, device: torch.device) -> RaggedTensor:
    return RaggedTensor(rows.values.to(device), rows.offsets.to(device))
