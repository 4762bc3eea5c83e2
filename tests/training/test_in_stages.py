"""Trainings that follow on each other: what moves in which, on what rows, and that they resume to the same bits."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.spec.protocol import Training
from latentbench.training.in_stages import train_in_stages
from latentbench.training.source import Source
from latentbench.training.state import Trained
from lightning.fabric import Fabric
from torch import nn

from tests.training.test_loop import DIMS, ROWS, source
from tests.training.test_resume import Task, assert_same

CODES = 2


class Autoencoder(nn.Module):
    """With batch statistics and dropout, so that a frozen one shows whether it stands still."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(DIMS, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, CODES))
        self.decoder = nn.Sequential(nn.Linear(CODES, 6), nn.Dropout(0.2), nn.Tanh(), nn.Linear(6, DIMS))

    def loss(self, batch, generator):
        noise = 0.1 * torch.randn(batch.x.shape, generator=generator)
        return {"loss": (self.decoder(self.encoder(batch.x + noise)) - batch.x).square().mean()}


class Prior(nn.Module):
    """A Gaussian on whatever rows it is given; `fit` in one go, or step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_std = nn.Parameter(torch.zeros(CODES)), nn.Parameter(torch.zeros(CODES))
        self.seen: list[torch.Tensor] = []

    def loss(self, batch, generator):
        assert batch.x.shape[1] == CODES
        self.seen.append(batch.x.detach().clone())
        return {"loss": (self.log_std + 0.5 * ((batch.x - self.mean) / self.log_std.exp()).square()).mean()}


class Fitted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(CODES))

    def fit(self, x, generator):
        self.mean.copy_(x.mean(0))


class Latent(nn.Module):
    """An autoencoder, and a density of its codes."""

    def __init__(self, prior: type[nn.Module] = Prior) -> None:
        super().__init__()
        self.autoencoder, self.prior = Autoencoder(), prior()

    def stages(self):
        return {"autoencoder": self.autoencoder, "prior": self.prior}

    def encode(self, x):
        return self.autoencoder.encoder(x)

    def encode_sample(self, x, generator):
        return self.encode(x)


BOTH = [{"name": "autoencoder", "epochs": 2}, {"name": "prior", "rows": "codes", "epochs": 3}]


def settings(stages: list[dict[str, Any]]) -> Training:
    around = {"batch_size": 10, "optimizer": {"name": "adam", "lr": 0.02}}
    return Training.model_validate({**around, "in_stages": [{**around, **stage} for stage in stages]})


def run(model: nn.Module, stages: list[dict[str, Any]], take: Any = None, **options: Any) -> Trained:
    fabric = Fabric(accelerator="cpu", devices=1)
    return train_in_stages(model, source(), source(9, seed=5), settings(stages), fabric, 4, take, **options)


def test_an_earlier_stage_stands_still_while_a_later_one_trains():
    model = Latent()
    run(model, BOTH[:1])
    before = {k: v.clone() for k, v in model.autoencoder.state_dict().items()}
    run(model, BOTH[1:])
    for name, value in model.autoencoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    with torch.no_grad():
        codes = model.eval().encode(source().whole(torch.Generator()).x)
    seen = torch.cat(model.prior.seen[:3])
    assert torch.equal(seen.sort(0).values, codes.sort(0).values)
    assert all(p.requires_grad for p in model.parameters())


class Joint(nn.Module):
    """One loss for the whole; `trains` says which part of it moves."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(DIMS, 4), nn.BatchNorm1d(4)), nn.Linear(4, DIMS)
        self.modes: list[tuple[bool, bool]] = []

    def loss(self, batch, generator):
        self.modes.append((self.body.training, self.head.training))
        return {"loss": (self.head(self.body(batch.x)) - batch.x).square().mean()}


def test_only_what_a_stage_trains_moves_and_what_is_frozen_is_not_in_training_mode():
    model = Joint()
    body, head = ({k: v.clone() for k, v in part.state_dict().items()} for part in (model.body, model.head))
    run(model, [{"name": "head", "trains": ["head"], "steps": 2}])
    assert model.modes == [(False, True)] * 2
    assert all(torch.equal(v, body[k]) for k, v in model.body.state_dict().items()), "statistics, too"
    assert not torch.equal(model.head.weight, head["weight"])
    run(model, [{"name": "both", "steps": 1}])
    assert model.modes[-1] == (True, True)


def test_a_curve_has_a_section_for_each_stage():
    rows: list[dict[str, float]] = []
    out = run(Latent(), BOTH, on_log=rows.append)
    assert rows == out.curve
    assert [row["stage"] for row in rows] == [1.0] * 6 + [2.0] * 9
    assert [row["step"] for row in rows] == [float(n) for n in range(1, 16)]
    assert (out.steps, out.samples, out.epochs) == (15, 5 * ROWS, 5.0)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)


def test_a_stage_may_be_fitted_at_once():
    model = Latent(Fitted)
    out = run(model, [BOTH[0], {"name": "prior", "rows": "codes"}])
    with torch.no_grad():
        codes = model.eval().encode(source().whole(torch.Generator()).x)
    torch.testing.assert_close(model.prior.mean, codes.mean(0))
    assert out.steps == 6


def test_weights_of_a_stage_may_come_from_elsewhere():
    other, model = Autoencoder(), Latent()
    account = Trained(curve=[{"step": 1.0, "epoch": 1.0, "loss": 2.0}], taken=[{"name": "autoencoder"}])

    def take(stage):
        assert (stage.name, stage.model) == ("autoencoder", "ae")
        return other.state_dict(), account

    out = run(model, [{"name": "autoencoder", "model": "ae"}, BOTH[1]], take)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.autoencoder.state_dict().items())
    assert out.taken == [{"name": "autoencoder"}]
    assert out.steps == 9, "what was done elsewhere counts there"
    assert out.curve[0] == {"stage": 1.0, "step": 1.0, "epoch": 1.0, "loss": 2.0}


class Stray(Latent):
    def stages(self):
        return {"autoencoder": Autoencoder()}


class Maker(Latent):
    def stage_rows(self, name, batch, generator):
        return {"x": 2 * batch.x[:, :CODES], "half": batch.x[:, :1] / 2}


def test_a_model_makes_rows_of_its_own():
    model = Maker()
    run(model, [{"name": "prior", "rows": "doubled", "steps": 3}])
    rows = source().whole(torch.Generator()).x[:, :CODES] * 2
    assert torch.equal(torch.cat(model.prior.seen).sort(0).values, rows.sort(0).values)


@pytest.mark.parametrize(
    ("model", "stages", "said"),
    [
        (Latent, [{"name": "decoder", "steps": 1}], "no stage 'decoder'"),
        (Latent, [{"name": "prior", "rows": "activations", "steps": 1}], "does not make"),
        (Joint, [{"name": "x", "trains": ["tail"], "steps": 1}], "'tail', which the model does not have"),
        (Stray, [{"name": "autoencoder", "steps": 1}], "not the model's"),
    ],
)
def test_what_cannot_be_done_is_said(model, stages, said):
    with pytest.raises(UserError, match=said):
        run(model(), stages)


class InStages(Task):
    """A `Task` whose training has stages."""

    def __init__(self, stages: list[dict[str, Any]], model: Any = Latent) -> None:
        super().__init__({}, model)
        self.stages = settings(stages)

    def train(self, model: Any, data: Source, valid: Source | None, fabric: Fabric, checkpoints: Any) -> Trained:
        return train_in_stages(model, data, valid, self.stages, fabric, 4, taken, checkpoints=checkpoints)


def taken(stage: Any) -> tuple[dict[str, torch.Tensor], Trained]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return Autoencoder().state_dict(), Trained(taken=[{"name": stage.name, "fingerprint": "f"}])


RECIPES: dict[str, list[dict[str, Any]]] = {
    "pretrain, freeze, codes": BOTH,
    "average and best": [
        {"name": "autoencoder", "epochs": 4, "ema": 0.7, "select": "best", "early_stopping": {"patience": 1}},
        {"name": "prior", "rows": "codes", "epochs": 2, "ema": 0.5, "gradient_clip_norm": 0.1},
    ],
    "fine-tuned in the end": [*BOTH, {"name": "autoencoder2", "trains": ["autoencoder.decoder"], "epochs": 2}],
    "weights from elsewhere": [{"name": "autoencoder", "model": "ae"}, {**BOTH[1], "epochs": 5}],
}


class Again(Latent):
    def stages(self):
        return {**super().stages(), "autoencoder2": self.autoencoder}


@pytest.mark.parametrize("stages", RECIPES.values(), ids=list(RECIPES))
def test_asked_to_stop_after_every_step(tmp_path, stages):
    task = InStages(stages, Again)
    model, out, interrupted = task.in_pieces(tmp_path, repeat(1))
    assert_same(task, model, out)
    assert interrupted >= 8


@pytest.mark.parametrize("stages", RECIPES.values(), ids=list(RECIPES))
def test_dead_without_warning_since_some_steps(tmp_path, stages):
    task = InStages(stages, Again)
    model, out, interrupted = task.in_pieces(tmp_path, chain([1, 4, 5, 5], repeat(1000)), saves=2)
    assert_same(task, model, out)
    assert interrupted >= 3
