"""The count of what autograd keeps, on graphs small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.evaluation.footprint import parameters, training_memory
from latentbench.papers.neural_ode.odenet import OdeNet
from torch import nn

from .views import view_of

MIB = 2**20


class Squares(nn.Module):
    """x -> ((x²)²)…: each squaring keeps its input."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.scale = times, nn.Parameter(torch.ones(()))

    def loss(self, batch: Batch, generator: torch.Generator) -> dict:
        y = batch.x * self.scale
        for _ in range(self.times):
            y = y.square()
        return {"loss": y.sum()}


def gen() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("times", [1, 3])
def test_by_hand(times: int):
    view = view_of(np.ones((64, 1024), np.float32))
    kept = training_memory(Squares(times), view, {"rows": 32}, gen())
    block = 32 * 1024 * 4
    # x, for the scale's gradient (the whole training split's storage, of which it is a view), and each squaring's input
    assert kept.value * MIB == pytest.approx(64 * 1024 * 4 + times * block, abs=64)
    assert kept.n == 32


def test_it_leaves_no_trace_and_does_not_depend_on_what_came_before():
    view, model = view_of(np.ones((64, 10), np.float32)), Squares(2)
    first = training_memory(model, view, {"rows": 8}, gen())
    assert model.scale.grad is None
    assert first == training_memory(model, view, {"rows": 8}, gen())
    with torch.no_grad():  # as the runner calls it
        assert first == training_memory(model, view, {"rows": 8}, gen())


def test_adjoint_memory_does_not_grow_with_steps():
    x = np.random.default_rng(0).random((16, 1, 12, 12)).astype(np.float32)
    view = view_of(x, columns={"y": np.zeros(16, np.int64)})
    info = DataInfo((1, 12, 12), "unit", 16)

    def memory(steps: int, adjoint: bool) -> float:
        torch.manual_seed(0)
        model = OdeNet(info, classes=2, channels=8, solver={"rk4": {"steps": steps}}, adjoint=adjoint)
        return training_memory(model, view, {"rows": 16}, gen()).value

    adjoint, steps = [memory(s, True) for s in (2, 16)], [memory(s, False) for s in (2, 16)]
    assert adjoint[1] == pytest.approx(adjoint[0], rel=0.05)
    assert adjoint[0] < steps[0]
    # each step evaluates the field four times and keeps as much
    per_step = (steps[1] - steps[0]) / 14
    assert per_step > 4 * 6 * 16 * 8 * 9 * 4 / MIB / 4
    assert steps[1] > 2 * adjoint[1]


def test_parameters():
    assert parameters(nn.Linear(10, 5), None, {}, gen()).value == pytest.approx(55e-6)
