"""Optimisers and schedules against plain formulas."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.spec.protocol import Optimizer, Schedule
from latentbench.training.optim import build_optimizer, learning_rate_factor

PER_EPOCH, TOTAL = 7, 70


def factors(**schedule) -> list[float]:
    factor = learning_rate_factor(Schedule.model_validate(schedule), PER_EPOCH, TOTAL)
    return [factor(step) for step in range(TOTAL)]


def test_constant():
    assert factors() == [1.0] * TOTAL


def test_linear():
    assert factors(name="linear", final=0.2) == pytest.approx([1 - 0.8 * s / TOTAL for s in range(TOTAL)])


def test_cosine():
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * s / TOTAL)) / 2 for s in range(TOTAL)]
    assert factors(name="cosine", final=0.1) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0, 4])
def test_cosine_restarts_every_period_after_the_warmup(warmup):
    """torch's CosineAnnealingWarmRestarts, whose last stretch here is cut short."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=15, eta_min=0.1)
    found = factors(name="cosine", final=0.1, period=15, warmup=warmup)
    for factor in found[warmup:]:
        assert factor == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert found[:warmup] == pytest.approx([(s + 1) / warmup for s in range(warmup)])


def test_exponential_falls_once_an_epoch():
    expected = [0.9 ** (s // PER_EPOCH) for s in range(TOTAL)]
    assert factors(name="exponential", decay=0.9) == pytest.approx(expected)


def test_stages_hold_for_their_epochs_and_the_last_one_on():
    stages = [{"epochs": 1, "factor": 1.0}, {"epochs": 3, "factor": 0.5}, {"epochs": 2, "factor": 0.1}]
    found = factors(name="stages", stages=stages)
    assert found == [1.0] * 7 + [0.5] * 21 + [0.1] * 42


def test_the_stages_of_burda_et_al():
    """3^i epochs at 10^(-i/7) for i = 0 .. 7, 3280 epochs in all (Burda et al. 2016, section 5)."""
    stages = [{"epochs": 3**i, "factor": 10 ** (-i / 7)} for i in range(8)]
    factor = learning_rate_factor(Schedule.model_validate({"name": "stages", "stages": stages}), 1, 3280)
    assert [factor(s) for s in (0, 1, 3, 4, 12, 13, 1092, 1093, 3279)] == pytest.approx(
        [10 ** (-i / 7) for i in (0, 1, 1, 2, 2, 3, 6, 7, 7)]
    )


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_warmup_rises_linearly_and_the_rest_follows(name):
    found = factors(name=name, warmup=10)
    assert found[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    plain = learning_rate_factor(Schedule.model_validate({"name": name}), PER_EPOCH, TOTAL - 10)
    assert found[10:] == pytest.approx([plain(s) for s in range(TOTAL - 10)])


@given(
    st.sampled_from(["constant", "linear", "cosine"]),
    st.integers(0, 300),
    st.floats(0, 1),
    st.integers(1, 200),
)
def test_factors_stay_between_nothing_and_one(name, warmup, final, total):
    factor = learning_rate_factor(Schedule(name=name, warmup=warmup, final=final), 3, total)
    found = [factor(s) for s in range(total)]
    assert all(0 < f <= 1 or (f == 0 and final == 0) for f in found)
    after = found[warmup:]
    assert all(a >= b - 1e-12 for a, b in pairwise(after)), "after the warm-up it only falls"


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"name": "adam", "lr": 0.1, "betas": [0.8, 0.9], "eps": 1e-4}, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-4}),
        ({"name": "adamw", "weight_decay": 0.3}, {"weight_decay": 0.3}),
        ({"name": "adamax"}, {"lr": 1e-3}),
        ({"name": "adagrad", "eps": 1e-3}, {"eps": 1e-3}),
        ({"name": "rmsprop", "momentum": 0.5}, {"momentum": 0.5}),
        ({"name": "sgd", "momentum": 0.9, "lr": 2.0}, {"momentum": 0.9, "lr": 2.0}),
    ],
    ids=lambda x: x.get("name", ""),
)
def test_settings_arrive(given_, expected):
    made = build_optimizer([torch.nn.Parameter(torch.zeros(2))], Optimizer.model_validate(given_))
    assert type(made).__name__.lower() == given_["name"]
    assert {k: made.param_groups[0][k] for k in expected} == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "adam", "momentum": 0.9},
        {"name": "sgd", "betas": [0.9, 0.99]},
        {"name": "adagrad", "momentum": 0.5},
        {"name": "sgd", "eps": 1e-8},
    ],
    ids=str,
)
def test_settings_that_an_optimiser_does_not_have_are_refused(wrong):
    setting = (set(wrong) - {"name"}).pop()
    with pytest.raises(UserError, match=f"optimiser '{wrong['name']}' has no setting '{setting}'"):
        build_optimizer([torch.nn.Parameter(torch.zeros(2))], Optimizer.model_validate(wrong))


def test_a_step_is_the_textbooks():
    """Adam's first step moves every coordinate by lr against the gradient's sign (Kingma & Ba 2015, section 2.1)."""
    weights = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    made = build_optimizer([weights], Optimizer(name="adam", lr=0.01))
    (weights * torch.tensor([5.0, -0.1, 2.0])).sum().backward()
    made.step()
    torch.testing.assert_close(weights.detach(), torch.tensor([0.99, -1.99, 2.99]))
