"""The training loop, on Lightning Fabric: device, precision and strategy are Fabric's; the rest is a plain loop.

The whole training set lies on the device, and a batch is an index selection. Random numbers come from two streams of
the run's seed: `order` shuffles, `noise` feeds the model and the stochastic preprocessing. What a step does is said
elsewhere: `latentbench.training.descent` for gradients, `latentbench.training.iterations` for algorithms of their own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from latentbench.core.capabilities import Iterative, Trainable, Validated
from latentbench.core.errors import Diverged
from latentbench.core.seeds import Seeds, derive, generator
from latentbench.core.types import Batch
from latentbench.spec.protocol import TrainingProtocol
from latentbench.training.descent import Descent
from latentbench.training.iterations import Iterations
from latentbench.training.order import Order
from latentbench.training.state import ALONE, Average, Best, Checkpointer, Frame, Standing, Trained
from latentbench.training.validation import validation_loss

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from latentbench.training.source import Source

#: Points of a learning curve, at most about this many.
CURVE_POINTS = 200


@dataclass(frozen=True)
class Progress:
    """Where a training stands, for whoever shows it; `steps` is 0 where it ends when the model says so."""

    step: int
    steps: int
    loss: float | None
    samples_per_second: float


def train(
    model: Any,
    train_set: Source,
    valid_set: Source | None,
    spec: TrainingProtocol,
    fabric: Fabric,
    seed: int | Seeds,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_log: Callable[[dict[str, float]], None] = lambda _: None,
    checkpoints: Checkpointer | None = None,
    frame: Frame = ALONE,
) -> Trained:
    """Train `model` in place; at the end it holds the weights that are to be evaluated.

    Args:
        model: a module that is `Trainable` or has `Players` or `Updates`, on any device, which Fabric moves; or an
            `Iterative`.
        train_set, valid_set: preprocessed rows on the device; early stopping and best weights need `valid_set`.
        spec: the protocol.
        fabric: launched.
        seed: the run's seed.
        on_progress: called about five times a second.
        on_log: called with each row of the curve.
        checkpoints: where the state is kept and taken up from; an interrupted training ends in the same bits.
        frame: the larger training that this one is a stage of.

    Raises:
        Diverged: a loss is not finite.
        UserError: the model cannot be trained by this protocol.
        KeyboardInterrupt: the process was asked to stop, and the state has been saved.
    """
    # a model's own layers may draw from torch's global generator, as dropout does
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "noise", "global", *frame.stage))
        loop = _Loop(model, train_set, valid_set, spec, fabric, seed, checkpoints, frame)
        return loop.run(on_progress, on_log)


class _Loop:
    """The loop over steps, and what is done between two of them."""

    def __init__(
        self,
        model: Any,
        train_set: Source,
        valid_set: Source | None,
        spec: TrainingProtocol,
        fabric: Fabric,
        seed: int | Seeds,
        checkpoints: Checkpointer | None,
        frame: Frame,
    ) -> None:
        self._model, self._train, self._valid, self._spec, self._seed = model, train_set, valid_set, spec, seed
        self._device, self._checkpoints, self._frame = fabric.device, checkpoints, frame
        iterative = isinstance(model, Iterative)
        self._order = Order.of(spec, len(train_set), iterative=iterative)
        context = ("stage", *frame.stage) if frame.stage else ()
        self._noise = generator(seed, "noise", *context, device=str(fabric.device))
        self._steps: Descent | Iterations
        if iterative:
            fixed = generator(seed, "noise", "data", *frame.stage, device=str(fabric.device))
            self._steps = Iterations(model, train_set.whole(fixed), self._noise, fabric)
        else:
            self._steps = Descent(model, spec, self._order, fabric, self._noise)
        average = Average(model, spec.ema) if spec.ema is not None and not iterative else None
        wanted = (spec.early_stopping or spec.select == "best") and valid_set is not None
        best = Best(spec) if wanted and isinstance(model, Trainable | Validated) else None
        running = None if self._steps.names == ("",) else torch.zeros(len(self._steps.names), device=fabric.device)
        whole = model if frame.whole is None else frame.whole
        self._at = Standing(whole, self._steps.optimizers, fabric, self._noise, average, best, running)
        if checkpoints is not None and (kept := checkpoints.latest()) is not None:
            self._at.load(kept)
        else:
            self._steps.begin()

    def run(self, on_progress: Callable[[Progress], None], on_log: Callable[[dict[str, float]], None]) -> Trained:
        at, out, last, checkpoints = self._at, self._at.out, self._order.last, self._checkpoints
        if at.finished:
            return out
        resumed_at, spent, started = out.samples, out.seconds, time.monotonic()
        shown = started
        indices = self._order.batches(out.steps, self._seed, self._device, self._frame.stage)

        def draw() -> Batch:
            index = next(indices)
            out.samples += len(index)
            progress = out.steps / last if last else 0.0
            if self._order.whole:
                return self._train.whole(self._noise, out.steps, progress)
            return self._train.batch(index, self._noise, out.steps, progress)

        self._training_mode()
        ended = out.steps == last or self._steps.done()
        while not ended:
            terms, losses = self._steps.step(out.steps, draw)
            if at.average is not None:
                at.average.update(self._model)
            if losses is not None:
                at.running += losses
            out.steps += 1
            if isinstance(self._steps, Iterations):
                out.samples += self._order.rows
            ended = out.steps == last or self._steps.done()
            now = time.monotonic()
            out.seconds = spent + now - started
            if ended or self._to_log():
                on_log(self._row(terms, logged=losses is not None))
            if now - shown > 0.2:
                shown = now
                rate = (out.samples - resumed_at) / (now - started)
                on_progress(Progress(out.steps, last or 0, at.loss, rate))
            if self._to_validate(ended=ended):
                row, stop = self._validate()
                on_log(row)
                if stop:
                    out.stopped_early = not ended
                    break
            if checkpoints is not None and not ended and checkpoints.due():
                checkpoints.save(out.steps, at.state())
                if checkpoints.stopping:
                    raise KeyboardInterrupt

        out.seconds = spent + time.monotonic() - started
        self._finish()
        on_progress(Progress(out.steps, last or out.steps, at.loss, out.samples / max(out.seconds, 1e-9)))
        return out

    def _training_mode(self) -> None:
        if isinstance(self._model, nn.Module):
            self._model.train()
        for part in self._frame.still:
            part.eval()

    def _to_log(self) -> bool:
        step, last = self._at.out.steps, self._order.last
        # of a training without a known end: each step, then every second, fourth, ... as it grows
        every = 2 ** max(0, step.bit_length() - 8) if last is None else max(1, last // CURVE_POINTS)
        return step % every == 0

    def _begin_row(self) -> dict[str, float]:
        steps = self._at.out.steps
        return {"step": float(steps), "epoch": self._order.epochs(steps)}

    def _row(self, terms: Mapping[str, Tensor | float], *, logged: bool) -> dict[str, float]:
        """A row of the curve: the last step's terms, and the mean losses since the row before."""
        at, names = self._at, self._steps.names
        row = self._begin_row() | {"seconds": at.out.seconds}
        row |= {k: float(v.detach()) if isinstance(v, Tensor) else float(v) for k, v in terms.items()}
        if logged:
            sums = at.running.reshape(-1).tolist()
            means = {n: total / (at.out.steps - at.logged_at) for n, total in zip(names, sums, strict=True)}
            for name, mean in means.items():
                if not math.isfinite(mean):
                    whose = f" of {name}" if name else ""
                    raise Diverged(f"the loss{whose} is {mean} at step {at.out.steps} of {self._order.last or 'many'}")
            at.loss = means.get("")
            row |= {f"{name}.loss" if name else "loss": mean for name, mean in means.items()}
        row |= self._steps.rates()
        at.running.zero_()
        at.logged_at = at.out.steps
        at.out.curve.append(row)
        return row

    def _to_validate(self, *, ended: bool) -> bool:
        if self._at.best is None:
            return False
        steps, order = self._at.out.steps, self._order
        return ended or (order.ends_epoch(steps) and order.epochs_done(steps) % self._spec.validate_every == 0)

    def _validate(self) -> tuple[dict[str, float], bool]:
        """A row of the curve, and whether to stop here."""
        at = self._at
        assert at.best is not None
        assert self._valid is not None
        weights = at.average.model if at.average is not None else self._model
        loss = validation_loss(weights, self._valid, self._spec.batch_size, self._seed, self._frame.stage)
        row = self._begin_row() | {"valid_loss": loss}
        at.out.curve.append(row)
        self._training_mode()
        return row, at.best.stop(loss, at.out.steps, weights)

    def _finish(self) -> None:
        at, out = self._at, self._at.out
        out.epochs = self._order.epochs(out.steps)
        if at.average is not None:
            self._model.load_state_dict(at.average.model.state_dict())
        if at.best is not None and self._spec.select == "best" and at.best.weights is not None:
            self._model.load_state_dict(at.best.weights)
            out.best_step = at.best.step
        at.finished = True
        if self._checkpoints is not None and self._checkpoints.due(final=True):
            self._checkpoints.save(out.steps, at.state())
