"""Distance of aggregate posterior and prior on codes that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.capabilities import Elbo
from latentbench.core.seeds import generator
from latentbench.evaluation import aggregate

from tests.evaluation.views import view_of


class Codes:
    """Draws that are the data times `scale` plus `shift`."""

    def __init__(self, scale: float = 1.0, shift: float = 0.0) -> None:
        self.scale, self.shift = scale, shift

    def encode_sample(self, x, generator):
        return x * self.scale + self.shift

    def elbo(self, x, generator):
        return Elbo(rate=x[:, 0].square(), distortion=x[:, 0] * 0)


@pytest.fixture
def view():
    return view_of(np.random.default_rng(0).normal(size=(1500, 3)).astype(np.float32))


def draws():
    return generator(0, "evaluation")


def test_codes_that_are_the_prior(view):
    assert aggregate.aggregate_mmd(Codes(), view, {"bandwidth": 0.0}, draws()).value == pytest.approx(0.0, abs=2e-3)
    found = aggregate.aggregate_log_det(Codes(), view, {}, draws())
    assert found.value == pytest.approx(0.0, abs=0.15)


def test_codes_that_are_not(view):
    far = aggregate.aggregate_mmd(Codes(shift=2.0), view, {"bandwidth": 0.0}, draws())
    assert far.value > 0.1
    assert far.details["bandwidth"] == pytest.approx(3 / math.sqrt(2))
    assert aggregate.aggregate_mmd(Codes(shift=2.0), view, {"bandwidth": 9.0}, draws()).details["bandwidth"] == 9.0
    for scale in (0.5, 2.0):
        found = aggregate.aggregate_log_det(Codes(scale), view, {}, draws())
        assert found.value == pytest.approx(6 * math.log(2), abs=0.2)
        assert math.copysign(1, found.details["log_det"]) == math.copysign(1, math.log(scale))


def test_the_determinant_is_that_of_the_unbiased_covariance():
    few = view_of(np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32))
    found = aggregate.aggregate_log_det(Codes(0.5), few, {}, draws())
    expected = np.linalg.slogdet(np.cov(0.5 * np.asarray(few.raw[:]).T))[1]
    assert found.details["log_det"] == pytest.approx(expected, rel=1e-4)


def test_rate_is_the_mean_over_all_rows(view):
    found = aggregate.rate(Codes(), view, {}, draws())
    assert found.value == pytest.approx(float(np.square(view.raw[:, 0]).mean()), rel=1e-5)
    assert found.n == 1500


def test_one_dimension(view):
    narrow = view_of(np.random.default_rng(0).normal(size=(500, 1)).astype(np.float32))
    assert aggregate.aggregate_log_det(Codes(), narrow, {}, draws()).value < 0.3
    assert torch.isfinite(torch.tensor(aggregate.aggregate_mmd(Codes(), narrow, {"bandwidth": 0.0}, draws()).value))
