"""The data as metrics see it: a split preprocessed once, the same draws for every metric and every method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latentbench.core.seeds import Seeds, generator
from latentbench.core.types import DataInfo

if TYPE_CHECKING:
    import numpy as np

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
    """

    x: Tensor
    log_abs_det: Tensor
    raw: np.ndarray
    columns: Mapping[str, np.ndarray]
    info: DataInfo
    pipeline: Pipeline
    entry: Any
    oracle: Any = None
    _train: Any = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.x)

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
    raw: np.ndarray,
    columns: Mapping[str, np.ndarray],
    pipeline: Pipeline,
    info: DataInfo,
    entry: Any,
    oracle: Any,
    seed: int | Seeds,
    split: str,
    device: torch.device,
    train: Any = None,
) -> View:
    """Preprocess a split. The draws depend on seed, split and row alone: neither on the method nor on batch sizes."""
    xs, dets = [], []
    for start in range(0, len(raw), BLOCK):
        draws = generator(seed, "preprocess", split, start // BLOCK)
        y, log_abs_det = pipeline.forward(raw[start : start + BLOCK], draws)
        xs.append(y)
        dets.append(log_abs_det)
    return View(
        torch.cat(xs).to(device), torch.cat(dets).to(device), raw, columns, info, pipeline, entry, oracle, train
    )
