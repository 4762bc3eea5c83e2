"""Wake-sleep's two gradients against their definitions."""

from __future__ import annotations

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.vae.wake_sleep import WakeSleep
from torch import distributions as td

BINARY = DataInfo((6,), "binary", 40, mean=torch.full((6,), 0.4))
X = (torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(info: DataInfo = BINARY, **params: object) -> WakeSleep:
    torch.manual_seed(1)
    model = WakeSleep(info, latent_dim=3, hidden=(7,), **params)
    with torch.no_grad():
        model.q[0].head.weight.mul_(0.3)
    return model


def test_the_two_phases_are_the_definition():
    """log p(x|z) at a draw of q, and log q(z'|x') at a dream, Hinton et al. 1995, with the same random numbers."""
    model, g = make(), gen(3)
    out = model.loss(Batch(X, 40), gen(3))
    noise, dreamt = torch.randn(8, 3, generator=g), torch.randn(8, 3, generator=g)
    mean, log_std = model.posterior(X)
    wake = td.Bernoulli(logits=model.decoder(mean + log_std.exp() * noise)).log_prob(X).sum(-1)
    x = (torch.rand(8, 6, generator=g) < torch.sigmoid(model.decoder(dreamt))).float()
    mean, log_std = model.posterior(x)
    sleep = td.Normal(mean, log_std.exp()).log_prob(dreamt).sum(-1)
    torch.testing.assert_close(out["wake"], -wake.mean())
    torch.testing.assert_close(out["sleep"], -sleep.mean())
    torch.testing.assert_close(out["loss"], out["wake"] + out["sleep"])


def test_each_phase_moves_its_own_parameters():
    """Without the sleep phase the encoder has no gradient, without the wake phase the decoder has none: no gradient
    passes through the draws (which is what tells wake-sleep from AEVB)."""
    model = make()
    model.loss(Batch(X, 40), gen(3))["loss"].backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters()}
    g = gen(3)
    noise, dreamt = torch.randn(8, 3, generator=g), torch.randn(8, 3, generator=g)
    with torch.no_grad():
        mean, log_std = model.posterior(X)
        z = mean + log_std.exp() * noise
        x = (torch.rand(8, 6, generator=g) < torch.sigmoid(model.decoder(dreamt))).float()
    model.zero_grad()
    (-td.Bernoulli(logits=model.decoder(z)).log_prob(X).sum(-1).mean()).backward()
    wake = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert wake
    assert all(name.startswith("decoder") for name in wake)
    for name, grad in wake.items():
        torch.testing.assert_close(together[name], grad)
    model.zero_grad(set_to_none=True)
    mean, log_std = model.posterior(x)
    (-td.Normal(mean, log_std.exp()).log_prob(dreamt).sum(-1).mean()).backward()
    for name, p in model.q.named_parameters(prefix="q"):
        torch.testing.assert_close(together[name], p.grad)


def test_sleep_learns_the_posterior_of_a_linear_gaussian_decoder():
    """With p(x|z) = N(wz, s^2) held fixed, the sleep phase alone leads q to the exact posterior."""
    info = DataInfo((2,), "real", 500)
    torch.manual_seed(0)
    model = WakeSleep(info, latent_dim=1, hidden=(), likelihood={"gaussian": {"scale": 0.5}})
    w = torch.tensor([[1.0], [-0.5]])
    with torch.no_grad():
        model.decoder[0].weight.copy_(w)
        model.decoder[0].bias.zero_()
        model.q[0].head.weight.mul_(0.1)
    optimiser, g = torch.optim.Adam(model.q.parameters(), 0.02), gen()
    for _ in range(900):
        optimiser.zero_grad()
        model.loss(Batch(torch.zeros(400, 2), 500), g)["loss"].backward()
        optimiser.step()
    precision = 1.0 + w.square().sum() / 0.25
    x = torch.randn(50, 2, generator=g)
    mean, log_std = model.posterior(x)
    torch.testing.assert_close(mean, x @ w / 0.25 / precision, rtol=0, atol=0.05)
    torch.testing.assert_close(log_std.exp(), (1 / precision).sqrt().expand(50, 1), rtol=0.15, atol=0)


def test_bad_input():
    with pytest.raises(UserError, match="latent_dim is 0"):
        WakeSleep(BINARY, latent_dim=0)
    with pytest.raises(UserError, match="support 'real'"):
        WakeSleep(DataInfo((6,), "real", 40), likelihood="bernoulli")
