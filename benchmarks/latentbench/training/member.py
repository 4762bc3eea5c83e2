"""One of several trainings that are done as one program: what it is given, and what of its state is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from latentbench.core.errors import Diverged
from latentbench.core.seeds import Seeds, derive, generator
from latentbench.spec.protocol import Training
from latentbench.training.loop import Progress
from latentbench.training.optim import build_optimizer
from latentbench.training.order import Order
from latentbench.training.state import Average, Best, Checkpointer, Standing

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from latentbench.training.source import Source


@dataclass
class Member:
    """One of the trainings.

    Attributes:
        model: with its initial weights; at the end with those that are to be evaluated.
        spec: its protocol; those of a stack differ in the learning rate at most.
        seed: its seed.
        on_progress, on_log: told of its progress and of each row of its curve.
        checkpoints: where its state is kept.
        kept: the state that it goes on from; all members of a stack stand at the same step.
    """

    model: nn.Module
    spec: Training
    seed: int | Seeds
    on_progress: Callable[[Progress], None] = lambda _: None
    on_log: Callable[[dict[str, float]], None] = lambda _: None
    checkpoints: Checkpointer | None = None
    kept: dict[str, Any] | None = None


class Place:
    """A member's own part of the program: what alone would be the local variables of `loop.train`."""

    def __init__(self, member: Member, train_set: Source, valid_set: Source | None, fabric: Fabric) -> None:
        self.model = fabric.to_device(member.model).train()
        self.spec, self.seed, self.checkpoints = member.spec, member.seed, member.checkpoints
        self.on_progress, self.on_log = member.on_progress, member.on_log
        spec = member.spec
        self.optimizer = build_optimizer(self.model.parameters(), spec.optimizer)
        best = Best(spec) if (spec.early_stopping or spec.select == "best") and valid_set is not None else None
        average = Average(self.model, spec.ema) if spec.ema is not None else None
        self.noise = generator(self.seed, "noise", device=str(fabric.device))
        self.standing = Standing(self.model, [self.optimizer], fabric, self.noise, average, best)
        if member.kept is not None:
            self.standing.load(member.kept)
        self.order = Order.of(spec, len(train_set))
        self.last = self.order.last or 0
        self.resumed_at = self.standing.out.samples
        self.orders = self.order.batches(self.standing.out.steps, self.seed, fabric.device)
        self.diverged: Diverged | None = None

    @contextmanager
    def whole(self, optimizer: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The state as `loop.train` keeps it: nothing was drawn from the global generator, which alone it seeds."""
        with torch.random.fork_rng():
            torch.manual_seed(derive(self.seed, "noise", "global"))
            self.optimizer.load_state_dict(optimizer)
            yield self.standing.state()
            self.optimizer.state.clear()

    def log(self, row: dict[str, float]) -> None:
        self.standing.out.curve.append(row)
        self.on_log(row)
