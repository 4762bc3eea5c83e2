"""What is exact in LoRAE: its loss, its matrix, its rank, and that the density stage fits the codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.lorae.lorae import CodeSampler, LowRankAutoencoder
from latentbench.papers.lorae.measure import rank_of

INFO = DataInfo((2, 3), "unit", 40)
X = torch.rand(9, 2, 3, generator=torch.Generator().manual_seed(0))


def build(**params):
    torch.manual_seed(1)
    made = LowRankAutoencoder(INFO, latent_dim=4, hidden=(5,), **params)
    for parameter in made.parameters():
        parameter.data *= 1.5
    return made


def loss(model, seed=0):
    return model.loss(Batch(X, 40), torch.Generator().manual_seed(seed))


def test_the_loss_is_the_squared_error_and_the_sum_of_singular_values():
    model = build(linear=1, nuclear=0.7)
    with torch.no_grad():
        again = model.decode(model.linear[0](model.encoder(X)))
        error = sum(float(((X[i] - again[i]) ** 2).sum()) for i in range(len(X))) / len(X)
        nuclear = np.linalg.svd(model.linear[0].weight.numpy(), compute_uv=False).sum()
        assert float(loss(model)["loss"]) == pytest.approx(error + 0.7 * nuclear, rel=1e-5)


def test_the_penalty_is_of_the_product_of_the_layers():
    model = build(linear=3, nuclear=2.0)
    with torch.no_grad():
        a, b, c = (layer.weight for layer in model.linear)
        torch.testing.assert_close(model.matrix, c @ b @ a)
        torch.testing.assert_close(model.encode(X), model.encoder(X) @ (c @ b @ a).T, rtol=1e-4, atol=1e-5)
        assert float(loss(model)["nuclear_norm"]) == pytest.approx(
            float(torch.linalg.svdvals(c @ b @ a).sum()), rel=1e-4
        )


def test_a_plain_autoencoder_has_no_penalty():
    terms = loss(build())
    assert set(terms) == {"loss", "squared_error"}
    assert torch.equal(terms["loss"], terms["squared_error"])


def test_the_codes_distance_from_the_prior_is_weighed():
    small, large = loss(build(mmd=1.0)), loss(build(mmd=5.0))
    assert (large["loss"] - small["loss"]).item() == pytest.approx(4.0 * small["mmd"].item(), rel=1e-4)
    assert not torch.equal(loss(build(mmd=1.0), 1)["mmd"], small["mmd"]), "the prior's draws come from the generator"


@pytest.mark.parametrize("r", [1, 2, 5])
def test_the_rank_of_codes_with_equal_spread_in_r_directions(r):
    corners = torch.cat([torch.eye(r), -torch.eye(r)])
    turned = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(2)))[0][:r]
    assert rank_of(3.0 + 2.0 * corners @ turned) == pytest.approx(r, rel=1e-5)


def test_the_rank_lies_between_for_unequal_spread():
    codes = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    p = np.array([0.1, 0.9])
    assert rank_of(codes) == pytest.approx(float(np.exp(-(p * np.log(p)).sum())), rel=1e-6)
    assert rank_of(torch.ones(4, 3)) == 0.0


@pytest.mark.parametrize("density", ["gaussian", "mixture"])
def test_samples_are_decoded_draws_of_the_density_of_the_codes(density):
    torch.manual_seed(0)
    model = CodeSampler(INFO, autoencoder={"latent_dim": 2, "hidden": (5,)}, density=density, components=2)
    assert list(model.stages()) == ["autoencoder", "density"]
    codes = torch.cat([torch.randn(200, 2) * 0.1 + 4.0, torch.randn(200, 2) * 0.1 - 4.0])
    model.stages()["density"].fit(codes, torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = model.density.sample(3000, torch.Generator().manual_seed(5))
        torch.testing.assert_close(model.sample(3000, torch.Generator().manual_seed(5)), model.decode(z))
    assert z.mean().abs() < 0.3
    apart = ((z[:, 0].abs() > 3) & (z[:, 0].sign() == z[:, 1].sign())).float().mean()
    assert (apart > 0.99) == (density == "mixture"), "one Gaussian fills the gap between two clusters"


def test_a_vae_may_stand_in_the_autoencoders_place():
    model = CodeSampler(INFO, kind="vae", autoencoder={"latent_dim": 3, "hidden": (5,), "likelihood": "bernoulli"})
    assert model.encode(X).shape == (9, 3)
    assert model.reconstruct(X).shape == X.shape
