"""Monte Carlo EM on a linear-Gaussian model, whose maximum likelihood is known, and on small bits."""

from __future__ import annotations

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models.baselines import PPCA
from latentbench.papers.vae.monte_carlo_em import MonteCarloEM
from torch import distributions as td

INFO = DataInfo((5,), "real", 120)
LINEAR = {"latent_dim": 2, "hidden": (), "likelihood": {"gaussian": {"scale": "shared"}}}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    g = gen(5)
    return torch.randn(120, 2, generator=g) @ torch.randn(2, 5, generator=g) + 0.4 * torch.randn(120, 5, generator=g)


def test_log_joint_is_the_definition(x):
    model = MonteCarloEM(INFO, **LINEAR)
    z = torch.randn(120, 2, generator=gen())
    expected = td.Normal(model.decoder(z), model.likelihood.log_std.exp()).log_prob(x).sum(-1)
    expected = expected + td.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(model.log_joint(x, z), expected)


def test_em_reaches_the_maximum_likelihood(x):
    """The fit's exact likelihood (marginal of a linear-Gaussian model) against that of the optimum, PPCA."""
    torch.manual_seed(0)
    model = MonteCarloEM(INFO, **LINEAR, epochs=60, batch_size=60, lr=0.1)
    w, b = model.decoder[0].weight, model.decoder[0].bias

    def exact() -> float:
        covariance = w @ w.T + (2 * model.likelihood.log_std).exp() * torch.eye(5)
        return td.MultivariateNormal(b, covariance).log_prob(x).mean().item()

    before = exact()
    with torch.no_grad():  # as the runner may
        model.fit(x, gen())
    ppca = PPCA(INFO, latent_dim=2)
    ppca.fit(x, gen())
    optimum = ppca.log_prob(x).mean().item()
    assert before < optimum - 1
    assert optimum - 0.12 < exact() < optimum + 1e-3


def test_weight_decay_is_a_prior_on_the_weights(x):
    norms = []
    for decay in (0.0, 1.0):
        torch.manual_seed(0)
        model = MonteCarloEM(INFO, **LINEAR, epochs=20, lr=0.1, weight_decay=decay)
        model.fit(x, gen())
        norms.append(model.decoder[0].weight.norm().item())
    assert norms[1] < 0.8 * norms[0]


def test_refusals(x):
    with pytest.raises(UserError, match="training samples of shape"):
        MonteCarloEM(INFO, **LINEAR).fit(x[:, :3], gen())
    for params, message in [
        ({"epochs": 0}, "epochs is 0"),
        ({"updates": 0}, "updates is 0"),
        ({"lr": 0.0}, "lr is 0"),
        ({"leapfrog": 0}, "leapfrog is 0"),
        ({"likelihood": "bernoulli"}, "support 'real'"),
    ]:
        with pytest.raises(UserError, match=message):
            MonteCarloEM(INFO, **params)
