"""A latent stochastic differential equation with a posterior over its graph (SCOTCH, arXiv 2311.03309).

    dz = h(z, G) dt + g(z, G) dW,  x = z + Laplace noise,  p(G) proportional to exp(-sparsity |G|)

The posterior has Bernoulli edges and dz = f(z, c, G) dt + g(z, G) dW, whose context c is of later observations. By
Girsanov's theorem the paths' divergence is the mean of the integral of |(f - h) / g|^2 / 2.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.utils import skip_init

WIDTH, TEMPERATURE = 32, 0.25  # hidden units; of relaxed edges
LEAST, TINY = 1e-4, 1e-6  # diffusion in the divergence; distance of uniform draws from 0 and 1


class PerVariable(nn.Module):
    """A network of its own for each variable, which sees the variables that have an edge to it and nothing else."""

    def __init__(self, d: int, hidden: int, draws: Generator) -> None:
        super().__init__()
        self.first, self.last = (
            nn.Parameter((2 * torch.rand(d, n, m, generator=draws) - 1) / n**0.5) for n, m in ((d, hidden), (hidden, 1))
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(d, 1, m)) for m in (hidden, 1))

    def forward(self, z: Tensor, graph: Tensor) -> Tensor:
        """(n, d) and (n, d, d), or both with more dimensions after n, to (n, ..., d)."""
        seen = (z[..., None] * graph).flatten(0, -3).permute(2, 0, 1)  # effect, row, cause
        h = functional.silu(torch.baddbmm(self.biases[0], seen, self.first))
        return torch.baddbmm(self.biases[1], h, self.last)[..., 0].T.reshape(z.shape)


class LatentSDE(nn.Module):
    """Of d standardised variables, at the start from `draws`; `logits` (d, d) of edges are at [cause, effect]."""

    def __init__(self, d: int, noise: float, sparsity: float, draws: Generator) -> None:
        super().__init__()
        self.noise, self.sparsity = noise, sparsity
        self.drift, self.diffusion = PerVariable(d, WIDTH, draws), PerVariable(d, WIDTH // 4, draws)
        # without their own start, which draws from torch's generator
        self.encoder = nn.GRU(d, WIDTH, batch_first=True, device="meta").to_empty(device="cpu")
        self.context, self.initial, *layers = (
            skip_init(nn.Linear, n, m)
            for n, m in ((WIDTH + d * d, WIDTH), (WIDTH, 2 * d), (d + WIDTH + 1, WIDTH), (WIDTH, WIDTH), (WIDTH, d))
        )
        self.posterior = nn.Sequential(layers[0], nn.SiLU(), layers[1], nn.SiLU(), layers[2])
        for module in (self.encoder, self.context, *layers[:2]):
            for weights in module.parameters():
                nn.init.uniform_(weights, -(WIDTH**-0.5), WIDTH**-0.5, generator=draws)
        for weights in (*self.initial.parameters(), *layers[2].parameters()):
            nn.init.zeros_(weights)  # a bridge from observation to observation at first
        self.prior_mean, self.prior_log_std = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(d))
        self.logits = nn.Parameter(torch.zeros(d, d))

    def graphs(self, n: int, draws: Generator) -> Tensor:
        """(n, d, d) of 0 and 1, with the slopes of relaxed ones."""
        u = torch.rand(n, *self.logits.shape, generator=draws).clamp(TINY, 1 - TINY)
        soft = torch.sigmoid((self.logits + u.logit()) / TEMPERATURE)
        return (soft > 0.5).float() - soft.detach() + soft

    def negative_bound(self, x: Tensor, times: Tensor, gap: float, weight: float, draws: Generator) -> Tensor:
        """In nats, of all paths (n, T, d) at times (T,) in whole steps of Euler-Maruyama of length `gap`.

        Divergences of starts and paths count with `weight`.
        """
        n, _, d = x.shape
        graph = self.graphs(n, draws)
        later = self.encoder(x.flip(1))[0].flip(1)
        context = self.context(torch.cat([later, graph.flatten(1)[:, None].expand(-1, x.shape[1], -1)], 2))
        shift, log_std = self.initial(context[:, 0]).chunk(2, 1)
        mean, ratio = x[:, 0] + shift, log_std + math.log(self.noise) - self.prior_log_std
        z = mean + self.noise * log_std.exp() * torch.randn(n, d, generator=draws)
        off = (mean - self.prior_mean) / self.prior_log_std.exp()
        divergence = (0.5 * ((2 * ratio).exp() + off**2 - 1) - ratio).sum()
        with_self = graph * (1 - torch.eye(d)) + torch.eye(d)
        met, path = [z], list[tuple[Tensor, Tensor, Tensor]]()
        for i, steps in enumerate(times.diff().tolist(), 1):
            for left in range(steps, 0, -1):
                ahead = torch.full((n, 1), left * gap)
                f = (x[:, i] - z) / ahead + self.posterior(torch.cat([z, context[:, i], ahead], 1))
                g = torch.sigmoid(self.diffusion(z, with_self))
                path.append((z, f, g))
                z = z + gap * f + gap**0.5 * g * torch.randn(n, d, generator=draws)
            met.append(z)
        z, f, g = (torch.stack(part, 1) for part in zip(*path, strict=True))
        h = self.drift(z, graph[:, None].expand(-1, z.shape[1], -1, -1))
        divergence = divergence + 0.5 * gap * ((f - h) / g.clamp(min=LEAST)).square().sum()
        likelihood = -((x - torch.stack(met, 1)).abs() / self.noise + math.log(2 * self.noise)).sum()
        entropy = functional.binary_cross_entropy_with_logits(self.logits, self.logits.sigmoid(), reduction="sum")
        return weight * divergence - likelihood + self.sparsity * graph.sum((1, 2)).mean() - entropy
