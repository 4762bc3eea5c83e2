"""Log-densities as plain functions, in nats, summed over the last axis.

`torch.distributions` checks its arguments and builds objects at each call, which a small model's step feels; its
results are the reference that the tests hold these against.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid, softplus

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def normal(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log N(x; mean, diag(exp(log_std))^2), arguments broadcast to (..., D), result (...)."""
    d = (x - mean) * torch.exp(-log_std)
    return -(0.5 * d * d + log_std + HALF_LOG_2PI).sum(-1)


def standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I), (..., D) to (...)."""
    return -0.5 * (z * z).sum(-1) - HALF_LOG_2PI * z.shape[-1]


def normal_draw(mean: Tensor, log_std: Tensor, generator: Generator) -> Tensor:
    """A draw from N(mean, diag(exp(log_std))^2), which gradients go through; (..., D) each."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return torch.addcmul(mean, torch.exp(log_std), noise)


def normal_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, diag(exp(log_std))^2) || N(0, I)), (..., D) to (...); Kingma & Welling 2014, appendix B."""
    return 0.5 * (mean * mean + torch.exp(2.0 * log_std) - 2.0 * log_std - 1.0).sum(-1)


def bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """log-probability of x in {0, 1}, (..., D) to (...).

    As log sigmoid(+-logits): exact for confident logits, where x * logits - softplus(logits) cancels.
    """
    return logsigmoid((2.0 * x - 1.0) * logits).sum(-1)


def bernoulli_cross_entropy(x: Tensor, logits: Tensor) -> Tensor:
    """sum of x log p + (1 - x) log(1 - p) for x in [0, 1], p = sigmoid(logits), (..., D) to (...).

    On values other than 0 and 1 it is no log-density: it does not integrate to one over x.
    """
    return (x * logits - softplus(logits)).sum(-1)


def discretised_logistic(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """log-probability of integers x in 0 .. levels - 1, (..., D) to (...).

    A logistic density with `mean` and scale exp(log_scale) on the axis where the levels span [-1, 1], integrated over
    each level's bin; the outermost bins take the tails (Salimans et al. 2017, section 2.1). Computed as
    log sigmoid(a) + log sigmoid(-b) + log(1 - exp(b - a)) for the bin's ends a > b, which is exact and does not cancel.
    """
    half = 1.0 / (levels - 1)
    inverse = torch.exp(-log_scale)
    centre = (x * (2.0 * half) - 1.0 - mean) * inverse
    reach = half * inverse
    below_top = logsigmoid(centre + reach)
    above_bottom = logsigmoid(reach - centre)
    width = torch.log(-torch.expm1(-2.0 * reach))
    first, last = x <= 0.0, x >= levels - 1.0
    inner = below_top + above_bottom + width
    return torch.where(first, below_top, torch.where(last, above_bottom, inner)).sum(-1)


def categorical(x: Tensor, logits: Tensor) -> Tensor:
    """log-probability of integers x (..., D) under softmax of logits (..., levels, D), result (...)."""
    logits = logits - logits.logsumexp(-2, keepdim=True)
    index = x.long().unsqueeze(-2).expand(*logits.shape[:-2], 1, logits.shape[-1])
    return logits.gather(-2, index).squeeze(-2).sum(-1)


def log_mean_exp(values: Tensor, dim: int = 0) -> Tensor:
    """log of the mean of exp(values) along `dim`, without overflow."""
    return values.logsumexp(dim) - math.log(values.shape[dim])


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """L_k of Burda et al. 2016 (eq. 8) from log weights (k, N): log-mean-exp over k, (N,) nats.

    Weights below exp(-25) = 1.4e-11 of the greatest are raised to that and pass no gradient: in float32 they are lost
    in rounding anyway, and their denormal gradients make each step of training three times slower on a CPU.
    """
    floor = log_weights.detach().amax(0) - 25.0
    return log_mean_exp(torch.maximum(log_weights, floor))
