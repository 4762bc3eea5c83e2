"""Networks of ST-DQR (Feldman, Bates and Romano 2023), a mixture density network, and one training for all."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

HIDDEN, RATE, BATCH, PATIENCE = (64, 64, 64), 3e-3, 128, 50
#: Weight of the KL divergence, dimensions of the latent space, directions in a step, Gaussians of a mixture.
KL_WEIGHT, LATENTS, DIRECTIONS, COMPONENTS = 0.01, 3, 8, 10


def network(n_in: int, n_out: int, draws: Generator) -> nn.Sequential:
    """Layers of the widths HIDDEN with leaky ReLUs, and a linear one; He's uniform weights, zero biases."""
    layers: list[nn.Module] = []
    for n, m in pairwise([n_in, *HIDDEN, n_out]):
        linear = nn.utils.skip_init(nn.Linear, n, m)
        nn.init.kaiming_uniform_(linear.weight, 0.2, generator=draws)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


@torch.enable_grad()
def fit(module: Any, rows: Sequence[Tensor], held: Sequence[Tensor], draws: Generator, epochs: int) -> Any:
    """The module, trained by Adam on ``module.loss(x, y, draws)``, with the weights of the epoch after which held rows
    had the least loss (with the same draws each time); it stops after PATIENCE epochs without a lesser one."""
    adam, best, kept, since = torch.optim.Adam(module.parameters(), RATE, fused=True), math.inf, {}, 0
    for _ in range(epochs):
        for chosen in torch.randperm(len(rows[0]), generator=draws).split(BATCH):
            adam.zero_grad()
            module.loss(*(part[chosen] for part in rows), draws).backward()
            adam.step()
        value = float(module.loss(*held, torch.Generator().manual_seed(0)).detach())
        if value < best:
            best, kept, since = value, copy.deepcopy(module.state_dict()), 0
        elif (since := since + 1) >= PATIENCE:
            break
    module.load_state_dict(kept or module.state_dict())
    return module


class Autoencoder(nn.Module):
    """Conditional VAE: z ~ N(mean(x, y), diag(exp(log_var(x, y)))), y = decode(x, z)."""

    def __init__(self, inputs: int, responses: int, draws: Generator) -> None:
        super().__init__()
        self.encoder = network(inputs + responses, 2 * LATENTS, draws)
        self.decoder = network(inputs + LATENTS, responses, draws)

    def encode(self, x: Tensor, y: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        """A draw z (N, LATENTS) for rows x (N, p) and y (N, d), and the KL divergence from N(0, I), (N,)."""
        mean, log_var = self.encoder(torch.cat([x, y], 1)).chunk(2, 1)
        divergence = 0.5 * (mean.square() + log_var.exp() - 1.0 - log_var).sum(1)
        return mean + (0.5 * log_var).exp() * torch.randn(mean.shape, generator=draws), divergence

    def decode(self, x: Tensor, z: Tensor) -> Any:
        """(N, d) for z (N, LATENTS), and x (N, p) or (1, p)."""
        return self.decoder(torch.cat([x.expand(len(z), -1), z], 1))

    def loss(self, x: Tensor, y: Tensor, draws: Generator) -> Tensor:
        """Mean squared error over rows and coordinates, plus KL_WEIGHT times the mean divergence."""
        z, divergence = self.encode(x, y, draws)
        return (y - self.decode(x, z)).square().mean() + KL_WEIGHT * divergence.mean()


def directions(n: int, d: int, draws: Generator) -> Tensor:
    """(n, d), uniform on the sphere."""
    return nn.functional.normalize(torch.randn(n, d, generator=draws), dim=1)


class Quantiles(nn.Module):
    """The tau-quantile of u'y given x, (N, M) for rows x (N, p) and directions u (M, d): of `sides`, or of any."""

    def __init__(self, inputs: int, d: int, tau: float, draws: Generator, sides: Tensor | None = None) -> None:
        super().__init__()
        self.tau, self.d, self.sides, self.body = tau, d, sides, network(inputs + d, 1, draws)

    def forward(self, x: Tensor, u: Tensor) -> Any:
        return self.body(torch.cat([x[:, None].expand(-1, len(u), -1), u.expand(len(x), -1, -1)], 2))[..., 0]

    def loss(self, x: Tensor, y: Tensor, draws: Generator) -> Tensor:
        """Pinball: mean of tau e for positive e = u'y - q_u(x), of (tau - 1) e for negative ones."""
        u = directions(DIRECTIONS, self.d, draws) if self.sides is None else self.sides
        error = y @ u.T - self(x, u)
        return torch.maximum(self.tau * error, (self.tau - 1.0) * error).mean()


class MixtureDensity(nn.Module):
    """p(y | x) as a mixture of COMPONENTS Gaussians with full covariances; losses are mean negative log densities."""

    def __init__(self, inputs: int, d: int, draws: Generator) -> None:
        super().__init__()
        self.d, self.body = d, network(inputs, COMPONENTS * (1 + 2 * d + d * d), draws)

    def law(self, x: Tensor) -> MixtureSameFamily:
        """Of rows x (N, p), as a batch of N laws."""
        parts = self.body(x).unflatten(1, (COMPONENTS, -1))
        weights, means, log_scale, lower = parts.split([1, self.d, self.d, self.d**2], 2)
        factor = lower.unflatten(2, (self.d, self.d)).tril(-1) + log_scale.exp().diag_embed()
        gaussians = MultivariateNormal(means, scale_tril=factor, validate_args=False)
        return MixtureSameFamily(Categorical(logits=weights[..., 0]), gaussians, validate_args=False)

    def loss(self, x: Tensor, y: Tensor, draws: Generator) -> Tensor:
        return -self.law(x).log_prob(y).mean()
