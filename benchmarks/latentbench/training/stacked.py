"""Several trainings as one program, each of which ends as it would alone, but for rounding.

`latentbench.training.loop` says what a training is; here the same is done to a stack of models that differ in seed, in
learning rate, in plain numbers and, if wanted, in their draws a row. Orders, noise, schedules, clipping, averages,
best weights, curves and checkpoints are each member's own. A member that diverges or stops early leaves, and the others
go on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Generator, Tensor, nn

from latentbench.core.errors import Diverged
from latentbench.core.types import Batch
from latentbench.training.draws_by_member import CannotStack, MemberNoise, by_rows
from latentbench.training.loop import CURVE_POINTS, Progress
from latentbench.training.member import Member, Place
from latentbench.training.optim import learning_rate_factor
from latentbench.training.stack import Stack
from latentbench.training.stacked_optim import StackedOptimizer
from latentbench.training.state import Trained
from latentbench.training.validation import validation_loss

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from latentbench.training.source import Source


def train_stacked(
    members: Sequence[Member], train_set: Source, valid_set: Source | None, fabric: Fabric, *, draws: str = ""
) -> list[Trained | Diverged]:
    """Train the members side by side, in place.

    `Trained.seconds` are a member's share: time in which n of them train counts for 1/n to each.

    Args:
        members: two or more, or one.
        train_set, valid_set: preprocessed rows on the device, the same for all.
        fabric: launched.
        draws: name of the models' attribute that counts draws a row, in which they may differ; empty: none.

    Returns:
        What each leaves behind, or how it diverged; in the order of `members`.

    Raises:
        CannotStack: these models cannot be stacked; their weights may have been changed.
        KeyboardInterrupt: the process was asked to stop, and every state has been saved.
    """
    if fabric.strategy.precision.state_dict():
        raise CannotStack(f"precision {members[0].spec.precision} scales the losses of all members by one number")
    with torch.random.fork_rng():
        places = [Place(m, train_set, valid_set, fabric) for m in members]
        if len({p.standing.out.steps for p in places}) > 1 or any(p.standing.finished for p in places):
            raise CannotStack("members stand at different steps")
        places_by_rate = sorted(places, key=lambda p: p.spec.optimizer.lr)
        _Trainings(places_by_rate, train_set, valid_set, fabric, draws).run()
    return [p.diverged or p.standing.out for p in places]


class _Trainings:
    """The loop over steps. `places` are those still in training, equal learning rates together."""

    def __init__(
        self, places: list[Place], train_set: Source, valid_set: Source | None, fabric: Fabric, draws: str
    ) -> None:
        self._places, self._train, self._valid, self._fabric, self._draws = places, train_set, valid_set, fabric, draws
        spec = places[0].spec
        self._per_epoch = places[0].order.per_epoch
        self._factor = learning_rate_factor(spec.schedule, self._per_epoch, places[0].last)
        self._began = self._ticked = self._shown = time.monotonic()
        self._checked: set[tuple[int, ...]] = set()
        self._in_parts = False
        self._build()

    def run(self) -> None:
        while self._places and self._at.steps < self._last:
            terms = self._step()
            self._tick()
            if self._at.steps % self._log_every == 0 or self._at.steps == self._last:
                self._log(terms)
            self._show()
            self._validate()
            self._save_if_due()
        self._leave(dict.fromkeys(range(len(self._places))))

    @property
    def _at(self) -> Trained:
        return self._places[0].standing.out

    @property
    def _last(self) -> int:
        return self._places[0].last

    @property
    def _log_every(self) -> int:
        return max(1, self._last // CURVE_POINTS)

    def _build(self) -> None:
        """The stack of those still in training, from their own models, optimisers and sums."""
        places = self._places
        mixed = places[0].spec.precision != "32-true"
        models, streams = [p.model for p in places], [p.noise for p in places]
        self._stack = Stack(models, streams, in_parts=mixed or self._in_parts, draws=self._draws)
        self._optimizer = StackedOptimizer(list(self._stack.parameters.values()), [p.spec.optimizer for p in places])
        self._optimizer.load([p.optimizer.state_dict() for p in places])
        self._noise = MemberNoise([p.noise for p in places])
        self._running = torch.stack([p.standing.running for p in places])
        for p, own in zip(places, self._running, strict=True):
            p.optimizer.state.clear()  # it lives in the stack
            p.standing.running = own

    def _step(self) -> dict[str, Tensor]:
        spec, step = self._places[0].spec, self._at.steps
        indices = [next(p.orders) for p in self._places]
        # a draw is told by its shape (draws, rows, ...), so what holds for one size of batch need not for another
        case = (len(indices[0]), *self._stack.counts) if self._stack.counts is not None else ()
        before = None if case in self._checked else [p.noise.get_state() for p in self._places]
        batch = self._batch(indices, step)
        with self._fabric.autocast():
            if before is None:
                terms = self._stack.losses(batch)
            else:
                terms = self._stack.checked_losses(batch, lambda i: self._alone(indices[i], before[i], step))
                self._checked.add(case)
                self._in_parts = self._stack.in_parts
        terms["loss"].sum().backward()
        if spec.gradient_clip_norm is not None:
            self._stack.clip(spec.gradient_clip_norm)
        self._optimizer.step(self._factor(step))
        self._stack.zero_grad()
        self._running += terms["loss"].detach()
        for p in self._places:
            out = p.standing.out
            out.steps, out.samples = step + 1, out.samples + len(indices[0])
            if p.standing.average is not None:
                p.standing.average.update(p.model)
        return terms

    def _batch(self, indices: Sequence[Tensor], step: int) -> Batch:
        """Every member's rows, (S, N, ...), with preprocessing noise from its own generator."""
        with by_rows(self._noise):
            flat = self._train.batch(torch.cat(list(indices)), self._noise, step, step / self._last)
        shape = (len(indices), len(indices[0]))
        columns = {k: v.unflatten(0, shape) for k, v in flat.columns.items()}
        return Batch(flat.x.unflatten(0, shape), flat.n_train, flat.step, flat.progress, columns)

    def _alone(self, index: Tensor, noise: Tensor, step: int) -> tuple[Batch, Generator]:
        """A member's batch as alone it would get it, and its generator thereafter."""
        own = Generator(device=self._fabric.device)
        own.set_state(noise)
        return self._train.batch(index, own, step, step / self._last), own

    def _tick(self) -> None:
        now = time.monotonic()
        for p in self._places:
            p.standing.out.seconds += (now - self._ticked) / len(self._places)
        self._ticked = now

    def _log(self, terms: Mapping[str, Tensor]) -> None:
        step = self._at.steps
        names = list(terms)
        values = torch.stack([terms[n].detach().to(self._running.dtype) for n in names]).tolist()
        gone: dict[int, Diverged | None] = {}
        for i, (p, total) in enumerate(zip(self._places, self._running.tolist(), strict=True)):
            at = p.standing
            at.loss = total / (step - at.logged_at)
            if not math.isfinite(at.loss):
                gone[i] = Diverged(f"the loss is {at.loss} at step {step} of {self._last}")
                continue
            row = {"step": float(step), "epoch": step / self._per_epoch, "seconds": at.out.seconds}
            row |= {name: column[i] for name, column in zip(names, values, strict=True)}
            p.log(row | {"loss": at.loss, "lr": p.spec.optimizer.lr * self._factor(step - 1)})
            at.logged_at = step
        self._running.zero_()
        self._leave(gone)

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown > 0.2:
            self._shown = now
            for p in self._places:
                rate = (p.standing.out.samples - p.resumed_at) / (now - self._began)
                p.on_progress(Progress(p.standing.out.steps, self._last, p.standing.loss, rate))

    def _validate(self) -> None:
        if not self._places or self._valid is None or self._places[0].standing.best is None:
            return
        spec, step = self._places[0].spec, self._at.steps
        if step != self._last and (step % self._per_epoch or step // self._per_epoch % spec.validate_every):
            return
        gone: dict[int, Diverged | None] = {}
        for i, p in enumerate(self._places):
            best, average = p.standing.best, p.standing.average
            assert best is not None
            weights = average.model if average is not None else p.model
            loss = validation_loss(weights, self._valid, spec.batch_size, p.seed)
            p.log({"step": float(step), "epoch": step / self._per_epoch, "valid_loss": loss})
            p.model.train()
            try:
                if best.stop(loss, step, cast(nn.Module, _Copied(weights))):
                    p.standing.out.stopped_early = step < self._last
                    gone[i] = None
            except Diverged as e:
                gone[i] = e
        self._stack.take_up()
        self._tick()
        self._leave(gone)

    def _save_if_due(self) -> None:
        if not self._places or self._at.steps == self._last:
            return
        keepers = [p.checkpoints for p in self._places if p.checkpoints is not None]
        if not any(k.due() for k in keepers):
            return
        for i, p in enumerate(self._places):
            if p.checkpoints is not None:
                with p.whole(self._optimizer.state(i)) as state:
                    p.checkpoints.save(p.standing.out.steps, state)
        if any(k.stopping for k in keepers):
            raise KeyboardInterrupt

    def _leave(self, gone: Mapping[int, Diverged | None]) -> None:
        """Members that diverged, or are done (None), leave; the others become a smaller stack."""
        if not gone:
            return
        states = [self._optimizer.state(i) for i in range(len(self._places))]
        for i, diverged in gone.items():
            self._places[i].diverged = diverged
            if diverged is None:
                self._finish(self._places[i], states[i])
        rest = [(p, state) for i, (p, state) in enumerate(zip(self._places, states, strict=True)) if i not in gone]
        self._places = [p for p, _ in rest]
        if rest:
            for p, state in rest:
                p.optimizer.load_state_dict(state)
            self._build()

    def _finish(self, p: Place, optimizer: dict[str, Any]) -> None:
        at = p.standing
        at.out.epochs = at.out.steps / self._per_epoch
        if at.average is not None:
            p.model.load_state_dict(at.average.model.state_dict())
        if at.best is not None and p.spec.select == "best" and at.best.weights is not None:
            p.model.load_state_dict(at.best.weights)
            at.out.best_step = at.best.step
        at.finished = True
        if p.checkpoints is not None and p.checkpoints.due(final=True):
            with p.whole(optimizer) as state:
                p.checkpoints.save(at.out.steps, state)
        rate = (at.out.samples - p.resumed_at) / max(time.monotonic() - self._began, 1e-9)
        p.on_progress(Progress(at.out.steps, self._last, at.loss, rate))


class _Copied:
    """A model's weights as `Best` keeps them: copying a view, it would copy the storage of the whole stack."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def state_dict(self) -> dict[str, Tensor]:
        return {k: v.clone() for k, v in self._model.state_dict().items()}
