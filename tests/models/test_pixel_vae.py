"""PixelVAE: the InfoVAE loss by its formula, bounds with flows and causal decoder, and equality with the plain VAE."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models.discrepancy import squared_mmd
from latentbench.models.pixel_vae import PixelVAE
from latentbench.models.vae import VAE
from torch import distributions as td

BINARY = DataInfo((6,), "binary", 40)
IMAGE = DataInfo((1, 2, 3), "binary", 40)
X = (torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()
CAUSAL = {"window": 3, "channels": 4, "layers": 1, "condition": 2}
FLOWS = {"prior_flow": 2, "posterior_flow": 1, "flow_hidden": (8,)}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(info: DataInfo = BINARY, **params: object) -> PixelVAE:
    torch.manual_seed(1)
    model = PixelVAE(info, **{"latent_dim": 2, "hidden": (7,), **params})
    with torch.no_grad():
        model.q.head.weight.mul_(0.3)
        for flow in (model.prior, model.transform):
            for net in flow.nets if flow is not None else ():
                net[-1].weight.mul_(30.0)
    return model


def test_mmd_is_the_definition():
    x, y = torch.randn(5, 3, generator=gen()), torch.randn(7, 3, generator=gen(1))

    def mean(a, b):
        return sum(math.exp(-float((p - q).square().sum()) / 9) for p in a for q in b) / (len(a) * len(b))

    assert squared_mmd(x, y).item() == pytest.approx(mean(x, x) + mean(y, y) - 2 * mean(x, y), abs=1e-6)
    assert squared_mmd(x, x).item() == pytest.approx(0.0, abs=1e-6)
    assert squared_mmd(x, x + 3).item() > 0.5


@pytest.mark.parametrize(("alpha", "strength"), [(0.0, 1.0), (0.0, 2.0), (0.4, 0.6), (0.7, 9.0), (1.0, 50.0)])
def test_loss_is_equation_6(alpha: float, strength: float):
    """distortion + (1 - alpha) KL + (alpha + lambda - 1) MMD, with the same random numbers."""
    model, g = make(alpha=alpha, strength=strength), gen(3)
    out = model.loss(Batch(X, 40), gen(3))
    noise, prior = torch.randn(8, 2, generator=g), torch.randn(8, 2, generator=g)
    mean, log_std = model.posterior(X)
    q = td.Normal(mean, log_std.exp())
    z = mean + log_std.exp() * noise
    distortion = -td.Bernoulli(logits=model.decoder(z)).log_prob(X).sum(-1).mean()
    kl = td.kl_divergence(q, td.Normal(torch.zeros(2), 1.0)).sum(-1).mean()
    expected = distortion + (1 - alpha) * kl + (alpha + strength - 1) * squared_mmd(z, prior)
    torch.testing.assert_close(out["loss"], expected)
    assert ("mmd" in out) == (alpha + strength > 1)


def test_codes_are_held_against_draws_of_the_flows_prior():
    model, g = make(strength=3.0, prior_flow=2, flow_hidden=(8,)), gen(3)
    out = model.loss(Batch(X, 40), gen(3))
    noise, wanted = torch.randn(8, 2, generator=g), torch.randn(8, 2, generator=g)
    mean, log_std = model.posterior(X)
    z, target = mean + log_std.exp() * noise, model.prior.inverse(wanted)
    torch.testing.assert_close(out["mmd"], squared_mmd(z, target).detach())
    assert (out["mmd"] - squared_mmd(z, wanted)).abs() > 1e-3


def test_a_posteriors_flow_alone_moves_codes_and_rate():
    """log q(z | x) - log p(z) at z = f(mean + std * noise), under a standard normal prior."""
    model = make(posterior_flow=2, flow_hidden=(8,))
    mean, log_std = model.posterior(X)
    q = td.Normal(mean, log_std.exp())
    before = q.mean + q.stddev * torch.randn(8, 2, generator=gen(2))
    z, log_det = model.transform(before)
    rate = q.log_prob(before).sum(-1) - log_det - td.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(model.elbo(X, gen(2)).rate, rate)
    torch.testing.assert_close(model.encode_sample(X, gen(2)), z)
    torch.testing.assert_close(model.encode(X), model.transform(mean)[0])
    assert (model.encode(X) - mean).abs().max() > 0.05


def test_samples_come_through_the_priors_flow():
    model, g = make(prior_flow=2, flow_hidden=(8,)), gen(4)
    with torch.no_grad():
        z = model.prior.inverse(torch.randn(500, 2, generator=g))
        expected = torch.bernoulli(torch.sigmoid(model.decoder(z)), generator=g)
        torch.testing.assert_close(model.sample(500, gen(4)), expected)


def test_with_the_defaults_it_is_the_vae():
    model = make(activation="tanh")
    plain = VAE(BINARY, latent_dim=2, hidden=(7,), kl="analytic")
    plain.q[0].load_state_dict(model.q.state_dict())
    plain.decoder.load_state_dict(model.decoder.state_dict())
    a, b = model.elbo(X, gen(2)), plain.elbo(X, gen(2))
    torch.testing.assert_close(a.rate, b.rate)
    torch.testing.assert_close(a.distortion, b.distortion)
    k = model.log_importance_weights(X, model.posterior(X), 5, gen(2))
    torch.testing.assert_close(k, plain.log_importance_weights(X, plain.posterior(X), 5, gen(2)))


def test_free_bits_hold_the_rate_up():
    low = make(free_bits=1e3).loss(Batch(X, 40), gen(3))
    torch.testing.assert_close(low["loss"], low["distortion"] + 1e3)
    none = make(free_bits=1e-6).loss(Batch(X, 40), gen(3))
    torch.testing.assert_close(none["loss"], none["distortion"] + none["rate"])


@pytest.mark.parametrize("params", [CAUSAL, FLOWS, {**CAUSAL, **FLOWS}], ids=["causal", "flows", "both"])
def test_the_model_is_normalised_and_bounds_stay_below(params: dict):
    """p(x) over all 64 images by prior sampling, where log p(z) is what the density of z says."""
    model = make(IMAGE, **params)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6))).reshape(-1, 1, 2, 3)
    with torch.no_grad():
        noise = torch.randn(3000, 2, generator=gen(5))
        z = noise if model.prior is None else model.prior.inverse(noise)
        log_p = model.log_likelihood(x, z[:, None].expand(-1, 64, -1)).logsumexp(0) - math.log(3000)
        assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-4)
        log_w = model.log_importance_weights(x, model.posterior(x), 4000, gen(1))
        elbo = torch.stack([model.elbo(x, gen(i)).value for i in range(200)]).mean(0)
    torch.testing.assert_close(log_w.logsumexp(0) - math.log(4000), log_p, rtol=0, atol=0.15)
    torch.testing.assert_close(elbo, log_w.mean(0), rtol=0, atol=0.25)
    assert (log_w.mean(0) < log_p + 0.02).all()


def test_the_prior_flow_is_a_density():
    model = make(**FLOWS)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-12, 12, 481)] * 2, indexing="ij"), -1).reshape(-1, 2)
    with torch.no_grad():
        assert model.log_prior(grid).exp().sum().item() * (24 / 480) ** 2 == pytest.approx(1.0, abs=0.02)


def test_samples_have_the_implied_marginals():
    model = make(IMAGE, **CAUSAL, **FLOWS)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6))).reshape(-1, 1, 2, 3)
    with torch.no_grad():
        z = model.prior.inverse(torch.randn(3000, 2, generator=gen(5)))
        p = (model.log_likelihood(x, z[:, None].expand(-1, 64, -1)).logsumexp(0) - math.log(3000)).exp()
        drawn = model.sample(6000, gen())
    torch.testing.assert_close(drawn.mean(0), (p[:, None, None, None] * x).sum(0), rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": 0.5, "strength": 0.2}, "alpha \\+ strength"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"window": 3}, "images"),
        ({"prior_flow": -1}, "prior_flow is -1"),
        ({"prior_flow": 1, "latent_dim": 1}, "one coordinate"),
        ({"free_bits": -1}, "free_bits is -1"),
    ],
)
def test_refusals(params: dict, message: str):
    with pytest.raises(UserError, match=message):
        make(**params)
