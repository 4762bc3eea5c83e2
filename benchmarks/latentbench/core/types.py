"""The values that pass between data, models, training and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

Support = Literal["binary", "unit", "real", "discrete"]


@dataclass(frozen=True)
class DataInfo:
    """What a model may know of the data before it sees any: passed first to every model.

    Attributes:
        shape: shape of one preprocessed sample, channels first for images, e.g. ``(784,)``, ``(3, 32, 32)``.
        support: values that a sample takes after preprocessing: ``binary`` {0, 1}, ``unit`` [0, 1],
            ``real``, or ``discrete`` (integers ``0 .. levels - 1``).
        n_train: number of training samples.
        levels: number of values of one ``discrete`` coordinate.
        mean: per-coordinate mean of the preprocessed training set, float32, of `shape` (None if not numeric).
        columns: shapes of further columns that each sample carries (labels, factors, masks …).
    """

    shape: tuple[int, ...]
    support: Support
    n_train: int
    levels: int | None = None
    mean: Tensor | None = None
    columns: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def dims(self) -> int:
        """Number of coordinates of one sample."""
        n = 1
        for s in self.shape:
            n *= s
        return n


@dataclass
class Batch:
    """A minibatch as a model receives it.

    Attributes:
        x: (N, *shape) float32 preprocessed samples.
        n_train: size of the whole training set (minibatch estimators of the aggregate posterior need it).
        step: optimiser steps done so far, 0 at the first batch.
        progress: share of training done, in [0, 1).
        columns: further columns, each with N rows.
    """

    x: Tensor
    n_train: int
    step: int = 0
    progress: float = 0.0
    columns: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricValue:
    """A measured number.

    Attributes:
        value: the number, in the metric's unit.
        se: standard error of `value` as an estimate over the evaluation sample, where one exists.
        n: number of evaluation samples behind it.
        details: further numbers worth keeping (rate and distortion, effective sample size …).
    """

    value: float
    se: float | None = None
    n: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Elbo:
    """The two halves of an evidence lower bound, in nats per sample, each (N,): elbo = -(rate + distortion).

    `rate` is KL(q(z|x) || p(z)) or its one-sample estimate, `distortion` is -E_q log p(x|z).
    """

    rate: Tensor
    distortion: Tensor

    @property
    def value(self) -> Tensor:
        return -(self.rate + self.distortion)
