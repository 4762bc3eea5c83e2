"""The InfoVAE loss by its formula; MMD by its definition and unbiased; Stein's direction by autograd."""

from __future__ import annotations

import math

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.infovae.info_vae import InfoVAE, kernel, stein_direction, unbiased_mmd
from torch import distributions as td

INFO = DataInfo((6,), "binary", 40)
X = (torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(**params: object) -> InfoVAE:
    torch.manual_seed(1)
    return InfoVAE(INFO, **{"latent_dim": 2, "hidden": (7,), **params})


def test_mmd_is_the_definition():
    x, y, s = torch.randn(5, 3, generator=gen()), torch.randn(7, 3, generator=gen(1)), 1.3

    def k(a, b):
        return math.exp(-float((a - b).square().sum()) / (2 * s * s))

    def within(z):
        n = len(z)
        return sum(k(z[i], z[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    between = sum(k(a, b) for a in x for b in y) / 35
    assert unbiased_mmd(x, y, s).item() == pytest.approx(within(x) + within(y) - 2 * between, abs=1e-6)


def test_mmd_of_two_samples_of_one_density_is_zero_on_average():
    g = gen(2)
    found = torch.stack([unbiased_mmd(*torch.randn(2, 10, 3, generator=g), 1.5) for _ in range(2000)])
    assert abs(found.mean()) < 4 * found.std() / 2000**0.5
    x, y = torch.randn(2, 400, 3, generator=g)
    assert unbiased_mmd(x, y + 2.0, 1.5) > 0.3


def test_steins_direction_is_its_formula():
    z, s = 2.0 * torch.randn(6, 3, generator=gen(3)) + 1.0, 1.7
    wanted = torch.zeros(6, 3)
    for i in range(6):
        for j in range(6):
            leaf = z[j].clone().requires_grad_()
            k = kernel(leaf[None], z[i][None], s).squeeze()
            (slope,) = torch.autograd.grad(k, leaf)
            wanted[i] += (-k.detach() * z[j] + slope) / 6
    torch.testing.assert_close(stein_direction(z, s), wanted)


def test_steins_direction_leads_codes_to_the_prior():
    z = 0.2 * torch.randn(200, 1, generator=gen(4)) + 3.0
    for _ in range(2000):
        z = z + 0.2 * stein_direction(z, 0.5**0.5)
    assert abs(z.mean()) < 0.1
    assert z.std().item() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(("alpha", "strength"), [(0.0, 1.0), (0.0, 2.0), (0.9, 0.1), (0.7, 9.0), (1.0, 50.0)])
@pytest.mark.parametrize("divergence", ["mmd", "stein"])
def test_loss_is_equation_6(alpha: float, strength: float, divergence: str):
    """distortion + (1 - alpha) KL + (alpha + lambda - 1) D, with the same random numbers; the Stein term's gradient."""
    model, g = make(alpha=alpha, strength=strength, divergence=divergence, bandwidth=1.2), gen(3)
    out = model.loss(Batch(X, 40), gen(3))
    noise, prior = torch.randn(8, 2, generator=g), torch.randn(8, 2, generator=g)
    mean, log_std = model.posterior(X)
    z = mean + log_std.exp() * noise
    distortion = -td.Bernoulli(logits=model.decoder(z)).log_prob(X).sum(-1).mean()
    kl = td.kl_divergence(td.Normal(mean, log_std.exp()), td.Normal(torch.zeros(2), 1.0)).sum(-1).mean()
    if divergence == "mmd":
        apart = unbiased_mmd(z, prior, 1.2)
    else:
        apart = -(z * stein_direction(z, 1.2).detach()).sum(-1).mean()
    expected = distortion + (1 - alpha) * kl + (alpha + strength - 1) * apart
    torch.testing.assert_close(out["loss"], expected)
    ours = torch.autograd.grad(out["loss"], model.q.head.weight)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, model.q.head.weight))
    assert ("divergence" in out) == (alpha + strength > 1 + 1e-9)


def test_flows_and_free_bits_are_refused():
    flows = ({"prior_flow": 1}, {"posterior_flow": 1})
    for wrong in (*flows, {"free_bits": 0.1}, {"divergence": "kl"}, {"bandwidth": -1}):
        with pytest.raises(UserError):
            make(**wrong)
