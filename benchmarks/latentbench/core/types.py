"""The values that pass between data, models, training and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

Support = Literal["binary", "unit", "real", "discrete"]
#: What a part of the data is for.
Role = Literal[
    "sample", "label", "factors", "condition", "view", "mask", "time", "action", "weight", "edges", "rows", "other"
]


@dataclass(frozen=True)
class Part:
    """What is known of one named part of the data.

    Attributes:
        shape: of one row; of one item where it is ragged, and where it belongs to the whole problem.
        support, levels: as in `DataInfo`.
        role: what it is for: the sample, a label, the edges of a graph, row numbers, ...
        ragged: rows have lengths of their own. Batches are padded to the longest row, with parts ``lengths`` (N,) and
            ``mask`` (N, L) beside it; graphs are laid side by side instead, see `Batch`.
        longest: most items of a row, over all splits; None where it is not ragged or not known.
        whole: it belongs to the whole problem, not to its rows: every batch has all of it.
        sparse: batches have it as a matrix in compressed rows (`torch.sparse_csr`), (N, *shape).
    """

    shape: tuple[int, ...]
    support: Support = "real"
    levels: int | None = None
    role: Role = "other"
    ragged: bool = False
    longest: int | None = None
    whole: bool = False
    sparse: bool = False


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
        parts: all that a batch holds, by name; ``x`` is the main part, of `shape`, `support` and `levels`.
    """

    shape: tuple[int, ...]
    support: Support
    n_train: int
    levels: int | None = None
    mean: Tensor | None = None
    columns: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "x" not in self.parts:
            others = {name: Part(tuple(shape)) for name, shape in self.columns.items()}
            main = Part(tuple(self.shape), self.support, self.levels, "sample")
            object.__setattr__(self, "parts", {"x": main, **others, **self.parts})

    def named(self, role: Role) -> list[str]:
        """Names of the parts of a role."""
        return [name for name, part in self.parts.items() if part.role == role]

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

    Of ragged rows `x` is (N, L, *shape), padded with zeros to the longest, with the columns ``lengths`` and ``mask``.
    Of graphs all nodes lie end to end: `x` is (nodes, *shape), ``edges`` (E, 2) counts nodes through the batch,
    ``graph`` (nodes,) says which graph a node is of, and ``nodes`` (N,) how many each has.

    Attributes:
        x: (N, *shape) float32 preprocessed samples.
        n_train: size of the whole training set (minibatch estimators of the aggregate posterior need it).
        step: optimiser steps done so far, 0 at the first batch.
        progress: share of training done, in [0, 1).
        columns: further parts by name: columns of N rows, and what belongs to the whole problem.
        index: (N,) numbers of the rows in the split that they are of; None where a batch is made up.
    """

    x: Tensor
    n_train: int
    step: int = 0
    progress: float = 0.0
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    index: Tensor | None = None

    @property
    def parts(self) -> Mapping[str, Tensor]:
        """Everything by name, with `x` as ``x``."""
        return {"x": self.x, **self.columns}


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
