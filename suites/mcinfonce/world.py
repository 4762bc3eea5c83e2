"""Ambiguous inputs whose posteriors are known, and draws from von Mises-Fisher (vMF) laws.

An input x, uniform on a cube, has the posterior z | x ~ vMF(mu(x), kappa(x)), with random networks mu and kappa. Two
inputs are a positive pair with p(Y = 1 | z, z') = e^s / (e^s + C(0) / C(k)), s = k z'z, C the normalising constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from scipy.special import ndtr
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.utils import skip_init

SPAN = (16.0, 32.0)  # of kappa, in worlds and in encoders that are not trained
SPREAD, SMOOTHING = 0.5, 300  # worlds are drawn until two means have at most this cosine; steps
KAPPAS, SCORES = (math.log(1e-2), math.log(1e5)), 6.0  # reach of `polar_angles`


def log_normaliser(kappa: Tensor, dim: int) -> Tensor:
    """log C(kappa) - log C(0) of a vMF in R^dim, dim >= 3, by Debye's expansion (within 3e-4 at dim = 10)."""
    v = dim / 2 - 1
    root = torch.sqrt(v**2 + kappa**2)
    t = v / root
    series = (3 * t - 5 * t**3) / (24 * v) + (81 * t**2 - 462 * t**4 + 385 * t**6) / (1152 * v**2)
    bessel = root - v * torch.asinh(v / kappa) - 0.5 * torch.log(2 * math.pi * root) + torch.log1p(series)
    return v * torch.log(kappa / 2) - math.lgamma(v + 1) - bessel


@lru_cache
def polar_angles(dim: int) -> Tensor:
    """(log kappas, scores): angle t to the mean, of density e^(kappa cos t) sin^(dim - 2) t, for a normal's scores."""
    grid, levels = np.linspace(0.0, 1.0, 2001), ndtr(np.linspace(-SCORES, SCORES, 97))
    rows = []
    for kappa in np.exp(np.linspace(*KAPPAS, 161)):
        t = grid * min(np.pi, 9.0 * math.sqrt(dim / kappa))
        mass = np.exp(kappa * (np.cos(t) - 1.0)) * np.sin(t) ** (dim - 2)
        below = np.concatenate([[0.0], np.cumsum(mass[1:] + mass[:-1])])
        rows.append(np.interp(levels, below / below[-1], t))
    return torch.tensor(np.array(rows), dtype=torch.float32)


def sample_vmf(mu: Tensor, kappa: Tensor, draws: Generator, n: int = 1) -> Tensor:
    """(n, B, d) draws of vMF(mu (B, d), kappa (B,)), differentiable in both: `polar_angles`, uniform about mu."""
    table, (low, high) = polar_angles(mu.shape[1]), KAPPAS
    rows, columns = table.shape
    place = ((kappa.log() - low) / (high - low) * (rows - 1)).clamp(0.0, rows - 1.001)
    row = place.detach().long()
    angles = torch.lerp(table[row], table[row + 1], (place - row)[:, None]).flatten()
    score = torch.randn(n, len(mu), generator=draws).clamp(-SCORES, SCORES - 1e-3)
    place = (score + SCORES) / (2.0 * SCORES) * (columns - 1)
    at = place.long() + columns * torch.arange(len(mu))
    angle = torch.lerp(angles[at], angles[at + 1], place.frac())[..., None]
    side = torch.randn(n, *mu.shape, generator=draws)
    side = functional.normalize(side - (side * mu).sum(2, keepdim=True) * mu, dim=2)
    return angle.cos() * mu + angle.sin() * side


def network(widths: Sequence[int], draws: Generator) -> nn.Sequential:
    """Linear layers with leaky ReLUs between them; weights and biases are uniform within 1 / sqrt(in)."""
    layers = [skip_init(nn.Linear, n, m) for n, m in pairwise(widths)]
    for one in layers:
        for weights in one.parameters():
            nn.init.uniform_(weights, -(one.in_features**-0.5), one.in_features**-0.5, generator=draws)
    return nn.Sequential(*[part for one in layers for part in (one, nn.LeakyReLU())][:-1])


class Posterior:
    """mu(x) of unit length and kappa(x) = e^(a softplus(h(x)) + b), with a and b such that kappa spans `SPAN` over x.

    Args:
        means, kappas: widths of hidden layers.
    """

    @torch.no_grad()
    def __init__(self, means: Sequence[int], kappas: Sequence[int], x: Tensor, draws: Generator) -> None:
        dim, self.a, self.b = x.shape[1], 1.0, 0.0
        self.means, self.kappas = network([dim, *means, dim], draws), network([dim, *kappas, 1], draws)
        h, (low, high) = self.kappa(x).log(), (math.log(k) for k in SPAN)
        self.a = (high - low) / float(h.max() - h.min())
        self.b = high - self.a * float(h.max())

    def mu(self, x: Tensor) -> Tensor:
        return functional.normalize(self.means(x), dim=1)

    def kappa(self, x: Tensor) -> Tensor:
        return torch.exp(self.a * functional.softplus(self.kappas(x)[:, 0]) + self.b)


class World:
    """A process in `dim` dimensions; positives have the concentration k about each other."""

    def __init__(self, dim: int, k: float, draws: Generator) -> None:
        self.dim, self.k, least = dim, k, 1.0
        self.constant = -float(log_normaliser(torch.tensor(k, dtype=torch.float64), dim))  # log C(0) / C(k)
        while least > SPREAD:
            self.posterior = Posterior([dim, dim], [dim], torch.rand(1000, dim, generator=draws), draws)
            adam = torch.optim.Adam(self.posterior.means.parameters(), lr=0.01)
            for _ in range(SMOOTHING):  # 1 - cos / 2 of two means is drawn to the distance of their inputs
                x = torch.rand(64, dim, generator=draws)
                mu = self.posterior.mu(x)
                apart = 1.0 - mu @ mu.T / 2
                adam.zero_grad()
                ((torch.cdist(x, x) - apart).square() * (math.sqrt(2.0) - apart.detach()) ** 4).mean().backward()
                adam.step()
            mu = self.posterior.mu(torch.rand(1000, dim, generator=draws)).detach()
            least = float((mu @ mu.T).min())
        share = float(self.pairs(1000, 1000, draws)[3].float().mean())
        # log odds of Y = 1 at s, less s, among as many positives as negatives
        self.offset = math.log(share / (1.0 - share)) - self.constant

    def latents(self, n: int, draws: Generator) -> tuple[Tensor, Tensor]:
        """Inputs and draws of their latents, (n, dim) each."""
        x = torch.rand(n, self.dim, generator=draws)
        return x, sample_vmf(self.posterior.mu(x), self.posterior.kappa(x), draws)[0]

    @torch.no_grad()
    def pairs(self, n: int, m: int, draws: Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Inputs (n, d), a positive of each, candidates (m, d), and which of these have Y = 0 with which input."""
        x, z = self.latents(n, draws)
        positive, alone, first = torch.empty_like(x), torch.arange(n), list[Tensor]()
        while len(alone):
            candidates, others = self.latents(max(n, m), draws)
            chance = torch.sigmoid(self.k * z[alone] @ others.T - self.constant)
            together = torch.rand(chance.shape, generator=draws) < chance
            first = first or [candidates[:m], ~together[:, :m]]
            chosen = (together * (1.0 - torch.rand(chance.shape, generator=draws))).argmax(1)
            met = together.any(1)
            positive[alone[met]] = candidates[chosen[met]]
            alone = alone[~met]
        return x, positive, first[0], first[1]
