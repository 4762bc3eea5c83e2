"""A head that is no density gives no likelihood, whichever metric asks."""

from __future__ import annotations

import math

import pytest
from latentbench.core.errors import UserError
from latentbench.core.seeds import generator
from latentbench.core.types import DataInfo
from latentbench.evaluation import likelihood
from latentbench.models.likelihoods import Bernoulli

from tests.evaluation.test_directions import Linear, view


@pytest.mark.parametrize("evaluator", [likelihood.nll_iw, likelihood.bits_per_dim_iw, likelihood.elbo])
def test_grey_values_under_a_bernoulli_are_refused(evaluator):
    model, settings = Linear(False), {"k": 2, "samples": 1}
    model.likelihood = Bernoulli(DataInfo((3,), "unit", 9))
    with pytest.raises(UserError, match="no normalised likelihood"):
        evaluator(model, view("nll"), settings, generator(0, "evaluation"))
    model.likelihood = Bernoulli(DataInfo((3,), "binary", 9))
    assert math.isfinite(evaluator(model, view("nll"), settings, generator(0, "evaluation")).value)
