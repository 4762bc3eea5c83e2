"""In which order a training sees its rows, and how long it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from latentbench.core.seeds import Seeds, generator
from latentbench.spec.protocol import TrainingProtocol


class NoLength(ValueError):
    """A protocol that does not say how long the training is."""


@dataclass(frozen=True)
class Order:
    """The batches of a training.

    Attributes:
        rows: of the training set.
        size: rows of a full batch.
        each: batches that one step takes; an epoch is over when its batches are taken.
        whole: a batch is the training set in its own order, as what refers to rows by number needs it.
        last: steps in all; None where the training ends when the model says so.
    """

    rows: int
    size: int
    each: int
    whole: bool
    last: int | None

    @classmethod
    def of(cls, spec: TrainingProtocol, rows: int, *, iterative: bool = False) -> Order:
        """The order that a protocol asks for on `rows` training rows.

        Args:
            iterative: each step sees the whole training set, and without a length goes on until the model is done.

        Raises:
            NoLength: the protocol has none.
        """
        whole = iterative or spec.batch_size == "whole"
        size, each = (max(1, rows) if whole else spec.batch_rows(rows)), spec.batches_per_step
        epochs, steps = spec.length
        if steps is None and epochs is not None:
            steps = math.ceil(epochs * math.ceil(rows / size) / each)
        if steps is None and not iterative:
            raise NoLength("training has neither `epochs`, `steps` nor a schedule of stages")
        return cls(rows, size, each, whole, steps)

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch."""
        return math.ceil(self.rows / self.size)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the last of which may reach into the next one."""
        return math.ceil(self.per_epoch / self.each)

    def epochs(self, steps: int) -> float:
        """Epochs that so many steps are."""
        return steps * self.each / self.per_epoch

    def ends_epoch(self, step: int) -> bool:
        """Whether the step that comes to `step` steps ends an epoch."""
        return self.epochs_done(step) > self.epochs_done(step - 1)

    def epochs_done(self, steps: int) -> int:
        """Whole epochs that so many steps are."""
        return steps * self.each // self.per_epoch

    def batches(
        self, done: int, seed: int | Seeds, device: torch.device, stage: tuple[str, ...] = ()
    ) -> Iterator[Tensor]:
        """Row numbers of each batch after `done` steps.

        Every epoch is a fresh permutation, which depends on seed, stage and epoch.
        """
        batch, end = done * self.each, None if self.last is None else self.last * self.each
        if self.whole:
            every = torch.arange(self.rows, device=device)
            while end is None or batch < end:
                yield every
                batch += 1
            return
        while end is None or batch < end:
            epoch, first = divmod(batch, self.per_epoch)
            order = torch.randperm(self.rows, generator=generator(seed, "order", *stage, epoch)).to(device)
            for start in range(first * self.size, self.rows, self.size):
                if batch == end:
                    return
                yield order[start : start + self.size]
                batch += 1


def total_steps(spec: TrainingProtocol, rows: int) -> int:
    """Optimiser steps of a protocol on `rows` training rows.

    Raises:
        NoLength: the protocol has none.
    """
    steps = Order.of(spec, rows).last
    assert steps is not None  # it has a length
    return steps
