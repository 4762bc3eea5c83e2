"""The training loop, on Lightning Fabric: device, precision and strategy are Fabric's; the rest is a plain loop.

The whole training set lies on the device, and a batch is an index selection. Random numbers come from two streams of
the run's seed: `order` shuffles, `noise` feeds the model and the stochastic preprocessing.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmarks.core.errors import Diverged
from benchmarks.core.seeds import generator
from benchmarks.spec.protocol import Training
from benchmarks.training.optim import build_optimizer, learning_rate_factor

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from benchmarks.training.source import Source

#: Points of a learning curve, at most about this many.
CURVE_POINTS = 200


@dataclass(frozen=True)
class Progress:
    """Where a training stands, for whoever shows it."""

    step: int
    steps: int
    loss: float | None
    samples_per_second: float


@dataclass
class Trained:
    """What a training leaves behind, besides the weights.

    `curve` has one row a logged step: step, epoch, seconds, loss and the model's other terms (means over the batch),
    and ``valid_loss`` where validation ran.
    """

    steps: int = 0
    epochs: float = 0.0
    seconds: float = 0.0
    samples: int = 0
    best_step: int | None = None
    stopped_early: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)


def total_steps(spec: Training, rows: int) -> int:
    """Optimiser steps of a protocol on `rows` training rows.

    Raises:
        ValueError: the protocol has no length.
    """
    per_epoch = math.ceil(rows / spec.batch_size)
    if spec.steps is not None:
        return spec.steps
    if spec.epochs is not None:
        return spec.epochs * per_epoch
    if spec.schedule.stages:
        return sum(s.epochs for s in spec.schedule.stages) * per_epoch
    raise ValueError("training has neither `epochs`, `steps` nor a schedule of stages")


def train(
    model: nn.Module,
    train_set: Source,
    valid_set: Source | None,
    spec: Training,
    fabric: Fabric,
    seed: int,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_log: Callable[[dict[str, float]], None] = lambda _: None,
) -> Trained:
    """Train `model` in place; at the end it holds the weights that are to be evaluated.

    Args:
        model: a `Trainable` module on any device; Fabric moves it.
        train_set, valid_set: preprocessed rows on the device; early stopping and best weights need `valid_set`.
        spec: the protocol.
        fabric: launched.
        seed: the run's seed.
        on_progress: called about five times a second.
        on_log: called with each row of the curve.

    Raises:
        Diverged: the loss is not finite.
    """
    per_epoch = math.ceil(len(train_set) / spec.batch_size)
    last = total_steps(spec, len(train_set))
    module, optimizer = fabric.setup(model, build_optimizer(model.parameters(), spec.optimizer))
    module.mark_forward_method("loss")
    factor = learning_rate_factor(spec.schedule, per_epoch, last)
    average = _Average(model, spec.ema) if spec.ema is not None else None
    keeper = _Keeper(spec) if (spec.early_stopping or spec.select == "best") and valid_set is not None else None
    noise = generator(seed, "noise", device=str(fabric.device))
    out = Trained()
    log_every = max(1, last // CURVE_POINTS)
    lr = spec.optimizer.lr
    current = lr
    running = torch.zeros((), device=fabric.device)
    logged_at = 0
    started = shown = time.monotonic()
    loss_now: float | None = None

    module.train()
    for index in _batches(len(train_set), spec.batch_size, last, seed, fabric.device):
        step = out.steps
        if (wanted := lr * factor(step)) != current:
            current = wanted
            for group in optimizer.param_groups:
                group["lr"] = wanted
        batch = train_set.batch(index, noise, step, step / last)
        with fabric.autocast():  # Fabric itself enters it for `forward` alone
            terms = module.loss(batch, noise)
        loss = terms["loss"]
        optimizer.zero_grad()
        fabric.backward(loss)
        if spec.gradient_clip_norm is not None:
            fabric.clip_gradients(module, optimizer, max_norm=spec.gradient_clip_norm, error_if_nonfinite=False)
        optimizer.step()
        if average is not None:
            average.update(model)
        running += loss.detach()
        out.steps, out.samples = step + 1, out.samples + len(index)

        end_of_epoch = out.steps % per_epoch == 0
        if out.steps % log_every == 0 or out.steps == last:
            loss_now = float(running) / (out.steps - logged_at)
            if not math.isfinite(loss_now):
                raise Diverged(f"the loss is {loss_now} at step {out.steps} of {last}")
            row = {"step": float(out.steps), "epoch": out.steps / per_epoch, "seconds": time.monotonic() - started}
            row |= {k: float(v.detach()) for k, v in terms.items()} | {"loss": loss_now, "lr": current}
            running.zero_()
            logged_at = out.steps
            out.curve.append(row)
            on_log(row)
        now = time.monotonic()
        if now - shown > 0.2:
            shown = now
            on_progress(Progress(out.steps, last, loss_now, out.samples / (now - started)))
        if (
            keeper is not None
            and valid_set is not None
            and ((end_of_epoch and (out.steps // per_epoch) % spec.validate_every == 0) or out.steps == last)
        ):
            weights = average.model if average is not None else model
            valid_loss = validation_loss(weights, valid_set, spec.batch_size, seed)
            row = {"step": float(out.steps), "epoch": out.steps / per_epoch, "valid_loss": valid_loss}
            out.curve.append(row)
            on_log(row)
            module.train()
            if keeper.stop(valid_loss, out.steps, weights):
                out.stopped_early = out.steps < last
                break

    out.epochs = out.steps / per_epoch
    out.seconds = time.monotonic() - started
    if average is not None:
        model.load_state_dict(average.model.state_dict())
    if keeper is not None and spec.select == "best" and keeper.weights is not None:
        model.load_state_dict(keeper.weights)
        out.best_step = keeper.step
    on_progress(Progress(out.steps, last, loss_now, out.samples / max(out.seconds, 1e-9)))
    return out


@torch.no_grad()
def validation_loss(model: nn.Module, valid_set: Source, batch_size: int, seed: int) -> float:
    """Mean loss over the validation rows, with the same noise each time it is asked."""
    model.eval()
    device = next(model.parameters()).device
    noise = generator(seed, "evaluation", "validation", device=str(device))
    total, rows = 0.0, len(valid_set)
    size = max(batch_size, 256)
    for start in range(0, rows, size):
        index = torch.arange(start, min(start + size, rows), device=device)
        batch = valid_set.batch(index, noise, 0, 1.0)
        total += float(model.loss(batch, noise)["loss"]) * len(index)  # type: ignore[operator]
    return total / rows


def _batches(rows: int, size: int, steps: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """Index batches of fresh permutations, `steps` of them; each epoch's order depends on seed and epoch alone."""
    done, epoch = 0, 0
    while done < steps:
        order = torch.randperm(rows, generator=generator(seed, "order", epoch)).to(device)
        for start in range(0, rows, size):
            if done == steps:
                return
            yield order[start : start + size]
            done += 1
        epoch += 1


class _Average:
    """Exponential moving average of the weights; buffers follow the model."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        self._averaged: Any = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def update(self, model: nn.Module) -> None:
        self._averaged.update_parameters(model)

    @property
    def model(self) -> nn.Module:
        return self._averaged.module


class _Keeper:
    """Remembers the best weights and says when to stop."""

    def __init__(self, spec: Training) -> None:
        self._keep = spec.select == "best"
        self._patience = spec.early_stopping.patience if spec.early_stopping else None
        self._delta = spec.early_stopping.min_delta if spec.early_stopping else 0.0
        self._best = self._mark = math.inf
        self._waited = 0
        self.step: int | None = None
        self.weights: dict[str, Any] | None = None

    def stop(self, loss: float, step: int, model: nn.Module) -> bool:
        if not math.isfinite(loss):
            raise Diverged(f"the validation loss is {loss} at step {step}")
        if loss < self._best:
            self._best, self.step = loss, step
            if self._keep:
                self.weights = copy.deepcopy(model.state_dict())
        if loss < self._mark - self._delta:
            self._mark, self._waited = loss, 0
        else:
            self._waited += 1
        return self._patience is not None and self._waited >= self._patience
