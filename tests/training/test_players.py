"""Several players and updates of a model's own: whose parameters move when, by which loss, optimiser and batch."""

from __future__ import annotations

import math
from itertools import chain, repeat
from typing import Any

import pytest
import torch
from latentbench.core.errors import Diverged, UserError
from latentbench.spec.protocol import Training
from latentbench.training.loop import train
from lightning.fabric import Fabric
from torch import nn

from tests.training.test_loop import DIMS, ROWS, source
from tests.training.test_resume import Task, assert_same


class Gan(nn.Module):
    """A generator and a critic with a gradient penalty; both have dropout, the critic batch statistics besides."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(DIMS, 5), nn.Dropout(0.2), nn.Tanh(), nn.Linear(5, 1))
        self.maker = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, DIMS))

    def players(self):
        return {"critic": self.critic.parameters(), "generator": self.maker.parameters()}

    def player_loss(self, player, batch, generator):
        made = self.maker(torch.randn((len(batch.x), 2), generator=generator))
        if player == "generator":
            return {"loss": -self.critic(made).mean()}
        made = made.detach()
        share = torch.rand((len(made), 1), generator=generator)
        between = (share * batch.x + (1 - share) * made).requires_grad_()
        [slope] = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        return {"loss": self.critic(made).mean() - self.critic(batch.x).mean() + 10 * penalty, "penalty": penalty}

    def validation_loss(self, batch, generator):
        made = self.maker(torch.randn((len(batch.x), 2), generator=generator))
        return (made.mean(0) - batch.x.mean(0)).square().sum()


class Watched(nn.Module):
    """Two scalars that pull at each other, a table that updates fill; notes who moved on which rows."""

    def __init__(self, spoil: str = "") -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(2.0))
        self.register_buffer("seen", torch.zeros(()))
        self.spoil, self.moves = spoil, []

    def players(self):
        return {"a": [self.a], "b": [self.b]}

    def player_loss(self, player, batch, generator):
        wanting = {name for name in "ab" if getattr(self, name).requires_grad}
        self.moves.append((player, wanting, batch.columns["row"].tolist(), batch.x.sum().item()))
        loss = self.a * self.b if player == "a" else -self.a * self.b
        return {
            "loss": loss * (math.nan if self.spoil == player else 1.0),
            "other": self.b if player == "a" else self.a,
        }

    def update(self, name, batch, generator):
        assert not torch.is_grad_enabled()
        self.moves.append((name, set(), batch.columns["row"].tolist(), batch.x.sum().item()))
        self.seen += len(batch.x)
        return {"rows": float(len(batch.x))}


def run(model: nn.Module, data=None, **protocol: Any):
    spec = Training.model_validate({"batch_size": 10, "optimizer": {"name": "sgd", "lr": 0.1}, **protocol})
    return train(model, data or source(), None, spec, Fabric(accelerator="cpu", devices=1), 0)


def test_each_player_moves_alone_by_its_own_loss_and_optimiser():
    model = Watched()
    run(model, steps=1, optimizers={"b": {"name": "sgd", "lr": 0.5}})
    assert [move[:2] for move in model.moves] == [("a", {"a"}), ("b", {"b"})]
    assert model.a.item() == pytest.approx(1 - 0.1 * 2)
    assert model.b.item() == pytest.approx(2 + 0.5 * 0.8), "b moves after a, by its own rate"
    assert model.a.requires_grad
    assert model.b.requires_grad


def test_phases_share_the_batch_of_a_step():
    model = Watched()
    out = run(model, epochs=1, phases=[{"player": "a", "times": 2}, {"update": "count"}, {"player": "b"}])
    assert [m[0] for m in model.moves] == ["a", "a", "count", "b"] * 3
    rows = [m[2] for m in model.moves]
    assert rows[0] == rows[1] == rows[2] == rows[3] != rows[4]
    assert (out.steps, out.samples, out.epochs) == (3, ROWS, 1.0)
    assert float(model.seen) == ROWS


def test_fresh_batches_are_the_next_ones_of_the_epoch():
    """Five batches a step, three an epoch: an epoch ends within a step, and the next one goes on with another order."""
    model = Watched()
    out = run(model, epochs=5, phases=[{"player": "a", "times": 4, "fresh": True}, {"player": "b"}])
    assert (out.steps, out.epochs) == (3, 5.0)
    drawn = [m[2] for m in model.moves]
    epochs = [sorted(row for rows in drawn[i : i + 3] for row in rows) for i in range(0, 15, 3)]
    assert epochs == [list(range(ROWS))] * 5
    assert out.samples == 5 * ROWS


def test_a_fresh_phase_beside_one_that_shares_takes_other_rows():
    model = Watched()
    run(model, steps=2, phases=[{"player": "b"}, {"player": "a", "fresh": True}, {"update": "count"}])
    first = [m[2] for m in model.moves[:3]]
    assert first[0] == first[2]
    assert not set(first[0]) & set(first[1])


def test_shared_preprocessing_noise_is_drawn_once_a_step():
    noisy = source(dtype="uint8", steps=("dequantise", "flatten", "to_unit"))
    model = Watched()
    run(model, noisy, steps=1)
    assert model.moves[0][3] == model.moves[1][3]


def test_a_curve_has_each_players_loss_rate_and_terms():
    schedule = {"name": "exponential", "decay": 0.5}
    out = run(Watched(), epochs=2, optimizers={"b": {"name": "sgd", "lr": 0.01, "schedule": schedule}})
    last = out.curve[-1]
    assert {"a.loss", "b.loss", "a.lr", "b.lr", "a.other", "b.other"} <= set(last)
    assert "loss" not in last
    assert last["a.lr"] == 0.1
    assert last["b.lr"] == pytest.approx(0.005)


def test_each_player_clips_its_own_gradients():
    clipped, free = Watched(), Watched()
    protocol = {"steps": 1, "optimizers": {"a": {"name": "sgd", "lr": 1.0, "gradient_clip_norm": 0.5}}}
    run(clipped, **protocol)
    assert clipped.a.item() == pytest.approx(1 - 0.5)
    assert clipped.b.item() == pytest.approx(2 + 0.1 * 0.5)
    run(free, steps=1, gradient_clip_norm=0.25)
    assert free.a.item() == pytest.approx(1 - 0.1 * 0.25)


@pytest.mark.parametrize("player", ["a", "b"])
def test_a_player_that_diverges_is_named(player):
    with pytest.raises(Diverged, match=f"loss of {player} is nan"):
        run(Watched(player), steps=3)


class Codebook(nn.Module):
    """A loss of its own and a table that moves by averages: a step is both."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(DIMS))
        self.register_buffer("mean", torch.zeros(DIMS))

    def loss(self, batch, generator):
        return {"loss": (batch.x - self.w - self.mean).square().mean()}

    def update(self, name, batch, generator):
        self.mean.lerp_(batch.x.mean(0), 0.1)
        return {"size": self.mean.norm()}


def test_updates_beside_a_model_with_one_loss():
    out = run(model := Codebook(), steps=4, phases=[{"player": "model"}, {"update": "codebook"}])
    assert {"loss", "lr", "codebook.size"} <= set(out.curve[-1])
    assert float(model.mean.norm()) == pytest.approx(out.curve[-1]["codebook.size"])


class Averager(nn.Module):
    """No gradient at all: each update takes the mean a little further."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(DIMS))

    def update(self, name, batch, generator):
        self.mean.lerp_(batch.x.mean(0), 0.5)
        return {}


def test_updates_alone_need_no_optimiser():
    data = source()
    run(model := Averager(), data, steps=40, batch_size="whole", phases=[{"update": "mean"}])
    torch.testing.assert_close(model.mean, data.whole(torch.Generator()).x.mean(0))


@pytest.mark.parametrize(
    ("model", "protocol", "said"),
    [
        (Watched, {"phases": [{"player": "c"}]}, "no player 'c'"),
        (Watched, {"phases": [{"player": "a"}]}, "no phase moves player 'b'"),
        (Watched, {"optimizers": {"c": {}}}, "no player 'c'"),
        (Gan, {"phases": [{"player": "critic"}, {"player": "generator"}, {"update": "x"}]}, "no updates of its own"),
        (Averager, {}, "updates alone"),
    ],
)
def test_what_the_model_does_not_have_is_refused(model, protocol, said):
    with pytest.raises(UserError, match=said):
        run(model(), steps=1, **protocol)


RECIPES: dict[str, dict[str, Any]] = {
    "in turn": {"epochs": 3},
    "critic first": {"epochs": 9, "phases": [{"player": "critic", "times": 3, "fresh": True}, {"player": "generator"}]},
    "own optimisers": {
        "epochs": 3,
        "optimizers": {
            "critic": {"name": "rmsprop", "lr": 0.01, "gradient_clip_norm": 0.5},
            "generator": {"lr": 0.02, "betas": [0.5, 0.9], "schedule": {"name": "cosine", "warmup": 2}},
        },
    },
    "averaged": {"epochs": 4, "ema": 0.7, "gradient_clip_norm": 1.0},
    "best": {"epochs": 5, "select": "best", "early_stopping": {"patience": 2}, "ema": 0.5},
}


@pytest.mark.parametrize("protocol", RECIPES.values(), ids=list(RECIPES))
def test_asked_to_stop_after_every_step(tmp_path, protocol):
    task = Task(protocol, Gan)
    model, out, interrupted = task.in_pieces(tmp_path, repeat(1))
    assert_same(task, model, out)
    assert interrupted >= 3


@pytest.mark.parametrize("protocol", RECIPES.values(), ids=list(RECIPES))
def test_dead_without_warning_since_some_steps(tmp_path, protocol):
    task = Task(protocol, Gan)
    model, out, interrupted = task.in_pieces(tmp_path, chain([1, 4, 3], repeat(1000)), saves=2)
    assert_same(task, model, out)
    assert interrupted >= 2


class Plain(Gan):
    """Without layers that behave otherwise when they are measured; its generator starts far from the data."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(DIMS, 16), nn.Tanh(), nn.Linear(16, 1))
        self.maker = nn.Linear(2, DIMS)
        nn.init.constant_(self.maker.bias, 3.0)


def test_a_toy_gan_learns_where_its_data_lie():
    def miss() -> float:
        return float(model.validation_loss(data.whole(torch.Generator()), torch.Generator().manual_seed(1)).detach())

    torch.manual_seed(0)
    model, data = Plain(), source(200)
    assert miss() > 20
    adam = {"name": "adam", "lr": 0.02, "betas": [0.0, 0.9]}
    phases = [{"player": "critic", "times": 3}, {"player": "generator"}]
    run(model, data, steps=500, batch_size=50, optimizer=adam, phases=phases)
    assert miss() < 0.5
