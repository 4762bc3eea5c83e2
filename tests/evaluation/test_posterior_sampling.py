"""The encoder-free bound against likelihoods that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.seeds import generator
from latentbench.core.types import DataInfo
from latentbench.evaluation.likelihood import nll
from latentbench.evaluation.posterior_sampling import nll_iw_mcmc
from latentbench.models.baselines import PPCA
from latentbench.models.vae import VAE, HierarchicalVAE
from torch import nn

from tests.evaluation.views import view_of

SETTINGS = {"k": 400, "draws": 50, "burn_in": 50, "starts": 64}


def draws():
    return generator(0, "evaluation")


def linear(rows: torch.Tensor) -> tuple[VAE, PPCA]:
    """A VAE whose decoder is probabilistic PCA of `rows`, with an encoder that knows nothing."""
    info = DataInfo((rows.shape[1],), "real", len(rows))
    ppca = PPCA(info, latent_dim=2)
    ppca.fit(rows, torch.Generator())
    torch.manual_seed(0)
    model = VAE(info, latent_dim=2, hidden=(), likelihood={"gaussian": {"scale": "shared"}})
    with torch.no_grad():
        model.decoder[0].weight.copy_(ppca.directions * (ppca.variances - ppca.noise).sqrt())
        model.decoder[0].bias.copy_(ppca.mean)
        model.likelihood.log_std.copy_(0.5 * ppca.noise.log()[0])
    return model, ppca


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rng = np.random.default_rng(3)
    return (rng.normal(size=(150, 2)) @ rng.normal(size=(2, 5)) + 0.4 * rng.normal(size=(150, 5))).astype(np.float32)


def test_it_meets_the_exact_likelihood_whatever_the_encoder_says(rows):
    model, ppca = linear(torch.from_numpy(rows))
    view = view_of(rows, [])
    exact = nll(ppca, view, {}, draws()).value
    with torch.no_grad():
        found = nll_iw_mcmc(model, view, SETTINGS, draws())
    assert exact - 0.01 < found.value < exact + 0.05
    assert found.n == 150
    assert found.details["ess_median"] > 100


def test_it_is_a_bound_even_where_the_chains_did_not_move(rows):
    model, ppca = linear(torch.from_numpy(rows))
    view = view_of(rows, [])
    exact = nll(ppca, view, {}, draws()).value
    with torch.no_grad():
        found = nll_iw_mcmc(model, view, {"k": 5, "draws": 3, "burn_in": 0, "starts": 1}, draws())
    assert found.value > exact + 0.1


def test_models_of_another_form_are_refused(rows):
    info = DataInfo((5,), "real", 150)
    with pytest.raises(UserError, match="HierarchicalVAE"):
        nll_iw_mcmc(HierarchicalVAE(info), view_of(rows, []), SETTINGS, draws())
    with pytest.raises(UserError, match="cannot measure a Linear"):
        nll_iw_mcmc(nn.Linear(2, 2), view_of(rows, []), SETTINGS, draws())
    with pytest.raises(UserError, match="draws"):
        nll_iw_mcmc(linear(torch.from_numpy(rows))[0], view_of(rows, []), {**SETTINGS, "draws": 2}, draws())
