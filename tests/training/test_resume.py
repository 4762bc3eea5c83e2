"""A training that is interrupted and goes on ends in the same bits as one that is left alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import cached_property
from itertools import chain, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from latentbench.data.preprocess import build as build_pipeline
from latentbench.data.registry import Column
from latentbench.running.checkpoints import Checkpoints
from latentbench.spec.protocol import Training
from latentbench.training.loop import train
from latentbench.training.source import Source
from latentbench.training.state import Trained
from lightning.fabric import Fabric
from torch import nn

from tests.models import declared as models
from tests.training.test_loop import CPU, DIMS, source

FOREVER = 1e9


class Net(nn.Module):
    """Denoises; has buffers, draws from the generator that it is given and, by its dropout, from the global one."""

    def __init__(self, dims: int = DIMS) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dims, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, dims))

    def loss(self, batch, generator):
        noise = 0.1 * torch.randn(batch.x.shape, generator=generator)
        error = (self.net(batch.x + noise) - batch.x).square().mean()
        return {"loss": error * (1 + batch.progress), "error": error}


class Crash(Exception):
    """The process is gone."""


class Disturbed(Checkpoints):
    """Checkpoints of a process that lasts `after` steps: then it is asked to stop or, without warning, dies.

    One that dies has saved every `saves` steps.
    """

    def __init__(self, folder: Path, after: int, saves: int | None = None) -> None:
        super().__init__(folder, "f" * 64, 0.0 if saves else FOREVER, lambda: not saves and self._left <= 0)
        self._left, self._saves, self._done = after, saves, 0

    def due(self, *, final: bool = False) -> bool:
        if not final:
            self._left, self._done = self._left - 1, self._done + 1
            if self._saves and self._left <= 0:
                raise Crash
        return super().due(final=final) and (not self._saves or final or self._done % self._saves == 0)


class Task:
    """A training, done once or in pieces."""

    def __init__(
        self,
        protocol: dict[str, Any],
        model: Callable[[], nn.Module] = Net,
        data: Callable[[], Source] = source,
        valid: Callable[[], Source] | None = lambda: source(9, seed=5),
    ) -> None:
        self.spec = Training.model_validate({"batch_size": 10, "optimizer": {"name": "adam", "lr": 0.02}, **protocol})
        self._model, self._data, self._valid = model, data, valid

    def once(self, checkpoints: Checkpoints | None = None, init: int = 0) -> tuple[nn.Module, Trained]:
        fabric = Fabric(accelerator="cpu", devices=1, precision=self.spec.precision)
        torch.manual_seed(init)
        model = self._model()
        torch.manual_seed(init + 99)  # what the global generator holds outside must not matter
        valid = self._valid() if self._valid else None
        return model, self.train(model, self._data(), valid, fabric, checkpoints)

    def train(self, model: Any, data: Source, valid: Source | None, fabric: Fabric, checkpoints: Any) -> Trained:
        return train(model, data, valid, self.spec, fabric, 4, checkpoints=checkpoints)

    @cached_property
    def alone(self) -> tuple[nn.Module, Trained]:
        return self.once()

    def in_pieces(self, folder: Path, lengths: Iterable[int], saves: int | None = None) -> tuple[Any, Trained, int]:
        """The last piece's model and results, and how often it was interrupted.

        Those that were asked to stop begin with other weights each time, so that none are taken but the kept ones.
        """
        interrupted = 0
        for length in lengths:
            try:
                model, out = self.once(Disturbed(folder, length, saves), init=0 if saves else interrupted)
            except (KeyboardInterrupt, Crash):
                interrupted += 1
            else:
                return model, out, interrupted
        raise AssertionError("the lengths never let it end")


def assert_same(task: Task, model: nn.Module, out: Trained) -> None:
    expected_model, expected = task.alone
    weights, wanted = model.state_dict(), expected_model.state_dict()
    assert weights.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(weights[name], value), name
    assert without_seconds(out) == without_seconds(expected)


def without_seconds(out: Trained) -> dict[str, Any]:
    plain = asdict(out) | {"seconds": None}
    plain["curve"] = [{k: v for k, v in row.items() if k != "seconds"} for row in out.curve]
    return plain


def pixels() -> Source:
    return source(25, dtype="uint8", steps=("dequantise", "flip", "flatten", "to_unit"))


STAGES = {"name": "stages", "stages": [{"epochs": 1, "factor": 1.0}, {"epochs": 2, "factor": 0.1}]}
OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "sgd"},
    {"name": "sgd", "momentum": 0.9, "weight_decay": 0.01},
    {"name": "adam", "betas": [0.8, 0.95], "eps": 1e-5},
    {"name": "adamw", "weight_decay": 0.1},
    {"name": "adamax"},
    {"name": "adagrad"},
    {"name": "rmsprop"},
    {"name": "rmsprop", "momentum": 0.5},
]
PROTOCOLS: dict[str, dict[str, Any]] = {
    **{" ".join(map(str, o.values())): {"epochs": 3, "optimizer": {"lr": 0.02, **o}} for o in OPTIMIZERS},
    "clipped": {"epochs": 3, "gradient_clip_norm": 0.05},
    "warm-up and cosine": {"epochs": 3, "schedule": {"name": "cosine", "warmup": 4}},
    "cosine with restarts": {"epochs": 3, "schedule": {"name": "cosine", "period": 5}},
    "linear": {"steps": 8, "schedule": {"name": "linear", "final": 0.1}},
    "exponential": {"epochs": 3, "schedule": {"name": "exponential", "decay": 0.5}},
    "stages": {"schedule": STAGES},
    "moving average": {"epochs": 3, "ema": 0.7},
    "best weights": {"epochs": 4, "select": "best", "optimizer": {"name": "adam", "lr": 0.5}},
    "best of the averages": {"epochs": 4, "select": "best", "ema": 0.5},
    "early stopping": {
        "epochs": 9,
        "early_stopping": {"patience": 2, "min_delta": 10.0},
        "select": "best",
        "validate_every": 1,
    },
    "rare validation": {"epochs": 5, "validate_every": 2, "select": "best"},
    "bfloat16": {"epochs": 3, "precision": "bf16-mixed"},
    "one batch an epoch": {"epochs": 6, "batch_size": 100},
}


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_asked_to_stop_after_every_step(tmp_path, protocol):
    task = Task(protocol)
    model, out, interrupted = task.in_pieces(tmp_path, repeat(1))
    assert_same(task, model, out)
    assert interrupted >= 5
    assert interrupted == out.steps - (0 if out.stopped_early else 1) or protocol.get("early_stopping")


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_dead_without_warning_since_some_steps(tmp_path, protocol):
    """It goes on from the checkpoint before, which may lie some steps back."""
    task = Task(protocol)
    model, out, interrupted = task.in_pieces(tmp_path, chain([1, 4, 3, 5], repeat(1000)), saves=2)
    assert_same(task, model, out)
    assert interrupted >= 3


def test_the_protocols_above_do_what_they_are_named_after():
    stopped = Task(PROTOCOLS["early stopping"]).once()[1]
    assert stopped.stopped_early
    assert 0 < stopped.steps < 27
    best = Task(PROTOCOLS["best weights"]).once()[1]
    assert best.best_step is not None
    assert best.best_step < best.steps


EVERYTHING = Task({"steps": 60, "ema": 0.9, "select": "best", "validate_every": 7, "gradient_clip_norm": 0.5})


@settings(max_examples=20)
@given(st.lists(st.integers(1, 25), max_size=8), st.sampled_from([None, 1, 7]))
def test_interrupted_anywhere(lengths, saves):
    """A row of the curve is a mean over three steps, so that an interruption may fall into its middle."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr("latentbench.training.loop.CURVE_POINTS", 20)
        model, out, _ = EVERYTHING.in_pieces(Path(folder), chain(lengths, repeat(1000)), saves)
        assert len([row for row in out.curve if "loss" in row]) == 20
        assert_same(EVERYTHING, model, out)


def test_stochastic_preprocessing_goes_on_where_it_was(tmp_path):
    task = Task({"epochs": 3}, lambda: Net(2 * DIMS), pixels, None)
    model, out, _ = task.in_pieces(tmp_path, repeat(2))
    assert_same(task, model, out)


@pytest.mark.parametrize("case", models.TRAINED)
def test_no_model_keeps_state_that_its_weights_do_not_hold(tmp_path, case):
    """What a model remembers from step to step must lie in its `state_dict`, or an interrupted training forgets it."""
    raw = models.data(case.info)

    def rows() -> Source:
        pipeline = build_pipeline([], Column(shape=tuple(raw.shape[1:]), dtype="float32"))
        pipeline.fit(raw.numpy())
        return Source(raw, {}, pipeline, CPU, math.prod(raw.shape[1:]), augment=True)

    task = Task({"steps": 5, "batch_size": 9}, lambda: case.cls(case.info, **case.params), rows, None)
    model, out, interrupted = task.in_pieces(tmp_path, repeat(2))
    assert interrupted == 2
    assert_same(task, model, out)


def test_what_has_ended_is_not_trained_again(tmp_path):
    task = Task({"epochs": 3, "ema": 0.5, "select": "best"})
    kept = Checkpoints(tmp_path, "f" * 64, 0.0)
    first, out = task.once(kept)
    untouched = Checkpoints(tmp_path, "f" * 64, FOREVER)
    again, found = task.once(untouched, init=3)
    assert untouched.resumed_from == out.steps
    assert found == out, "seconds, too"
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_seconds_add_up(tmp_path):
    task = Task({"steps": 6})
    _, out, interrupted = task.in_pieces(tmp_path, repeat(1))
    assert interrupted == 5
    seconds = [row["seconds"] for row in out.curve]
    assert seconds == sorted(seconds)
    assert out.seconds >= seconds[-1] > 0


def test_the_clock_of_the_machine_does_not_matter(tmp_path, monkeypatch):
    """Time is taken from the monotonic clock; the other one may jump to and fro."""
    jumps = iter(range(10**6))
    monkeypatch.setattr("time.time", lambda: (-1) ** next(jumps) * 1e9)
    task = Task({"steps": 6})
    model, out, _ = task.in_pieces(tmp_path, repeat(2))
    assert 0 < out.seconds < 600
    assert_same(task, model, out)
