"""The data as metrics see it: a split preprocessed once, the same draws for every metric and every method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from latentbench.core.seeds import Seeds, generator
from latentbench.core.types import Batch, DataInfo
from latentbench.data.columns import AnyColumn, Ragged
from latentbench.data.rows import RaggedTensor, Rows, on_device

if TYPE_CHECKING:
    from latentbench.data.preprocess import Pipeline

#: Rows that are preprocessed with one generator: part of the meaning of a seed, not a tuning knob.
BLOCK = 1024


@dataclass(frozen=True)
class View:
    """A split under a run's preprocessing.

    Attributes:
        x: (N, *shape) float32 on the evaluation device.
        log_abs_det: (N,) nats to add to a log-density of x, so that it is one of the raw data.
        columns: the split's further columns, numpy, N rows each (labels, factors …).
        raw: (N, …) rows as stored.
        info: what models were told.
        pipeline: the fitted preprocessing.
        entry: the registry entry (factor names and sizes …).
        oracle: the exact density of a generated dataset, or None; `log_prob(raw)` in nats.
        train: the training split as another View, made on demand.
        parts: everything by name as tensors, as `latentbench.core.types.Batch` has it in training; `batch` gives rows.
        edges, sparse: the column with the edges of each row, where rows are graphs; those of sparse matrices.
    """

    x: Tensor
    log_abs_det: Tensor
    raw: Any
    columns: Mapping[str, Any]
    info: DataInfo
    pipeline: Pipeline
    entry: Any
    oracle: Any = None
    _train: Any = field(default=None, repr=False)
    _whole: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _offsets: Tensor | None = field(default=None, repr=False)
    edges: str | None = None
    sparse: Mapping[str, tuple[int, str | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x) if self._offsets is None else len(self._offsets) - 1

    @cached_property
    def _rows(self) -> Rows:
        items = self.x
        if self._offsets is not None and self.edges is None:
            items = self.x[RaggedTensor(self.x, self._offsets).mask]
        return Rows(
            items if self._offsets is None else RaggedTensor(items, self._offsets),
            {k: on_device(v, self.device) for k, v in self.columns.items()},
            {k: torch.from_numpy(v[:].copy()).to(self.device) for k, v in self._whole.items()},
            self.edges,
            self.sparse,
        )

    def batch(self, index: Tensor | None = None) -> Batch:
        """The rows at `index`, or all, as training sees them."""
        x, columns = self._rows.select(index, lambda items: items)
        return Batch(x, self.info.n_train, columns=columns, index=torch.arange(len(self)) if index is None else index)

    @property
    def parts(self) -> Mapping[str, Tensor]:
        return self.batch().parts

    @property
    def dims(self) -> int:
        """Coordinates of one sample: what bits per dimension divide by."""
        return self.info.dims

    @property
    def device(self) -> torch.device:
        return self.x.device

    def blocks(self, size: int = BLOCK) -> Iterator[slice]:
        """Slices of at most `size` rows that cover the split."""
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    @property
    def train(self) -> View:
        """The training split under the same preprocessing, without augmentation."""
        if self._train is None:
            raise LookupError("this view was made without its training split")
        return self._train() if callable(self._train) else self._train


def make_view(
    raw: AnyColumn,
    columns: Mapping[str, AnyColumn],
    pipeline: Pipeline,
    info: DataInfo,
    entry: Any,
    oracle: Any,
    seed: int | Seeds,
    split: str,
    device: torch.device,
    train: Any = None,
    whole: Mapping[str, AnyColumn] | None = None,
    edges: str | None = None,
    sparse: Mapping[str, tuple[int, str | None]] | None = None,
) -> View:
    """Preprocess a split. The draws depend on seed, split and row alone: neither on the method nor on batch sizes.

    Of ragged rows `x` is padded to the longest, and of graphs it has all nodes; ``log_abs_det`` is of whole rows.
    """
    xs, dets = [], []
    for start in range(0, len(raw), BLOCK):
        draws = generator(seed, "preprocess", split, start // BLOCK)
        rows = raw[start : start + BLOCK]
        y, log_abs_det = pipeline.forward(rows.values if isinstance(rows, Ragged) else rows, draws)
        if isinstance(rows, Ragged):
            of = torch.from_numpy(np.repeat(np.arange(len(rows)), rows.lengths))
            log_abs_det = torch.zeros(len(rows)).index_add_(0, of, log_abs_det)
        xs.append(y)
        dets.append(log_abs_det)
    x, offsets = torch.cat(xs).to(device), None
    if isinstance(raw, Ragged):
        offsets = torch.from_numpy(raw.offsets.astype("int64")).to(device)
        x = x if edges is not None else RaggedTensor(x, offsets).padded()
    known = (info, pipeline, entry, oracle, train)
    return View(x, torch.cat(dets).to(device), raw, columns, *known, whole or {}, offsets, edges, sparse or {})
