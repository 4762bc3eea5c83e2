"""Preprocessing as declared: from stored rows to what a model sees, with exact likelihood book-keeping.

For a pipeline y = f(x) (with noise where it dequantises), ``log p(x) = log p_model(y) + log_abs_det`` where x counts in
stored units (pixels 0 .. 256, say), so bits per dimension are ``-log p(x) / (dims * ln 2)`` with no constant to add.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.types import DataInfo
from latentbench.data.columns import AnyColumn, Indexed, Ragged
from latentbench.data.registry import Column
from latentbench.data.splits import sample_rows
from latentbench.data.step import Learner, State, Step
from latentbench.discovery import finding

Rows = np.ndarray | Tensor
_CHUNK = 4096
_SAMPLED = 20_000


class Pipeline:
    """A chain of steps behind the change of layout: float32, images channels first ((H, W) -> (1, H, W))."""

    def __init__(self, steps: Sequence[Step], column: Column | None = None) -> None:
        self.steps = tuple(steps)
        self._column: Column | None = None
        self._state: State | None = None
        if column is not None:
            self._bind(column)

    @property
    def stochastic(self) -> bool:
        """Whether `forward` draws noise (on data that are not for training)."""
        return any(s.stochastic for s in self.steps if not s.train_only)

    @property
    def augments(self) -> bool:
        """Whether `forward` treats training rows otherwise than others."""
        return any(s.train_only for s in self.steps)

    @property
    def quantity(self) -> list[dict[str, Any]]:
        """What decides which quantity is measured, as plain values: the steps that do not say that they leave it as it
        is, in order with all parameters (and their version, once it has been raised)."""
        found = []
        for step in self.steps:
            declared = finding.find("step", step.name).arguments
            if not declared["same_quantity"]:
                version = {"version": declared["version"]} if declared["version"] > 1 else {}
                found.append({"name": step.name, **version, **step.params()})
        return found

    def fit(self, train_x: AnyColumn) -> None:
        """Bind to the stored form and fit the steps that learn, on the training rows alone.

        Raises:
            UserError: the steps do not fit the data or each other.
        """
        self._bind(self._column or _guess(train_x))
        for k, step in enumerate(self.steps):
            if isinstance(step, Learner):
                step.fit(self._through(train_x, k))

    def forward(self, x: Rows, generator: Generator | None = None, *, train: bool = False) -> tuple[Tensor, Tensor]:
        """Stored rows to model space.

        Args:
            x: (N, *stored shape), stored dtype; numpy or tensor (the result stays on its device).
            generator: source of all noise; None will do where nothing is `stochastic`.
            train: also apply augmentation.

        Returns:
            y (N, *shape) float32 and log |dy/dx| (N,) float32 nats.
        """
        self._ready()
        y = _floats(self.arrange(x))
        total = torch.zeros(len(y), dtype=torch.float32, device=y.device)
        for step in self._applied(train):
            y = step.forward(y, generator)
            total = torch.zeros_like(total) if step.new_variable else total + step.log_abs_det(y)
        return y, total

    def arrange(self, x: Rows) -> Tensor:
        """Stored rows, images channels first, in the stored dtype and in C order (`x` itself where it is all that)."""
        column = self._known()
        tensor = x if isinstance(x, Tensor) else _tensor(x)
        if tuple(tensor.shape[1:]) != column.shape:
            raise UserError(f"rows of shape {tuple(tensor.shape[1:])}, stored are {column.shape}")
        if _is_image(column):
            tensor = tensor[:, None] if len(column.shape) == 2 else tensor.permute(0, 3, 1, 2)
        return tensor.contiguous()

    def values(self, arranged: Tensor, generator: Generator | None = None, *, train: bool = False) -> Tensor:
        """The y of `forward` alone, of rows that `arrange` gave: what training needs, batch by batch."""
        self._ready()
        y = _floats(arranged)
        for step in self._applied(train):
            y = step.forward(y, generator)
        return y

    def inverse(self, y: Tensor) -> Tensor:
        """Model space back to stored layout and units: (N, *stored shape) float32, cut to the range of the levels."""
        self._ready()
        for step in reversed(self.steps):
            y = step.inverse(y)
        column = self._known()
        if _is_image(column):
            y = y[:, 0] if len(column.shape) == 2 else y.permute(0, 2, 3, 1)
        return y if column.levels is None else y.clamp(0, column.levels - 1)

    @property
    def state(self) -> State:
        """Shape and support of what comes out, known once the stored form is (before anything is fitted)."""
        self._known()
        assert self._state is not None  # bound together with the column
        return self._state

    @property
    def log_volume(self) -> float | None:
        """log |dy/dx| where it is the same for every row (nats a sample); None where it depends on the row (logit)."""
        self._ready()
        total = 0.0
        for step in self.steps[1 + max((k for k, s in enumerate(self.steps) if s.new_variable), default=-1) :]:
            if step.log_volume is None:
                return None
            total += step.log_volume
        return total

    def info(self, train_x: AnyColumn, columns: Mapping[str, AnyColumn] | None = None) -> DataInfo:
        """What a model is told of the data.

        Args:
            train_x: training rows as stored.
            columns: further columns of the training split, for their shapes.
        """
        self._ready()
        assert self._state is not None  # _ready has seen to it
        state = self._state
        shapes = {name: _row_shape(c) for name, c in (columns or {}).items()}
        return DataInfo(
            shape=state.shape,
            support=state.support,
            n_train=len(train_x),
            levels=state.levels if state.support == "discrete" else None,
            mean=self._mean(train_x),
            columns=shapes,
        )

    def _mean(self, train_x: AnyColumn) -> Tensor:
        """Mean of the preprocessed training rows, noise averaged out where that is exact, else from one draw."""
        if isinstance(train_x, Ragged):
            raise UserError("rows of varying length have no mean row")
        if all(s.linear for s in self.steps):
            total, count = torch.zeros(self._known().shape, dtype=torch.float64), 0
            for rows in _chunks(train_x):
                sums = rows.sum(0, dtype=np.int64 if rows.dtype.kind in "iu" else np.float64)
                total += torch.from_numpy(np.asarray(sums))
                count += len(rows)
            mean = _floats(self.arrange((total / max(count, 1)).to(torch.float32)[None]))[0]
            for step in self.steps:
                mean = step.mean(mean)
            return mean
        state = self._state
        assert state is not None  # callers are ready
        total, count = torch.zeros(state.shape, dtype=torch.float64), 0
        for y in self._through(train_x, len(self.steps)):
            total += y.to(torch.float64).sum(0)
            count += len(y)
        return (total / max(count, 1)).to(torch.float32)

    def _through(self, x: AnyColumn, k: int) -> Iterator[Tensor]:
        """Training rows in chunks as they stand before step k, with a fixed stream of noise and no augmentation."""
        generator = torch.Generator().manual_seed(0)
        for rows in _chunks(x):
            y = _floats(self.arrange(rows))
            for step in self.steps[:k]:
                if not step.train_only:
                    y = step.forward(y, generator)
            yield y

    def _applied(self, train: bool) -> Iterator[Step]:
        return (step for step in self.steps if train or not step.train_only)

    def _bind(self, column: Column) -> None:
        self._column = column
        state = _initial(column)
        for step in self.steps:
            state = step.bind(state)
        self._state = state

    def _known(self) -> Column:
        if self._column is None:
            raise UserError("this pipeline does not know its data yet", fix="call fit(train_x) first")
        return self._column

    def _ready(self) -> None:
        self._known()
        for step in self.steps:
            if isinstance(step, Learner) and not step.fitted:
                raise UserError(f"step {step.name} is not fitted", fix="call fit(train_x) first")


def build(steps: Sequence[str | Mapping[str, Any]], column: Column | None = None) -> Pipeline:
    """The pipeline that a suite declares.

    Args:
        steps: each a name, or one name with its parameter(s): ``["flatten", {"binarise": "dynamic"}]``,
            ``{"logit": {"alpha": 0.05}}``; a single value is the step's first parameter, a list its first ones.
        column: how the data are stored (``dataset.column()``). Left out, it is taken from the training rows at `fit`,
            where they leave no doubt of the number of levels.

    Raises:
        UserError: unknown step or parameter, or steps that do not follow on each other.
    """
    return Pipeline([_step(s) for s in steps], column)


def _step(spec: str | Mapping[str, Any]) -> Step:
    if isinstance(spec, str):
        name, given = spec, None
    elif isinstance(spec, Mapping) and len(spec) == 1:
        name, given = next(iter(spec.items()))
    else:
        raise UserError(f"a preprocessing step is a name or one name with its parameters, not {spec!r}")
    made: type[Step] = finding.thing(finding.find("step", str(name)))
    known = [p for p in inspect.signature(made).parameters if p not in ("args", "kwargs")]
    if given is None:
        given = {}
    elif not isinstance(given, Mapping):
        values = list(given) if isinstance(given, list | tuple) else [given]
        if len(values) > len(known):
            raise UserError(f"step {name} takes {len(known)} parameters, {len(values)} are given")
        given = dict(zip(known, values))
    for key in given:
        if key not in known:
            raise UserError(
                f"step {name} has no parameter {key!r}", fix=did_you_mean(str(key), known) if known else None
            )
    try:
        return made(**given)
    except (TypeError, ValueError) as e:
        raise UserError(f"step {name}: {e}") from e


def _initial(column: Column) -> State:
    if column.ragged:
        raise UserError("rows of varying length are not preprocessed", fix="read the column as it is")
    shape = column.shape
    if _is_image(column):
        shape = (1, *shape) if len(shape) == 2 else (shape[2], *shape[:2])
    if column.levels is None:
        return State(shape, "unit" if column.top == 1 else "real", column.top)
    return State(shape, "binary" if column.levels == 2 else "discrete", float(column.levels - 1), column.levels)


def _is_image(column: Column) -> bool:
    """8-bit matrices, and those with up to four channels last, are images."""
    shape = column.shape
    return column.dtype == "uint8" and (len(shape) == 2 or (len(shape) == 3 and shape[2] <= 4))


def _guess(x: AnyColumn) -> Column:
    if isinstance(x, Ragged):
        raise UserError("rows of varying length are not preprocessed", fix="read the column as it is")
    dtype, shape = str(x.dtype), tuple(x.shape[1:])
    if dtype.startswith("float"):
        return Column(shape=shape, dtype=dtype)
    if dtype == "uint8" and isinstance(x, np.ndarray) and x.size and int(x.max()) > 127:
        return Column(shape=shape, dtype="uint8", levels=256)
    raise UserError(f"the number of levels of {dtype} rows is not known", fix="build(steps, dataset.column())")


def _row_shape(column: AnyColumn) -> tuple[int, ...]:
    return column.item_shape if isinstance(column, Ragged) else tuple(column.shape[1:])


def _chunks(x: AnyColumn) -> Iterator[np.ndarray]:
    """Rows in order, by the chunk; of rendered rows a sample."""
    if isinstance(x, Indexed):
        rows = sample_rows(len(x), _SAMPLED)
        for start in range(0, len(rows), _CHUNK):
            yield x[rows[start : start + _CHUNK]]
        return
    for start in range(0, len(x), _CHUNK):
        yield np.asarray(x[start : start + _CHUNK])


def _tensor(x: np.ndarray) -> Tensor:
    """A tensor of `x`, copied where numpy forbids writing (memory-mapped data)."""
    return torch.from_numpy(x if x.flags.writeable and x.flags.c_contiguous else x.copy())


def _floats(rows: Tensor) -> Tensor:
    """A float32 copy, which steps may write into."""
    return rows.to(torch.float32, copy=True)
