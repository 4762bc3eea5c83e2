"""Noise schedules: gamma(t), minus the log signal-to-noise ratio, rising from `low` at t = 0 to `high` at t = 1.

Every schedule keeps its ends, so that prior and reconstruction terms are the same and only the way between them
differs (MuLAN, section 3.2; the authors' `poly_fixedend`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Noise(NamedTuple):
    """gamma and its first two derivatives in time, each (N, 1) or (N, D)."""

    gamma: Tensor
    rate: Tensor
    bend: Tensor


class Linear(nn.Module):
    """gamma(t) = low + (high - low) t, as in VDM's CIFAR-10 configuration."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, t: Tensor, context: Tensor | None = None) -> Noise:
        """Times (N,) to (N, 1)."""
        span = self.high - self.low
        rate = torch.full_like(t, span)[:, None]
        return Noise(self.low + span * t[:, None], rate, torch.zeros_like(rate))


class Polynomial(nn.Module):
    """gamma(t) = low + (high - low) P(t) / P(1) with P' = (a t^2 + b t + c)^2 >= 0 (MuLAN, section 3.2.1, eq. 7).

    Args:
        low, high: the ends.
        outputs: 1 for a schedule that all coordinates share, D for one each.
        context: width of the vector that the coefficients are a network of; 0 for free coefficients.
        hidden: width of that network's two layers.

    It starts linear: a = b = 0, c = 1.
    """

    def __init__(self, low: float, high: float, outputs: int, context: int = 0, hidden: int = 64) -> None:
        super().__init__()
        self.low, self.high = low, high
        if context:
            self.body = nn.Sequential(nn.Linear(context, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
            self.head = nn.Linear(hidden, 3 * outputs)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        else:
            self.free = nn.Parameter(torch.zeros(3 * outputs))

    def forward(self, t: Tensor, context: Tensor | None = None) -> Noise:
        """Times (N,), context (N, K), to (N, outputs)."""
        raw = self.free[None] if context is None else self.head(self.body(context))
        a, b, c = raw.chunk(3, -1)
        c = 1e-3 + functional.softplus(c + 0.539742)  # 1 where the network says 0
        t = t[:, None]
        slope = (a * t + b) * t + c
        # powers of t from the fifth down; the sum of the coefficients is P(1)
        terms = (a.square() / 5, a * b / 2, (b.square() + 2 * a * c) / 3, b * c, c.square())
        area = torch.zeros_like(t)
        for term in terms:
            area = (area + term) * t
        scale = (self.high - self.low) / torch.stack(terms).sum(0)
        return Noise(self.low + scale * area, scale * slope.square(), scale * 2 * slope * (2 * a * t + b))


def least_variance(noise: Noise, error: Tensor) -> Tensor:
    """A scalar whose gradient in a shared schedule's parameters is that of log E[L^2], L the one-draw diffusion loss.

    The bound does not depend on such a schedule, the variance of its estimate does (VDM, section 4.2 and appendix I.2).
    With L = gamma' m / 2, where m = |eps - eps_hat|^2 depends on the schedule through gamma alone,
    E_t[L^2] is the integral of gamma'(t(gamma)) m^2 / 4 over gamma; at fixed gamma, d gamma' is the explicit derivative
    less (gamma'' / gamma') d gamma. So no second pass through the network is needed, unlike in VDM's own code.

    Args:
        noise: (N, 1) each, at uniform times.
        error: m (N,), nats; no gradient goes into it.
    """
    rate, bend = noise.rate.detach().clamp(min=1e-6), noise.bend.detach()
    m2 = error.detach().square()[:, None]
    # (clamped: where a polynomial's slope vanishes, so does the weight)
    change = rate * (noise.rate - bend / rate * noise.gamma) * m2
    total = (rate.square() * m2).mean()
    return change.mean() / total.clamp(min=1e-30)


SCHEDULES = ("linear", "scalar", "multivariate")


def build_schedule(name: str, low: float, high: float, dims: int) -> nn.Module:
    """One of `SCHEDULES`, without context."""
    if name == "linear":
        return Linear(low, high)
    return Polynomial(low, high, 1 if name == "scalar" else dims)
