"""Annealed importance sampling of log p(x) for a model with a prior and a likelihood."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from latentbench.core.errors import UserError
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import NotFiniteError
from latentbench.metrics.likelihood import ImportanceBound

LogDensity = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AIS:
    """What a run of annealed importance sampling gives.

    Attributes:
        bound: log-weights of all chains; `bound.log_prob()` estimates log p(x) from below in expectation.
        acceptance: (T,) share of Hamiltonian proposals accepted at each temperature.
    """

    bound: ImportanceBound
    acceptance: Tensor


def temperatures(steps: int, sharpness: float = 4.0) -> list[float]:
    """0 = β₀ < … < β_steps = 1 on a sigmoid from -sharpness to sharpness (Wu et al. 2017)."""
    if steps < 1 or not sharpness > 0:
        raise UserError(f"steps = {steps}, sharpness = {sharpness}", where="temperatures", fix="give positive ones")
    curve = torch.sigmoid(torch.linspace(-sharpness, sharpness, steps + 1, dtype=torch.float64))
    return ((curve - curve[0]) / (curve[-1] - curve[0])).tolist()


@of_arrays("", "nats", "higher", "Neal 2001; Wu et al. 2017", from_file=False)
def annealed_importance_sampling(
    log_prior: LogDensity,
    log_likelihood: LogDensity,
    start: Tensor,
    *,
    generator: Generator,
    betas: Sequence[float] | None = None,
    leapfrog: int = 10,
    step_size: float = 0.1,
    target_acceptance: float = 0.65,
) -> AIS:
    """Annealed importance sampling from the prior to the posterior (Neal 2001), by Hamiltonian Monte Carlo.

    Path p(z) p(x|z)^β; at each temperature the weight takes (β_t - β_{t-1}) log p(x|z), then comes one
    Hamiltonian proposal of `leapfrog` steps, whose size, for each chain and datum, drifts towards the wanted acceptance
    (Wu et al. 2017). In expectation a lower bound on log p(x), tighter the more temperatures there are; exactly so for
    fixed step sizes, while their adaptation to the chain's own past brings a small bias of either sign.

    Args:
        log_prior: (chains, N, D) codes -> (chains, N) nats.
        log_likelihood: (chains, N, D) codes -> (chains, N) nats, log p(x_n | z): differentiable.
        start: (chains, N, D) exact draws from the prior.
        generator: on the device of `start`.
        betas: from 0 to 1, rising; default `temperatures(1000)`.
        leapfrog: steps of a proposal.
        step_size: at first.

    Raises:
        NotFiniteError: a log-density became NaN or +inf.
    """
    schedule = list(betas) if betas is not None else temperatures(1000)
    rising = all(a < b for a, b in itertools.pairwise(schedule))
    if len(schedule) < 2 or schedule[0] != 0 or schedule[-1] != 1 or not rising:
        raise UserError("must rise from 0 to 1", where="betas", fix="see `temperatures`")
    if start.ndim != 3 or leapfrog < 1 or not step_size > 0:
        raise UserError(f"shape {tuple(start.shape)}, leapfrog {leapfrog}, step {step_size}", where="start")
    z = start.detach().clone()
    chains, n = z.shape[:2]
    weights = torch.zeros(chains, n, dtype=torch.float64, device=z.device)
    size = torch.full((chains, n, 1), step_size, dtype=z.dtype, device=z.device)
    rates = []
    with torch.no_grad():
        likelihood = log_likelihood(z)
    for previous, beta in itertools.pairwise(schedule):
        weights += (beta - previous) * likelihood.double()
        z, likelihood, accepted = _transition(z, beta, log_prior, log_likelihood, size, leapfrog, generator)
        # multiplicative drift: unmoved where acceptance is as wanted on average
        rate = accepted.to(z.dtype)[..., None]
        size = (size * torch.where(rate > 0, 1.02, 1.02 ** (-target_acceptance / (1 - target_acceptance)))).clamp(
            1e-4, 1.0
        )
        rates.append(accepted.double().mean())
    bound = ImportanceBound(n, device=z.device)
    bound.update(weights)
    return AIS(bound, torch.stack(rates).cpu())


def _transition(
    z: Tensor,
    beta: float,
    log_prior: LogDensity,
    log_likelihood: LogDensity,
    size: Tensor,
    leapfrog: int,
    generator: Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """One Hamiltonian proposal for every chain, accepted or not: new codes, their log-likelihood, accepted (C, N)."""

    def density(at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        at = at.detach().requires_grad_(True)
        with torch.enable_grad():
            likelihood = log_likelihood(at)
            joint = log_prior(at) + beta * likelihood
            (gradient,) = torch.autograd.grad(joint.sum(), at)
        return joint.detach(), likelihood.detach(), gradient

    momentum = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
    joint, likelihood, gradient = density(z)
    if bool(torch.isnan(joint).any()) or bool((joint == torch.inf).any()):
        raise NotFiniteError("a log-density is NaN or +inf", where="annealed importance sampling")
    position, p = z, momentum + 0.5 * size * gradient
    new_joint, new_likelihood = joint, likelihood
    for step in range(leapfrog):
        position = position + size * p
        new_joint, new_likelihood, gradient = density(position)
        p = p + (size if step < leapfrog - 1 else 0.5 * size) * gradient
    change = new_joint - joint - 0.5 * (p.square().sum(-1) - momentum.square().sum(-1))
    uniform = torch.rand(change.shape, generator=generator, dtype=z.dtype, device=z.device)
    accepted = uniform.log() < change  # NaN, a trajectory that flew off, compares as false
    keep = accepted[..., None]
    return torch.where(keep, position, z), torch.where(accepted, new_likelihood, likelihood), accepted
