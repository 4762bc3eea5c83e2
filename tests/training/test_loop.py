"""The training loop: what it does to the weights, step by step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from latentbench.core.errors import Diverged
from latentbench.data.preprocess import build
from latentbench.data.registry import Column
from latentbench.spec.protocol import Training
from latentbench.training.loop import train
from latentbench.training.order import total_steps
from latentbench.training.source import Source
from latentbench.training.state import Trained
from latentbench.training.validation import validation_loss
from lightning.fabric import Fabric
from torch import nn

ROWS, DIMS = 25, 3
CPU = torch.device("cpu")


def source(n: int = ROWS, *, seed: int = 0, steps: tuple = (), dtype: str = "float32", augment: bool = True) -> Source:
    rng = np.random.default_rng(seed)
    shape = (DIMS,) if dtype == "float32" else (2, DIMS)
    raw = (
        rng.standard_normal((n, *shape)).astype(dtype)
        if dtype == "float32"
        else rng.integers(0, 256, (n, *shape)).astype(dtype)
    )
    pipeline = build(list(steps), Column(shape=shape, dtype=dtype, levels=256 if dtype == "uint8" else None))
    pipeline.fit(raw)
    columns = {"row": torch.arange(n)}
    return Source(torch.from_numpy(raw), columns, pipeline, CPU, math.prod(shape), augment=augment)


class Watched(nn.Module):
    """Least squares towards the data; notes what it is given. `valid` holds losses to answer in evaluation mode."""

    def __init__(self, loss: Callable | None = None, valid: list[float] | None = None) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(DIMS))
        self.custom, self.valid = loss, list(valid or [])
        self.rows: list[list[int]] = []
        self.seen: list[torch.Tensor] = []
        self.noise: list[float] = []
        self.progress: list[tuple[int, float]] = []
        self.weights: list[torch.Tensor] = []

    def loss(self, batch, generator):
        draw = torch.randn((), generator=generator)
        if not self.training:
            return {"loss": torch.tensor(self.valid.pop(0)) if self.valid else (batch.x - self.w).square().mean()}
        self.rows.append(batch.columns["row"].tolist())
        self.seen.append(batch.x.clone())
        self.noise.append(float(draw))
        self.progress.append((batch.step, batch.progress))
        self.weights.append(self.w.detach().clone())
        if self.custom is not None:
            return {"loss": self.custom(self, batch)}
        return {"loss": (batch.x - self.w + 0.1 * draw).square().mean(), "extra": draw}


def run(
    model: nn.Module, seed: int = 0, valid: Source | None = None, data: Source | None = None, **protocol
) -> Trained:
    spec = Training.model_validate({"batch_size": 10, "optimizer": {"name": "sgd", "lr": 0.1}, **protocol})
    fabric = Fabric(accelerator="cpu", devices=1)
    return train(model, data or source(), valid, spec, fabric, seed)


def test_every_row_comes_once_an_epoch_in_an_order_of_its_own():
    model = Watched()
    run(model, epochs=4)
    assert [len(r) for r in model.rows] == [10, 10, 5] * 4
    epochs = [[row for batch in model.rows[i : i + 3] for row in batch] for i in range(0, 12, 3)]
    assert all(sorted(e) == list(range(ROWS)) for e in epochs)
    assert len({tuple(e) for e in epochs}) == 4
    assert list(range(ROWS)) not in epochs


def test_rows_stay_with_their_columns():
    model, data = Watched(), source()
    run(model, data=data, epochs=1)
    whole = data.batch(torch.arange(ROWS), torch.Generator(), 0, 0.0).x
    for rows, x in zip(model.rows, model.seen):
        assert torch.equal(x, whole[rows])


@pytest.mark.parametrize(
    ("protocol", "steps"),
    [
        ({"epochs": 3}, 9),
        ({"steps": 7}, 7),
        ({"epochs": 2, "batch_size": 25}, 2),
        ({"epochs": 2, "batch_size": 1000}, 2),
        ({"epochs": 1, "batch_size": 1}, 25),
        ({"schedule": {"name": "stages", "stages": [{"epochs": 1, "factor": 1.0}, {"epochs": 2, "factor": 0.1}]}}, 9),
    ],
    ids=str,
)
def test_steps_and_epochs(protocol, steps):
    model = Watched()
    out = run(model, **protocol)
    assert (out.steps, len(model.rows)) == (steps, steps)
    assert out.samples == sum(map(len, model.rows))
    assert [s for s, _ in model.progress] == list(range(steps))
    assert [p for _, p in model.progress] == pytest.approx([i / steps for i in range(steps)])
    assert out.epochs == pytest.approx(steps / math.ceil(ROWS / protocol.get("batch_size", 10)))
    assert [row["step"] for row in out.curve] == list(range(1, steps + 1))
    assert all({"epoch", "loss", "lr", "seconds", "extra"} <= set(row) for row in out.curve)


def test_a_protocol_without_length_is_refused():
    with pytest.raises(ValueError, match="neither"):
        total_steps(Training(), 10)


def test_long_trainings_have_short_curves():
    out = run(Watched(), steps=2000)
    assert 190 <= len(out.curve) <= 210
    assert out.curve[-1]["step"] == 2000


def test_the_curve_holds_mean_losses():
    losses = iter(range(1, 1001))
    out = run(Watched(lambda m, b: m.w.sum() * 0 + float(next(losses))), steps=1000)
    assert [row["loss"] for row in out.curve[:3]] == [3.0, 8.0, 13.0], "of five steps each"


def final(seed: int, **protocol) -> torch.Tensor:
    model = Watched()
    run(model, seed, **{"epochs": 2, **protocol})
    return model.w.detach()


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    assert torch.equal(final(3), final(3))
    assert not torch.equal(final(3), final(4))


def test_training_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    final(0, ema=0.5)
    assert torch.equal(torch.get_rng_state(), before)


def test_order_and_noise_are_streams_of_their_own():
    """The order of the data does not depend on how much noise is drawn, nor the noise on the number of rows."""

    class Greedy(Watched):
        def loss(self, batch, generator):
            torch.randn(1000, generator=generator)
            return super().loss(batch, generator)

    plain, greedy = Watched(), Greedy()
    run(plain, epochs=2)
    run(greedy, epochs=2)
    assert plain.rows == greedy.rows
    assert plain.noise != greedy.noise
    few = Watched()
    run(few, data=source(12), epochs=2)
    assert few.noise == plain.noise[: len(few.noise)]


def test_stochastic_preprocessing_is_drawn_anew_and_follows_the_seed():
    def seen(seed):
        model = Watched(lambda m, b: m.w.sum() * 0)
        run(model, seed, data=source(10, dtype="uint8", steps=("dequantise", "flatten")), epochs=3)
        return [x[torch.argsort(torch.tensor(rows))] for x, rows in zip(model.seen, model.rows)]

    first, again, other = seen(0), seen(0), seen(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first[0].floor(), first[1].floor())


def test_augmentation_is_for_training_rows_only():
    data = source(10, dtype="uint8", steps=("flip", "to_unit"))
    plain = source(10, dtype="uint8", steps=("flip", "to_unit"), augment=False)
    every = torch.arange(10)
    noise = torch.Generator().manual_seed(0)
    flipped = (data.batch(every, noise, 0, 0.0).x != plain.batch(every, noise, 0, 0.0).x).flatten(1).any(1)
    assert 0 < flipped.sum() < 10


def test_sgd_by_hand():
    """Two steps on the whole data, against the gradient written out."""
    data = source()
    x = data.batch(torch.arange(ROWS), torch.Generator(), 0, 0.0).x.double()
    model = Watched(lambda m, b: (b.x - m.w).square().sum(1).mean())
    run(model, data=data, steps=2, batch_size=ROWS, schedule={"name": "linear"})
    w = torch.zeros(DIMS, dtype=torch.float64)
    for lr in (0.1, 0.05):
        w = w + lr * 2 * (x - w).mean(0)
    torch.testing.assert_close(model.w.detach().double(), w, rtol=1e-5, atol=1e-6)


def test_the_learning_rate_follows_the_schedule():
    out = run(Watched(), steps=10, schedule={"name": "cosine", "warmup": 4})
    expected = [0.1 * (s + 1) / 4 for s in range(4)]
    expected += [0.1 * (1 + math.cos(math.pi * s / 6)) / 2 for s in range(6)]
    assert [row["lr"] for row in out.curve] == pytest.approx(expected)


def test_clipping_bounds_the_gradients_norm():
    for size, moved in ((1000.0, 0.5), (0.01, 0.1 * math.sqrt(DIMS) * 0.01)):
        model = Watched(lambda m, b, size=size: size * m.w.sum())
        run(model, steps=1, gradient_clip_norm=5.0)
        assert float(model.w.detach().norm()) == pytest.approx(moved, rel=1e-4), "lr 0.1 times the clipped norm"
    free = Watched(lambda m, b: 1000.0 * m.w.sum())
    run(free, steps=1)
    assert float(free.w.detach().norm()) == pytest.approx(100 * math.sqrt(DIMS), rel=1e-4)


def test_the_moving_average_against_a_plain_recomputation():
    plain, averaged = Watched(), Watched()
    run(plain, steps=9)
    run(averaged, steps=9, ema=0.8)
    after = [*plain.weights[1:], plain.w.detach()]
    assert all(torch.equal(a, b) for a, b in zip(plain.weights, averaged.weights)), "it does not touch the training"
    mean = after[0].double()
    for w in after[1:]:
        mean = 0.8 * mean + 0.2 * w.double()
    torch.testing.assert_close(averaged.w.detach().double(), mean, rtol=1e-5, atol=1e-7)
    assert not torch.equal(averaged.w, plain.w)


def test_buffers_follow_the_model_under_averaging():
    class Normed(Watched):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(DIMS, affine=False)

        def loss(self, batch, generator):
            return {"loss": (self.norm(batch.x) - self.w).square().mean()}

    plain, averaged = Normed(), Normed()
    run(plain, steps=9)
    run(averaged, steps=9, ema=0.8)
    torch.testing.assert_close(averaged.norm.running_mean, plain.norm.running_mean)
    assert int(averaged.norm.num_batches_tracked) == 9


def test_early_stopping_stops_after_patience_without_gain():
    model = Watched(valid=[5.0, 4.0, 4.5, 3.99, 4.1, 4.2, 4.3, 1.0])
    out = run(model, valid=source(8, seed=1), epochs=8, early_stopping={"patience": 3})
    assert (out.steps, out.stopped_early, out.epochs) == (21, True, 7.0)
    assert [r["valid_loss"] for r in out.curve if "valid_loss" in r] == pytest.approx(
        [5.0, 4.0, 4.5, 3.99, 4.1, 4.2, 4.3]
    )


def test_a_gain_below_the_least_counts_as_none():
    model = Watched(valid=[5.0, 4.95, 4.9, 4.85, 1.0])
    out = run(model, valid=source(8, seed=1), epochs=8, early_stopping={"patience": 3, "min_delta": 0.5})
    assert (out.steps, out.stopped_early) == (12, True)


def test_the_best_weights_come_back():
    data, valid = source(), source(8, seed=1)
    model = Watched(valid=[5.0, 2.0, 4.0, 3.0])
    out = run(model, data=data, valid=valid, epochs=4, select="best")
    same = Watched()
    run(same, data=data, epochs=4)
    assert out.best_step == 6
    assert torch.equal(model.w.detach(), same.weights[6]), "those after the second epoch"
    last = Watched(valid=[5.0, 2.0, 4.0, 3.0])
    assert run(last, data=data, valid=valid, epochs=4, early_stopping={"patience": 9}).best_step is None
    assert torch.equal(last.w, same.w), "without select: best the last weights stay"


def test_the_best_averaged_weights_come_back():
    model, same = Watched(valid=[5.0, 2.0, 4.0]), Watched()
    run(model, valid=source(8, seed=1), epochs=3, select="best", ema=0.5)
    run(same, steps=6, ema=0.5)
    assert torch.equal(model.w, same.w)


def test_validation_comes_as_often_as_asked_and_at_the_end():
    out = run(Watched(), valid=source(8, seed=1), epochs=5, select="best", validate_every=2)
    assert [r["epoch"] for r in out.curve if "valid_loss" in r] == [2.0, 4.0, 5.0]


def test_without_need_nothing_is_validated():
    out = run(Watched(), valid=source(8, seed=1), epochs=2)
    assert not any("valid_loss" in r for r in out.curve)


def test_validation_is_the_mean_over_rows_with_the_same_noise_each_time():
    model, valid = Watched(), source(700, seed=1, dtype="uint8", steps=("dequantise", "flatten", "to_unit"))
    model.w = nn.Parameter(torch.full((2 * DIMS,), 0.3))
    first, again = (validation_loss(model, valid, 10, 0) for _ in range(2))
    assert first == again != validation_loss(model, valid, 10, 1)
    assert first == validation_loss(copy.deepcopy(model), valid, 10, 0), "of the weights, whoever holds them"
    real = source(700, seed=1)
    model.w = nn.Parameter(torch.full((DIMS,), 0.3))
    x = real.batch(torch.arange(700), torch.Generator(), 0, 0.0).x
    assert validation_loss(model, real, 10, 0) == pytest.approx(float((x - 0.3).square().mean()), rel=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_the_training(bad):
    model = Watched(lambda m, b: m.w.sum() * 0 + (bad if b.step == 4 else 1.0))
    with pytest.raises(Diverged, match=r"at step 5 of 30"):
        run(model, steps=30)


def test_a_validation_loss_that_is_no_number_ends_it_too():
    with pytest.raises(Diverged, match="validation loss is nan at step 3"):
        run(Watched(valid=[math.nan]), valid=source(8, seed=1), epochs=3, early_stopping={"patience": 2})


def test_progress_ends_at_the_end():
    told = []
    spec = Training.model_validate({"batch_size": 10, "steps": 5})
    train(Watched(), source(), None, spec, Fabric(accelerator="cpu", devices=1), 0, on_progress=told.append)
    assert (told[-1].step, told[-1].steps) == (5, 5)
    assert told[-1].samples_per_second > 0


def test_mixed_precision_computes_in_sixteen_bits_and_keeps_weights_in_full():
    class Linear(Watched):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(DIMS, DIMS)
            self.kinds: set[torch.dtype] = set()

        def loss(self, batch, generator):
            out = self.layer(batch.x)
            self.kinds.add(out.dtype)
            return {"loss": (out.float() - self.w).square().mean()}

    for precision, kind in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        model = Linear()
        spec = Training.model_validate({"batch_size": 10, "steps": 3, "precision": precision})
        train(model, source(), None, spec, Fabric(accelerator="cpu", devices=1, precision=precision), 0)
        assert model.kinds == {kind}
        assert {p.dtype for p in model.parameters()} == {torch.float32}
