"""Trainings that are no gradient descent, and state that no weights hold."""

from __future__ import annotations

import math
from itertools import chain, pairwise, repeat
from typing import Any

import pytest
import torch
from latentbench.core.errors import Diverged
from latentbench.spec.protocol import Training
from latentbench.training.in_stages import train_in_stages
from latentbench.training.loop import train
from latentbench.training.source import Source
from latentbench.training.state import Trained
from lightning.fabric import Fabric
from torch import nn

from tests.training.test_loop import DIMS, ROWS, source
from tests.training.test_resume import Task, assert_same


class FactorAnalysis(nn.Module):
    """Probabilistic PCA by EM, whose optimum is known: the likelihood of the closed form."""

    def __init__(self, tolerance: float = 0.0) -> None:
        super().__init__()
        self.tolerance = tolerance
        self.register_buffer("loading", torch.zeros(DIMS, 1))
        self.register_buffer("noise", torch.ones(()))
        self.register_buffer("last", torch.tensor([math.inf, math.inf]))

    def start(self, data, generator):
        self.loading.copy_(torch.randn((DIMS, 1), generator=generator))

    def advance(self, data, generator):
        x = data.x - data.x.mean(0)
        w, s = self.loading, self.noise
        inside = w.T @ w + s * torch.eye(1)
        z = x @ w @ torch.linalg.inv(inside)
        zz = len(x) * s * torch.linalg.inv(inside) + z.T @ z
        new = x.T @ z @ torch.linalg.inv(zz)
        spread = (x.square().sum() - 2 * (z * (x @ new)).sum() + torch.trace(zz @ new.T @ new)) / x.numel()
        self.loading.copy_(new)
        self.noise.copy_(spread)
        loss = self.nll(data.x)
        self.last.copy_(torch.stack([self.last[1], loss]))
        return {"loss": loss, "noise": float(self.noise)}

    def done(self):
        return bool((self.last[0] - self.last[1]).abs() < self.tolerance)

    def nll(self, x):
        cov = self.loading @ self.loading.T + self.noise * torch.eye(DIMS)
        return -torch.distributions.MultivariateNormal(x.mean(0), cov).log_prob(x).mean()


class Chain:
    """A plain object: a random walk that keeps its generated rows, not its weights, from step to step."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []
        self.accepted = 0

    def start(self, data, generator):
        self.kept = [torch.randn((2, DIMS), generator=generator)]

    def advance(self, data, generator):
        proposed = self.kept[-1] + 0.5 * torch.randn((2, DIMS), generator=generator)
        gain = -0.5 * (proposed.square() - self.kept[-1].square()).sum()
        accept = torch.rand((), generator=generator) < gain.exp()
        self.accepted += int(accept)
        self.kept.append(proposed if accept else self.kept[-1])
        return {"accepted": self.accepted / len(self.kept)}

    def done(self):
        return False

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        assert state == {}

    def own_state(self):
        return {"kept": self.kept, "accepted": self.accepted}

    def load_own_state(self, state):
        self.kept, self.accepted = state["kept"], state["accepted"]


class Agent(nn.Module):
    """Acts in an environment of its own and learns from a buffer of what it has seen there."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = nn.Linear(DIMS, DIMS)
        self.buffer: list[tuple[torch.Tensor, float]] = []
        self.place = torch.zeros(DIMS)

    def update(self, name, batch, generator):
        self.place = 0.9 * self.place + self.policy(self.place) + torch.randn(DIMS, generator=generator)
        self.buffer = [*self.buffer[-9:], (self.place.clone(), float(self.place.sum()))]
        return {"size": len(self.buffer)}

    def loss(self, batch, generator):
        chosen = [self.buffer[i] for i in torch.randint(len(self.buffer), (4,), generator=generator)]
        states, rewards = torch.stack([s for s, _ in chosen]), torch.tensor([r for _, r in chosen])
        return {"loss": (self.policy(states).sum(1) - rewards).square().mean()}

    def own_state(self):
        return {"buffer": self.buffer, "place": self.place}

    def load_own_state(self, state):
        self.buffer, self.place = state["buffer"], state["place"]


ACT = {"phases": [{"update": "act", "times": 2}, {"player": "model"}]}


def run(model: Any, data: Source | None = None, **protocol: Any) -> Trained:
    spec = Training.model_validate(protocol)
    return train(model, data or source(), None, spec, Fabric(accelerator="cpu", devices=1), 0)


def test_em_reaches_the_optimum_that_is_known():
    data = source(400)
    model = FactorAnalysis(1e-9)
    out = run(model, data)
    x = data.whole(torch.Generator()).x
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    best = FactorAnalysis()
    best.noise.copy_(values[:-1].mean())
    best.loading.copy_(vectors[:, -1:] * (values[-1] - best.noise).sqrt())
    assert float(model.nll(x)) == pytest.approx(float(best.nll(x)), abs=1e-4)
    losses = [row["loss"] for row in out.curve]
    assert all(b <= a + 1e-5 for a, b in pairwise(losses)), "EM never loses"
    assert out.steps < 5000
    assert out.samples == out.steps * 400


@pytest.mark.parametrize("length", [{"steps": 7}, {"epochs": 7}])
def test_as_many_iterations_as_asked_for(length):
    out = run(FactorAnalysis(), **length)
    assert (out.steps, out.epochs, out.samples) == (7, 7.0, 7 * ROWS)
    assert [row["step"] for row in out.curve] == [float(n) for n in range(1, 8)]
    assert {"loss", "noise"} <= set(out.curve[0])
    assert "lr" not in out.curve[0]


def test_the_curve_of_a_training_without_end_in_sight_stays_small():
    class Counter(Chain):
        def done(self):
            return len(self.kept) > 3000

    out = run(Counter())
    assert out.steps == 3000
    assert out.curve[-1]["step"] == 3000
    assert 256 <= len(out.curve) <= 1000


def test_an_iteration_that_leaves_the_finite_numbers():
    class Broken(FactorAnalysis):
        def advance(self, data, generator):
            return {"loss": math.nan}

    with pytest.raises(Diverged, match="nan"):
        run(Broken(), steps=3)


class WithState(Task):
    def compare(self, model: Any, out: Trained) -> None:
        assert_same(self, model, out)
        expected = self.alone[0]
        if hasattr(expected, "own_state"):
            torch.testing.assert_close(model.own_state(), expected.own_state(), rtol=0, atol=0)


NOISY = {"dtype": "uint8", "steps": ("dequantise", "flatten", "to_unit")}
TASKS: dict[str, WithState] = {
    "EM": WithState({"steps": 8}, FactorAnalysis),
    "EM until it is done": WithState({}, lambda: FactorAnalysis(1e-3)),
    "a chain": WithState({"steps": 8}, Chain),
    "an agent": WithState({"epochs": 3, **ACT}, Agent),
    "an agent, averaged": WithState({"epochs": 3, "ema": 0.5, **ACT}, Agent),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_asked_to_stop_after_every_step(tmp_path, task):
    model, out, interrupted = task.in_pieces(tmp_path, repeat(1))
    task.compare(model, out)
    assert interrupted >= 3


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_dead_without_warning_since_some_steps(tmp_path, task):
    model, out, interrupted = task.in_pieces(tmp_path, chain([1, 4, 3], repeat(1000)), saves=2)
    task.compare(model, out)
    assert interrupted >= 2


def test_iterations_on_noisy_rows_see_the_same_rows_after_an_interruption(tmp_path):
    class Sums(FactorAnalysis):
        def advance(self, data, generator):
            self.noise += data.x.sum()
            return {"sum": self.noise}

    task = WithState({"steps": 5}, Sums, lambda: source(12, **NOISY), None)
    model, out, _ = task.in_pieces(tmp_path, repeat(1))
    task.compare(model, out)


class AgentInStages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.agent, self.factors = Agent(), FactorAnalysis()

    def stages(self):
        return {"agent": self.agent, "factors": self.factors}


def test_state_of_its_own_within_a_stage(tmp_path):
    stages = [{"name": "agent", "steps": 6, **ACT}, {"name": "factors", "steps": 4}]
    spec = Training.model_validate({"in_stages": stages})

    class Staged(WithState):
        def train(self, model, data, valid, fabric, checkpoints):
            return train_in_stages(model, data, valid, spec, fabric, 4, lambda _: None, checkpoints=checkpoints)

    task = Staged({}, AgentInStages)
    model, out, interrupted = task.in_pieces(tmp_path, repeat(1))
    task.compare(model, out)
    assert interrupted >= 8
