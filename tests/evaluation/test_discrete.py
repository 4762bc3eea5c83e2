"""Bounds for grey values and for parts of a sample, and the time of a step."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from latentbench.core.capabilities import Elbo
from latentbench.core.errors import UserError
from latentbench.core.seeds import generator
from latentbench.evaluation import cost
from latentbench.models.discrete.vae import DiscreteVAE
from latentbench.papers.gumbel_softmax.measure import conditional_nll_iw
from latentbench.papers.gumbel_softmax.structured import StructuredPredictor
from latentbench.papers.reinmax.training_bound import cross_entropy_bound

from tests.evaluation.views import view_of


def binary(n: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, 6)) < 0.4).astype(np.uint8)


class Sums:
    """Rate 1, distortion the sum of x."""

    def elbo(self, x, generator):
        return Elbo(rate=torch.ones(len(x)), distortion=x.sum(1))


def test_cross_entropy_bound_is_rate_plus_distortion_of_the_split_asked_for():
    test, train = binary(7), binary(50, 1)
    view = view_of(test, train=train, levels=2)
    for split, rows in (("test", test), ("train", train[:20])):
        settings = {"split": split, "samples": 2, "rows": 20}
        value = cross_entropy_bound(Sums(), view, settings, generator(0, "evaluation"))
        assert value.value == pytest.approx(1.0 + rows.sum(1).mean())
        assert value.n == len(rows)
        assert value.details["rate"] == 1.0
    with pytest.raises(UserError, match="split"):
        cross_entropy_bound(Sums(), view, {"split": "all", "samples": 1, "rows": 1}, generator(0, "evaluation"))


def test_conditional_bound_meets_enumeration():
    view = view_of(binary(12), levels=2)
    torch.manual_seed(0)
    model = StructuredPredictor(view.info, layout="3x1", layers=1)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.0)
        prior = model.layers[0](view.x[:, :3]).log_softmax(-1)  # (N, 3)
        out = model.out(torch.eye(3))
        fit = torch.distributions.Bernoulli(logits=out).log_prob(view.x[:, None, 3:]).sum(-1)
        exact = -(prior + fit).logsumexp(-1).mean()
        found = conditional_nll_iw(model, view, {"k": 4000}, generator(0, "evaluation"))
        loose = conditional_nll_iw(model, view, {"k": 1}, generator(0, "evaluation"))
    assert found.value == pytest.approx(float(exact), abs=0.02)
    assert loose.value > found.value


def test_step_ms_is_the_time_of_a_loss_and_its_gradient():
    class Slow(torch.nn.Module):
        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.seconds, self.w = seconds, torch.nn.Parameter(torch.ones(()))
            self.rows: list[int] = []

        def loss(self, batch, generator):
            self.rows.append(len(batch.x))
            time.sleep(self.seconds)
            return {"loss": (self.w * batch.x).sum()}

    view = view_of(binary(5), train=binary(30), levels=2)
    model = Slow(0.004)
    with torch.no_grad():
        value = cost.step_ms(model, view, {"rows": 20, "steps": 5}, generator(0, "evaluation"))
    assert 4.0 <= value.details["least"] <= value.value < 400.0
    assert set(model.rows) == {20}
    assert model.w.grad is None


def test_summing_over_classes_takes_longer_than_drawing_one():
    from latentbench.papers.gumbel_softmax.class_vae import ClassVAE

    view = view_of(binary(5), train=binary(200), levels=2)

    def least(estimator: str) -> float:
        model = ClassVAE(view.info, classes=200, hidden=(64,), estimator=estimator)
        return cost.step_ms(model, view, {"rows": 100, "steps": 5}, generator(0, "evaluation")).details["least"]

    assert least("enumerate") > 2.0 * least("gumbel_softmax")


def test_grey_values_train_a_discrete_vae_on_a_cross_entropy():
    """Such a number is refused where a likelihood is asked for, and is what `cross_entropy_bound` gives."""
    view = view_of(np.random.default_rng(0).integers(0, 256, (9, 6)).astype(np.uint8), ["to_unit"], levels=256)
    model = DiscreteVAE(view.info, layout="3x2", hidden=(8,), likelihood="bernoulli")
    assert not model.likelihood.normalised
    with torch.no_grad():
        value = cross_entropy_bound(model, view, {"split": "test", "samples": 1, "rows": 9}, generator(0, "evaluation"))
    assert 0.5 * 6 * math.log(2) < value.value < 3 * 6 * math.log(2)
