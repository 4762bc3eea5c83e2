"""The contract of training: sound models of each kind pass it, each fault is found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from latentbench.contracts.training import check_training
from latentbench.core.errors import UserError
from latentbench.training.trial import train_briefly

from tests.training.test_in_stages import Autoencoder, Latent
from tests.training.test_iterations import ACT, Agent, FactorAnalysis
from tests.training.test_loop import source
from tests.training.test_parts import GraphNet, Recurrent, many_graphs, one_graph, sequences
from tests.training.test_players import Gan

BOTH = {"in_stages": [{"name": "autoencoder"}, {"name": "prior", "rows": "codes"}]}
SOUND: dict[str, tuple[Any, Any, str, dict[str, Any]]] = {
    "players": (Gan, source, "Players Validated", {}),
    "stages": (Latent, source, "Staged Encoder", BOTH),
    "weights from elsewhere": (Latent, source, "Staged Encoder", {
        "in_stages": [{"name": "autoencoder", "model": "x"}, {"name": "prior", "rows": "codes"}],
    }),
    "iterations": (FactorAnalysis, source, "Iterative", {}),
    "an agent": (Agent, source, "Trainable Updates OwnState", ACT),
    "one graph": (GraphNet, one_graph, "Trainable", {"batch_size": "whole"}),
    "many graphs": (GraphNet, many_graphs, "Trainable", {}),
    "ragged rows": (Recurrent, sequences, "Trainable", {}),
    "plain": (Autoencoder, source, "Trainable", {}),
}  # fmt: skip


def faults(model: Any, rows: Any, can: str, training: dict[str, Any]) -> dict[str, str | None]:
    found = check_training("it", model, rows, frozenset(can.split()), training)
    return {f.test: f.why for f in found if not f.holds}


@pytest.mark.parametrize("case", SOUND.values(), ids=list(SOUND))
def test_a_sound_model_passes(case):
    assert faults(*case) == {}


class Forgets(Agent):
    """Its buffer is in no checkpoint."""

    own_state = None

    def load_own_state(self, state):
        raise AssertionError


class Random(Gan):
    def player_loss(self, player, batch, generator):
        return super().player_loss(player, batch, torch.Generator().manual_seed(torch.seed() % 1000))


class Broken(Gan):
    def player_loss(self, player, batch, generator):
        terms = super().player_loss(player, batch, generator)
        return terms | {"ratio": terms["loss"] * torch.nan}


class Idle(FactorAnalysis):
    def start(self, data, generator): ...
    def advance(self, data, generator):
        return {}


RESUMES = "interrupted at every step, it ends in the same bits"


@pytest.mark.parametrize(
    ("model", "can", "training", "test"),
    [
        (Forgets, "Trainable Updates", ACT, RESUMES),
        (Random, "Players Validated", {}, "the same seed gives the same weights"),
        (Broken, "Players Validated", {}, "it trains, and what it logs is finite"),
        (Idle, "Iterative", {}, "training changes it"),
        (Gan, "Players", {}, "it can do what its entry says"),
    ],
)
def test_each_fault_is_found(model, can, training, test):
    assert test in faults(model, source, can, training)


class Empty(torch.nn.Module):
    """Holds nothing; `steps` says whether it ought to have."""

    steps = 0

    def start(self, data, generator):
        self.left = self.steps

    def advance(self, data, generator):
        self.left -= 1
        return {}

    def done(self):
        return self.left <= 0


class EmptySteps(Empty):
    steps = 3


def test_a_rival_that_learns_nothing_is_not_asked_to_change():
    (found,) = [
        f for f in check_training("it", Empty, source, frozenset({"Iterative"})) if f.test == "training changes it"
    ]
    assert found.holds
    assert found.skipped == "it holds nothing, and its training takes no step"
    assert "training changes it" in faults(EmptySteps, source, "Iterative", {})


def test_a_model_of_no_kind_is_refused():
    with pytest.raises(UserError, match="cannot be trained"):
        train_briefly(torch.nn.Linear(2, 2), source(), 2)
