"""The learned forward map against an integration of its own equation, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.nfdm.nfdm import NFDM
from torch import Tensor
from torchdiffeq import odeint

INFO = DataInfo((3,), "real", 20)


def made(scale: float) -> NFDM:
    torch.manual_seed(1)
    small = {"mlp": {"width": 16, "layers": 2}}
    model = NFDM(INFO, network=small, forward_network=small, delta=0.05).double()
    for p in model.parameters():
        p.data = scale * (p.data + 0.1 * torch.randn(p.shape, dtype=p.dtype))
    return model


def test_the_volatility_starts_near_the_one_of_the_map_that_it_starts_from():
    """g^2 = sigma^2 d/dt log(sigma^2 / mu^2) of mu = (1 - t) x, sigma = delta^(1 - t): exactly at t = 0."""
    model = NFDM(INFO, delta=0.05)
    t = torch.tensor([0.0, 0.3, 0.8])
    g2 = model.squared_volatility(t)
    rate = -2.0 * math.log(0.05) + 2.0  # 2 / (1 - t) at t = 0
    torch.testing.assert_close(g2[:, 0], 0.05 ** (2.0 * (1.0 - t)) * rate)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_the_flow_at_a_fixed_datum_carries_noise_along_the_map(scale: float):
    """dz/dt = f(z, t, x) from eps at t = 1 passes mu(x, t) + sigma(x, t) eps at every t: rates and map agree."""
    g = torch.Generator().manual_seed(3)
    model = made(scale)
    x, eps = (torch.randn(4, 3, generator=g, dtype=torch.float64) for _ in range(2))
    times = torch.tensor([1.0, 0.7, 0.4, 0.1, 0.0], dtype=torch.float64)

    def at(t: Tensor) -> Tensor:
        return t.repeat(len(x))

    with torch.no_grad():
        path = odeint(lambda t, z: model.map(x, at(t)).flow(z), eps, times, method="dopri5", rtol=1e-6, atol=1e-8)
        for t, z in zip(times, path):
            here = model.map(x, at(t))
            torch.testing.assert_close(z, here.mean + here.log_std.exp() * eps, rtol=1e-4, atol=1e-4)
        assert (path[2] - (0.6 * x + 0.05**0.6 * eps)).abs().max() > 0.03  # it is no longer the map it starts from


def test_the_density_that_the_flow_carries_is_the_maps():
    """Along the same paths the change of log-density is minus the integral of the divergence, here by autograd."""
    model, g = made(3.0), torch.Generator().manual_seed(4)
    x, eps = (torch.randn(4, 3, generator=g, dtype=torch.float64) for _ in range(2))

    def field(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = state[0].detach().requires_grad_()
            f = model.map(x, t.repeat(len(x))).flow(z)
            rows = [torch.autograd.grad(f[:, i].sum(), z, retain_graph=True)[0][:, i] for i in range(3)]
        return f.detach(), -torch.stack(rows).sum(0).detach()

    log_q = torch.distributions.Normal(0.0, 1.0).log_prob(eps).sum(1)
    times = torch.tensor([1.0, 0.3], dtype=torch.float64)
    z, change = odeint(field, (eps, log_q), times, method="dopri5", rtol=1e-6, atol=1e-8)
    here = model.map(x, torch.full((4,), 0.3, dtype=torch.float64))
    expected = torch.distributions.Normal(here.mean, here.log_std.exp()).log_prob(z[-1]).sum(1)
    torch.testing.assert_close(change[-1], expected.detach(), rtol=1e-4, atol=1e-4)
