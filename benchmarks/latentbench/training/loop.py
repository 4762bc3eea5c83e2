"""The training loop, on Lightning Fabric: device, precision and strategy are Fabric's; the rest is a plain loop.

The whole training set lies on the device, and a batch is an index selection. Random numbers come from two streams of
the run's seed: `order` shuffles, `noise` feeds the model and the stochastic preprocessing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from latentbench.core.errors import Diverged
from latentbench.core.seeds import Seeds, derive, generator
from latentbench.spec.protocol import Training
from latentbench.training.optim import build_optimizer, learning_rate_factor
from latentbench.training.state import Average, Best, Checkpointer, Standing, Trained

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from latentbench.training.source import Source

#: Points of a learning curve, at most about this many.
CURVE_POINTS = 200


@dataclass(frozen=True)
class Progress:
    """Where a training stands, for whoever shows it."""

    step: int
    steps: int
    loss: float | None
    samples_per_second: float


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
    seed: int | Seeds,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_log: Callable[[dict[str, float]], None] = lambda _: None,
    checkpoints: Checkpointer | None = None,
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
        checkpoints: where the state is kept and taken up from; an interrupted training ends in the same bits.

    Raises:
        Diverged: the loss is not finite.
        KeyboardInterrupt: the process was asked to stop, and the state has been saved.
    """
    # a model's own layers may draw from torch's global generator, as dropout does
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "noise", "global"))
        return _train(model, train_set, valid_set, spec, fabric, seed, on_progress, on_log, checkpoints)


def _train(
    model: nn.Module,
    train_set: Source,
    valid_set: Source | None,
    spec: Training,
    fabric: Fabric,
    seed: int | Seeds,
    on_progress: Callable[[Progress], None],
    on_log: Callable[[dict[str, float]], None],
    checkpoints: Checkpointer | None,
) -> Trained:
    per_epoch = math.ceil(len(train_set) / spec.batch_size)
    last = total_steps(spec, len(train_set))
    plain = build_optimizer(model.parameters(), spec.optimizer)
    module, optimizer = fabric.setup(model, plain)
    module.mark_forward_method("loss")
    factor = learning_rate_factor(spec.schedule, per_epoch, last)
    average = Average(model, spec.ema) if spec.ema is not None else None
    best = Best(spec) if (spec.early_stopping or spec.select == "best") and valid_set is not None else None
    noise = generator(seed, "noise", device=str(fabric.device))
    at = Standing(model, plain, fabric, noise, average, best)
    if checkpoints is not None and (kept := checkpoints.latest()) is not None:
        at.load(kept)
    if at.finished:
        return at.out
    out, resumed_at, spent = at.out, at.out.samples, at.out.seconds
    log_every = max(1, last // CURVE_POINTS)
    lr = spec.optimizer.lr
    current: float | None = None
    started = shown = time.monotonic()

    module.train()
    for index in _batches(len(train_set), spec.batch_size, out.steps, last, seed, fabric.device):
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
        at.running += loss.detach()
        out.steps, out.samples = step + 1, out.samples + len(index)

        end_of_epoch = out.steps % per_epoch == 0
        now = time.monotonic()
        out.seconds = spent + now - started
        if out.steps % log_every == 0 or out.steps == last:
            at.loss = float(at.running) / (out.steps - at.logged_at)
            if not math.isfinite(at.loss):
                raise Diverged(f"the loss is {at.loss} at step {out.steps} of {last}")
            row = {"step": float(out.steps), "epoch": out.steps / per_epoch, "seconds": out.seconds}
            row |= {k: float(v.detach()) for k, v in terms.items()} | {"loss": at.loss, "lr": wanted}
            at.running.zero_()
            at.logged_at = out.steps
            out.curve.append(row)
            on_log(row)
        if now - shown > 0.2:
            shown = now
            on_progress(Progress(out.steps, last, at.loss, (out.samples - resumed_at) / (now - started)))
        if (
            best is not None
            and valid_set is not None
            and ((end_of_epoch and (out.steps // per_epoch) % spec.validate_every == 0) or out.steps == last)
        ):
            weights = average.model if average is not None else model
            valid_loss = validation_loss(weights, valid_set, spec.batch_size, seed)
            row = {"step": float(out.steps), "epoch": out.steps / per_epoch, "valid_loss": valid_loss}
            out.curve.append(row)
            on_log(row)
            module.train()
            if best.stop(valid_loss, out.steps, weights):
                out.stopped_early = out.steps < last
                break
        if checkpoints is not None and out.steps < last and checkpoints.due():
            checkpoints.save(out.steps, at.state())
            if checkpoints.stopping:
                raise KeyboardInterrupt

    out.epochs = out.steps / per_epoch
    out.seconds = spent + time.monotonic() - started
    if average is not None:
        model.load_state_dict(average.model.state_dict())
    if best is not None and spec.select == "best" and best.weights is not None:
        model.load_state_dict(best.weights)
        out.best_step = best.step
    at.finished = True
    if checkpoints is not None and checkpoints.due(final=True):
        checkpoints.save(out.steps, at.state())
    on_progress(Progress(out.steps, last, at.loss, out.samples / max(out.seconds, 1e-9)))
    return out


@torch.no_grad()
def validation_loss(model: nn.Module, valid_set: Source, batch_size: int, seed: int | Seeds) -> float:
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


def _batches(rows: int, size: int, done: int, steps: int, seed: int | Seeds, device: torch.device) -> Iterator[Tensor]:
    """Index batches of fresh permutations, from step `done` to `steps`; an epoch's order depends on seed and epoch."""
    per_epoch = math.ceil(rows / size)
    while done < steps:
        epoch, first = divmod(done, per_epoch)
        order = torch.randperm(rows, generator=generator(seed, "order", epoch)).to(device)
        for start in range(first * size, rows, size):
            if done == steps:
                return
            yield order[start : start + size]
            done += 1
