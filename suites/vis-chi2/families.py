"""Two models of known truth: `joint` is log p(x, z; theta) and `proposal` log q(z | x; phi), both (rows, K)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid


class Mixture:
    """z ~ N(mu_i, 1) with weights (1 - pi, 1 - pi, pi, pi) / 2, x ~ Bernoulli(sigmoid(z)); q = N(c_x, s_x^2).

    theta = (pi, mu_1, ..., mu_4); phi = (c_0, c_1, s_0, s_1); x (rows,), z (rows, K).
    """

    train, test, batch, lr = 1000, 1000, 100, 0.002
    start = torch.tensor([0.5, -9.0, -1.0, 1.0, 9.0]), torch.tensor([-9.0, 9.0, 1.0, 1.0])
    parts = {"share": 0, "means": slice(1, None)}
    grid = torch.linspace(-30.0, 30.0, 2001, dtype=torch.float64)

    def truth(self, draws: Generator) -> Tensor:
        return torch.tensor([0.7, -8.0, -2.0, 2.0, 8.0])

    def simulate(self, theta: Tensor, rows: int, draws: Generator) -> tuple[Tensor, Any]:
        high, upper, coin = torch.rand(3, rows, generator=draws)
        which = 1 + 2 * (high < theta[0]) + (upper < 0.5)
        z = theta[which] + torch.randn(rows, generator=draws)
        return (coin < z.sigmoid()).float(), z[:, None]

    def draw(self, phi: Tensor, x: Tensor, samples: int, draws: Generator) -> Any:
        centre, scale = phi.reshape(2, 2)[:, x.long(), None]
        return centre + scale.abs() * torch.randn(len(x), samples, generator=draws)

    def joint(self, theta: Tensor, x: Tensor, z: Any) -> Tensor:
        pi = theta[0].clamp(0.01, 0.99)
        weight = torch.stack([1 - pi, 1 - pi, pi, pi])[:, None, None] / (2 * math.sqrt(2 * math.pi))
        parts = weight.log() - (z - theta[1:, None, None]) ** 2 / 2
        return torch.logsumexp(parts, 0) + logsigmoid((2 * x - 1)[:, None] * z)

    def proposal(self, phi: Tensor, x: Tensor, z: Any) -> Tensor:
        centre, scale = phi.reshape(2, 2)[:, x.long(), None]
        return torch.distributions.Normal(centre, scale.abs(), validate_args=False).log_prob(z)

    def log_likelihood(self, theta: Tensor, x: Tensor, particles: int, draws: Generator) -> Tensor:
        """log p(x), (rows,), by quadrature."""
        log_p = self.joint(theta.double(), torch.arange(2.0), self.grid.expand(2, -1)).logsumexp(1)
        return log_p[x.long()] + (self.grid[1] - self.grid[0]).log()


class Neurons:
    """Counts n_t ~ Poisson(sigmoid(b + W h_t)), h_t = sum_l psi_l n_{t-l}, of three seen neurons and two hidden ones.

    If `alone`, hidden ones are taken for silent: a GLM of the seen ones, in which rows of hidden ones mean nothing.
    theta is (b, W), (5, 6); q runs forward in time by the same map for hidden neurons, phi (2, 6). psi falls by
    exp(-5 l dt) over 5 bins of dt = 0.05 s and sums to 1 / dt. x (rows, T, 3); z: hidden n and h, (T, rows, K, 2) each.
    """

    train, test, batch, lr = 40, 20, 10, 0.01
    seen, bins, alone = 3, 100, False
    start = torch.zeros(5, 6), torch.zeros(2, 6)
    parts = {"biases": (..., 0), "weights": (..., slice(1, None))}
    psi = 20.0 * torch.softmax(-0.25 * torch.arange(5), 0)

    def truth(self, draws: Generator) -> Tensor:
        """W ~ N(0, 0.1^2) and b uniform within 1 / sqrt(5)."""
        bias = (2 * torch.rand(5, 1, generator=draws) - 1) / math.sqrt(5)
        return torch.cat([bias, 0.1 * torch.randn(5, 5, generator=draws)], 1)

    def simulate(self, theta: Tensor, rows: int, draws: Generator) -> tuple[Tensor, Any]:
        n, h = self._forward(theta, torch.zeros(self.bins, rows, 0), 1, draws)
        return n[:, :, 0, : self.seen].transpose(0, 1), (n[..., self.seen :], h[..., self.seen :])

    def filtered(self, x: Tensor) -> Tensor:
        """h of seen counts, (T, rows, seen)."""
        n = x.transpose(0, 1)
        out = torch.zeros_like(n)
        for lag, psi in enumerate(self.psi, 1):
            out[lag:] += psi * n[:-lag]
        return out

    def _forward(self, weights: Tensor, past: Tensor, samples: int, draws: Generator) -> tuple[Tensor, Tensor]:
        """n and h (T, rows, K, neurons) that depend on `past` (T, rows, others), h of others, and on themselves."""
        bins, rows, others = past.shape
        drive = (past @ weights[:, 1 : 1 + others].T + weights[:, 0])[:, :, None]
        n, h = (torch.zeros(length, rows, samples, len(weights)) for length in (bins + 5, bins))
        for t in range(bins):
            h[t] = torch.tensordot(self.psi.flip(0), n[t : t + 5], 1)
            n[t + 5] = torch.poisson((drive[t] + h[t] @ weights[:, 1 + others :].T).sigmoid(), generator=draws)
        return n[5:], h

    def draw(self, phi: Tensor, x: Tensor, samples: int, draws: Generator) -> Any:
        n, h = self._forward(phi, self.filtered(x), samples, draws)
        return (0 * n, 0 * h) if self.alone else (n, h)

    def _log_poisson(self, weights: Tensor, x: Tensor, n: Tensor, h: Tensor) -> Tensor:
        """Of n (T, rows, K or 1, neurons) under the rates of the neurons whose `weights` (neurons, 6) these are."""
        drive = self.filtered(x) @ weights[:, 1 : 1 + self.seen].T + weights[:, 0]
        logit = drive[:, :, None] + h @ weights[:, 1 + self.seen :].T
        return (n * logsigmoid(logit) - logit.sigmoid() - torch.lgamma(n + 1)).sum(3).sum(0)

    def joint(self, theta: Tensor, x: Tensor, z: Any) -> Tensor:
        seen = self._log_poisson(theta[: self.seen], x, x.transpose(0, 1)[:, :, None], z[1])
        return seen + self._log_poisson(theta[self.seen :], x, *z)

    def proposal(self, phi: Tensor, x: Tensor, z: Any) -> Tensor:
        return self._log_poisson(phi, x, *z)

    def log_likelihood(self, theta: Tensor, x: Tensor, particles: int, draws: Generator) -> Tensor:
        """log p(x), (rows,), by a bootstrap particle filter, resampled in each bin."""
        seen, total, rows = self.filtered(x), torch.zeros(len(x)), torch.arange(len(x))[:, None]
        past = torch.zeros(5, len(x), particles, len(theta) - self.seen)
        for t in range(x.shape[1]):
            drive = theta[:, 0] + seen[t] @ theta[:, 1 : 1 + self.seen].T
            h = torch.tensordot(self.psi.flip(0), past, 1)
            rate = (drive[:, None] + h @ theta[:, 1 + self.seen :].T).sigmoid()
            weight = torch.distributions.Poisson(rate[..., : self.seen]).log_prob(x[:, t, None]).sum(-1).exp()
            total += weight.mean(1).log()
            points = (torch.arange(particles) + torch.rand(len(x), 1, generator=draws)) * weight.mean(1, keepdim=True)
            kept = torch.searchsorted(weight.cumsum(1), points).clamp(max=particles - 1)
            now = torch.poisson(rate[rows, kept, self.seen :], generator=draws)
            past = torch.cat([past[1:, rows, kept], now[None]])
        return total
