"""What a step of preprocessing is: bound to the state of the rows before it, it maps rows forth and back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Generator, Tensor

from latentbench.core.types import Support


@dataclass(frozen=True)
class State:
    """What is known of the rows at one place of a pipeline.

    Attributes:
        shape: of one row.
        support: kind of values, as in `DataInfo`.
        top: values lie in ``[0, top]`` (``[0, top)`` once dequantised); None where unbounded or shifted.
        levels: number of integer values, while discrete.
        dequantised: values are continuous and lie below `top`.
    """

    shape: tuple[int, ...]
    support: Support
    top: float | None = None
    levels: int | None = None
    dequantised: bool = False

    @property
    def dims(self) -> int:
        return math.prod(self.shape)


class Step:
    """One step. Subclasses take their parameters in the constructor and override what differs from the identity.

    Attributes:
        name: as in a suite.
        stochastic: draws noise in `forward`.
        train_only: applied to training batches alone (augmentation), and no part of what a metric measures.
        linear: the mean of y is the map of the mean of x (noise averaged out).
        log_volume: log |dy/dx| in nats where it is the same for every row, once bound and fitted; else None.
        new_variable: what comes out is another random variable (bits drawn from intensities), so volumes of the steps
            before it say nothing of its likelihood.
    """

    name: ClassVar[str]
    stochastic: bool = False
    train_only: bool = False
    linear: bool = True
    log_volume: float | None = 0.0
    new_variable: bool = False

    def params(self) -> dict[str, Any]:
        """Parameters that tell this step from others of its name, as plain values."""
        return {}

    def bind(self, state: State) -> State:
        """Take note of the state before this step, and say the one after it. Raises UserError where it cannot be."""
        return state

    def map(self, y: Tensor) -> Tensor:
        """(N, *before) -> (N, *after), both float32, of a step without noise; may write into `y`."""
        return y

    def forward(self, y: Tensor, generator: Generator | None) -> Tensor:
        """As `map`, with noise drawn from `generator`; may write into `y` too."""
        return self.map(y)

    def log_abs_det(self, after: Tensor) -> Tensor | float:
        """log |d after / d before|: (N,) nats, or one number for all rows."""
        assert self.log_volume is not None  # a step whose volume depends on the row overrides this
        return self.log_volume

    def inverse(self, y: Tensor) -> Tensor:
        """(N, *after) -> (N, *before)."""
        return y

    def mean(self, mean: Tensor) -> Tensor:
        """Mean of the output given the mean of the input, where `linear`; shapes of one row; may write into `mean`."""
        return self.map(mean[None])[0]


class Learner(Step):
    """A step that learns from the training split."""

    fitted: bool = False

    def fit(self, rows: Iterable[Tensor]) -> None:
        """Learn from the training rows (in chunks, as they arrive at this step)."""
        raise NotImplementedError
