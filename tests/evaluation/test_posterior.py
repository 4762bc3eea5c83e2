"""What evaluators of codes hand on: means of the whole split, in order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.seeds import generator
from latentbench.evaluation import disentanglement, posterior

from tests.evaluation.views import view_of


class Coder:
    """Codes that are linear in the data, with a Gaussian posterior of given spread."""

    def __init__(self, matrix, std: float = 0.1) -> None:
        self.matrix, self.std = torch.as_tensor(matrix, dtype=torch.float32), std

    def encode(self, x):
        return x @ self.matrix

    def encode_gaussian(self, x):
        mean = self.encode(x)
        return mean, torch.full_like(mean, 2 * math.log(self.std))


@pytest.fixture
def view():
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, 5, 1300), rng.integers(0, 4, 1300)], 1)
    return view_of(factors.astype(np.float32), columns={"factors": factors.astype(np.int64)})


def test_codes_come_row_by_row_over_all_blocks(view):
    codes = posterior.codes(Coder([[1.0, 0.0], [0.0, 2.0]]), view)
    assert np.array_equal(codes.numpy(), view.raw * [1.0, 2.0])
    means, log_variances = posterior.gaussians(Coder(np.eye(2)), view)
    assert means.shape == log_variances.shape == (1300, 2)


def test_active_units(view):
    settings = {"threshold": 0.01}

    def units(matrix):
        return posterior.active_units(Coder(matrix), view, settings, generator(0, "evaluation"))

    assert units([[1.0, 0.0, 0.01], [0.0, 1.0, 0.0]]).value == 2
    assert "outcomes" not in units(np.eye(2)).details
    assert units(np.zeros((2, 3))).value == 0
    assert units(np.zeros((2, 3))).details["outcomes"] == ("posterior-collapse",)
    lax = posterior.active_units(Coder(np.eye(2) * 0.05), view, {"threshold": 1e-4}, generator(0, "evaluation"))
    assert lax.value == 2, "the threshold is the suite's"


def test_mig_of_identity_and_of_constant_codes(view):
    settings = {"bins": 20}
    best = disentanglement.mig(Coder(np.eye(2)), view, settings, generator(0, "evaluation")).value
    turned = disentanglement.mig(Coder([[1.0, 1.0], [1.0, -1.0]]), view, settings, generator(0, "evaluation")).value
    constant = disentanglement.mig(Coder(np.zeros((2, 2))), view, settings, generator(0, "evaluation")).value
    assert best > 0.98
    assert constant == pytest.approx(0.0, abs=1e-9)
    assert constant < turned < 0.5


def test_factors_are_asked_for(view):
    with pytest.raises(UserError, match="ground-truth factors"):
        disentanglement.mig(Coder(np.eye(2)), view_of(view.raw), {"bins": 20}, generator(0, "evaluation"))


def test_mutual_information_of_well_separated_codes_is_the_entropy_of_the_data(view):
    """Posteriors that do not overlap name the value they came from, so I(x; z) is the entropy of the 20 values."""
    counts = np.unique(view.raw, axis=0, return_counts=True)[1] / len(view)
    entropy = -(counts * np.log(counts)).sum()
    found = posterior.mutual_information(Coder(np.eye(2), 0.02), view, {"samples": 4000}, generator(0, "evaluation"))
    assert found.value == pytest.approx(entropy, abs=0.05)
    blurred = posterior.mutual_information(Coder(np.eye(2), 50.0), view, {"samples": 4000}, generator(0, "evaluation"))
    assert blurred.value == pytest.approx(0.0, abs=0.05)


def test_total_correlation_of_independent_and_of_equal_codes(view):
    settings = {"samples": 4000}
    apart = posterior.total_correlation(Coder(np.eye(2), 0.3), view, settings, generator(0, "evaluation")).value
    equal = posterior.total_correlation(
        Coder([[1.0, 1.0], [0.0, 0.0]], 0.3), view, settings, generator(0, "evaluation")
    )
    assert apart == pytest.approx(0.0, abs=0.1)
    assert equal.value > 0.8


def test_saturated_splits_say_so(view):
    settings = {"samples": 1000}
    jittered = view_of(view.raw + np.random.default_rng(1).normal(size=view.raw.shape).astype(np.float32))
    for metric in (posterior.total_correlation, posterior.mutual_information):
        sharp = metric(Coder(np.eye(2), 0.001), jittered, settings, generator(0, "evaluation")).details
        blurred = metric(Coder(np.eye(2), 0.5), jittered, settings, generator(0, "evaluation")).details
        assert (sharp["saturated"], sharp["outcomes"]) == (True, ("saturated",))
        assert sharp["mutual_information"] == pytest.approx(sharp["log_n"], abs=0.3)
        assert sharp["log_n"] == pytest.approx(math.log(1300))
        assert blurred["saturated"] is False
        assert "outcomes" not in blurred
        assert blurred["own_share"] < sharp["own_share"]
