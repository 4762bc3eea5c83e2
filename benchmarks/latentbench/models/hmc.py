"""Hamiltonian Monte Carlo on many chains side by side, each with a step size of its own (Neal 2011, section 5.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Gt, Le
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from latentbench.models import checks

LogDensity = Callable[[Tensor], Tensor]


class HMC:
    """Chains (N, D) that move under an unnormalised log-density, with step sizes that drift to a wanted acceptance.

    Args:
        leapfrog: leapfrog steps of one move.
        acceptance: share of moves to be accepted, in (0, 1); a chain's step grows by `drift` after an accepted move
            and shrinks after a refused one, so that it stays where the share is as wanted.
        step: size at first.
        drift: relative growth of a step, 0 keeps it.
    """

    def __init__(
        self,
        *,
        leapfrog: PositiveInt = 10,
        acceptance: Annotated[float, Gt(0), Le(0.999)] = 0.9,
        step: PositiveFloat = 0.1,
        drift: NonNegativeFloat = 0.05,
    ) -> None:
        self.leapfrog = checks.whole("leapfrog", leapfrog)
        self.acceptance = checks.number("acceptance", acceptance, above=True, most=0.999)
        self.step = checks.number("step", step, above=True)
        self.drift = checks.number("drift", drift)

    def start(self, z: Tensor) -> Tensor:
        """Step sizes (N, 1) of fresh chains z (N, D)."""
        return torch.full((z.shape[0], 1), self.step, device=z.device, dtype=z.dtype)

    def move(
        self, z: Tensor, size: Tensor, log_density: LogDensity, generator: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One move of every chain.

        Args:
            z: (N, D).
            size: (N, 1) step sizes.
            log_density: (N, D) to (N,) nats, differentiable; a trajectory that ends in NaN is refused.
            generator: on the device of z.

        Returns:
            Chains (N, D), step sizes (N, 1) and which moves were accepted (N,).
        """
        momentum = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
        uniform = torch.rand(z.shape[:1], generator=generator, device=z.device, dtype=z.dtype)
        before, gradient = _gradient(log_density, z)
        at, p, now = z, momentum + 0.5 * size * gradient, before
        for i in range(self.leapfrog):
            at = at + size * p
            now, gradient = _gradient(log_density, at)
            p = p + (size if i + 1 < self.leapfrog else 0.5 * size) * gradient
        gain = now - before - 0.5 * (p.square().sum(-1) - momentum.square().sum(-1))
        accepted = uniform.log() < gain  # false where NaN
        keep = accepted[:, None]
        shrink = (1.0 + self.drift) ** (-self.acceptance / (1.0 - self.acceptance))
        size = (size * torch.where(keep, 1.0 + self.drift, shrink)).clamp(1e-4, 2.0)
        return torch.where(keep, at, z), size, accepted


def gaussian_fit(
    z: Tensor,
    log_density: LogDensity,
    generator: Generator,
    *,
    kernel: HMC,
    burn_in: int,
    draws: int,
    inflation: float = 1.5,
) -> tuple[Tensor, Tensor]:
    """Gaussians with the moments of chains that start at z (N, D): mean (N, D) and Cholesky factor (N, D, D).

    Kingma & Welling 2014, appendix D, fit a density to posterior samples in this way and weigh with it. The covariance
    is multiplied by `inflation`, so that importance weights have light tails; `draws` must exceed D.
    """
    size = kernel.start(z)
    for _ in range(burn_in):
        z, size, _ = kernel.move(z, size, log_density, generator)
    kept = []
    for _ in range(draws):
        z, size, _ = kernel.move(z, size, log_density, generator)
        kept.append(z)
    sample = torch.stack(kept)
    mean = sample.mean(0)
    d = sample - mean
    covariance = inflation * torch.einsum("sni,snj->nij", d, d) / max(draws - 1, 1)
    ridge = 1e-4 * torch.eye(z.shape[1], device=z.device, dtype=z.dtype)  # a chain that never moved has no spread
    return mean, torch.linalg.cholesky(covariance + ridge)


def _gradient(log_density: LogDensity, z: Tensor) -> tuple[Tensor, Tensor]:
    z = z.detach().requires_grad_(True)
    with torch.enable_grad():
        value = log_density(z)
        (gradient,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), gradient
