"""Evaluators of gradient estimates on models whose estimator is exact, noisy or biased."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.seeds import generator
from latentbench.evaluation.view import View
from latentbench.models.discrete.vae import DiscreteVAE
from latentbench.papers.reinmax import measure as gradients
from latentbench.papers.reinmax.programme import PolynomialProgramme

from tests.evaluation.views import view_of

SETTINGS = {"rows": 4, "draws": 3000}


@pytest.fixture
def view() -> View:
    return view_of((np.random.default_rng(0).random((30, 6)) < 0.4).astype(np.uint8), levels=2)


def measured(view: View, estimator: object, metric: str) -> float:
    torch.manual_seed(0)
    model = DiscreteVAE(view.info, layout="3x2", hidden=(8,), estimator=estimator)
    with torch.no_grad():
        for p in model.parameters():  # far enough from the start for a gradient that is not small beside its noise
            p.mul_(3.0)
        return getattr(gradients, metric)(model.eval(), view, SETTINGS, generator(0, "evaluation")).value


def test_enumeration_is_without_fault(view: View):
    assert measured(view, "enumerate", "gradient_cosine") == pytest.approx(1.0, abs=1e-5)
    assert measured(view, "enumerate", "gradient_bias") == pytest.approx(0.0, abs=1e-4)


def test_an_unbiased_estimator_shows_less_bias_than_a_biased_one(view: View):
    unbiased, biased = (
        measured(view, e, "gradient_bias") for e in ("muprop", {"straight_through": {"temperature": 3.0}})
    )
    assert unbiased < 0.1
    assert biased > 0.3


def test_the_gradient_is_measured_without_training(view: View):
    model = PolynomialProgramme(view.info, latents=4, estimator={"reinforce": {"normalise": True}})
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        gradients.gradient_cosine(model.eval(), view, SETTINGS, generator(0, "evaluation"))
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert all(p.grad is None for p in model.parameters())


def test_expected_cost(view: View):
    model = PolynomialProgramme(view.info, latents=4, power=1.0)
    with torch.no_grad():
        value = gradients.expected_cost(model, view, {}, generator(0, "evaluation")).value
    assert value == pytest.approx(0.5, abs=0.001)


def test_too_many_states_are_refused(view: View):
    model = DiscreteVAE(view.info, layout="10x20", hidden=(8,))
    with pytest.raises(UserError, match="states"):
        gradients.gradient_bias(model, view, {"rows": 1, "draws": 2}, generator(0, "evaluation"))
