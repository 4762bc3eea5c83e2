"""Hamiltonian Monte Carlo against a distribution that is known."""

from __future__ import annotations

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.models.hmc import HMC, gaussian_fit


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(kernel: HMC, z: torch.Tensor, log_density, moves: int, g: torch.Generator):
    size = kernel.start(z)
    draws, shares = [], []
    for _ in range(moves):
        z, size, accepted = kernel.move(z, size, log_density, g)
        draws.append(z)
        shares.append(accepted.float().mean().item())
    return torch.stack(draws), shares, size


def test_moments_of_a_correlated_gaussian():
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.5]])
    precision = torch.linalg.inv(covariance)
    middle = torch.tensor([1.0, -2.0])

    def log_density(z):
        d = z - middle
        return -0.5 * torch.einsum("ni,ij,nj->n", d, precision, d)

    draws, shares, _ = run(HMC(leapfrog=8), torch.zeros(400, 2), log_density, 100, gen())
    sample = draws[50:].flatten(0, 1)
    torch.testing.assert_close(sample.mean(0), middle, rtol=0, atol=0.1)
    torch.testing.assert_close(torch.cov(sample.T), covariance, rtol=0, atol=0.1)
    late = shares[50:]
    assert 0.8 < sum(late) / len(late) < 0.98  # steps drift to the wanted 0.9


def test_a_move_is_velocity_verlet_and_metropolis():
    """Written out with the same random numbers, with steps so long that many moves are refused."""

    def log_density(z):
        return -0.25 * z.pow(4).sum(-1) - 2.0 * z.square().sum(-1)

    def slope(z):
        return -z.pow(3) - 4.0 * z

    z, size = torch.randn(400, 3, generator=gen(2)).double(), torch.linspace(0.2, 0.9, 400)[:, None].double()
    kernel, g = HMC(leapfrog=3, acceptance=0.75, drift=0.1), gen(5)
    momentum, uniform = torch.randn(z.shape, generator=g, dtype=z.dtype), torch.rand(400, generator=g, dtype=z.dtype)
    at, p = z, momentum
    for _ in range(3):
        p = p + 0.5 * size * slope(at)
        at = at + size * p
        p = p + 0.5 * size * slope(at)
    gain = log_density(at) - 0.5 * p.square().sum(-1) - log_density(z) + 0.5 * momentum.square().sum(-1)
    moved, grown, accepted = kernel.move(z, size, log_density, gen(5))
    assert torch.equal(accepted, uniform.log() < gain)
    assert 0.3 < accepted.double().mean() < 0.9
    torch.testing.assert_close(moved, torch.where(accepted[:, None], at, z))
    torch.testing.assert_close(grown, size * torch.where(accepted[:, None], 1.1, 1.1**-3.0))


def test_a_small_step_keeps_the_energy_and_is_always_accepted():
    kernel = HMC(leapfrog=5, step=1e-3, drift=0.0)
    _, shares, size = run(kernel, torch.randn(50, 3, generator=gen()), lambda z: -z.pow(4).sum(-1), 5, gen(1))
    assert shares == [1.0] * 5
    assert (size == 1e-3).all()


def test_a_trajectory_into_nan_is_refused():
    kernel = HMC(leapfrog=3, step=1.0)
    z = torch.zeros(4, 1)
    moved, _, accepted = kernel.move(z, kernel.start(z), lambda z: torch.where(z == 0, z, z * torch.nan).sum(-1), gen())
    assert not accepted.any()
    assert torch.equal(moved, z)


def test_gaussian_fit_of_many_posteriors_at_once():
    """Posteriors N(m_n, s^2) differ by their means; the fitted ones have them, and covariances times the inflation."""
    middle = torch.linspace(-3, 3, 300)[:, None].expand(-1, 2)

    def log_density(z):
        return -0.5 * ((z - middle) / 0.3).square().sum(-1)

    mean, root = gaussian_fit(
        torch.zeros(300, 2), log_density, gen(), kernel=HMC(leapfrog=4), burn_in=80, draws=100, inflation=2.0
    )
    assert (mean - middle).abs().mean() < 0.1
    covariance = (root @ root.mT).mean(0) / 2.0
    torch.testing.assert_close(covariance, 0.09 * torch.eye(2), rtol=0, atol=0.015)


@pytest.mark.parametrize("params", [{"leapfrog": 0}, {"acceptance": 1.0}, {"step": 0}, {"drift": -1}])
def test_refusals(params: dict):
    with pytest.raises(UserError):
        HMC(**params)
