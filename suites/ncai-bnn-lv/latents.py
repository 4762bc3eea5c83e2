"""Bayesian networks with a latent input for each row (BNN+LV), by mean-field inference, and NCAI's constraints.

y = f(x, z; w) + noise; z and all weights are standard normal a priori (the layers have scales of their own), q(w) and
q(z_n) are normal and independent. K settings train side by side: shapes are (K, draws of a step, ...).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

#: Hidden units; scales of the layers; draws of a step; rate; deviations of weights at first, and of noise.
HIDDEN, INNER, OUTER, DRAWS, RATE, NARROW, NOISE = 20, 2.0, 3.0, 2, 0.01, 0.05, 0.2
#: Values of the latent that predictions go through, their probabilities, and draws of weights, by twos.
NODES = torch.linspace(-4.5, 4.5, 91)
PROBABILITIES, PREDICTIVE = (-0.5 * NODES.square()).softmax(0), 60


def divergence(mean: Tensor, log_sd: Tensor) -> Tensor:
    """KL(N(mean, sd^2) || N(0, 1)), summed over the last axis."""
    return (0.5 * (mean.square() + (2.0 * log_sd).exp() - 1.0) - log_sd).sum(-1)


def log_normal(y: Tensor, mean: Tensor, log_sd: Tensor) -> Tensor:
    return -0.5 * ((y - mean) * (-log_sd).exp()).square() - log_sd - 0.5 * math.log(2.0 * math.pi)


def centred(x: Tensor) -> Tensor:
    """H K H (N, N) of rows x (N, p), with K = exp(-|x - x'|^2 / (2 p)) and H = 1 - 1/N."""
    kernel = (-0.5 * torch.cdist(x, x).square() / x.shape[1]).exp()
    return kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()


def violations(kernel: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Of latents z (..., N) of rows with a `centred` kernel, by L = exp(-(z - z')^2 / 2), pairs of one with itself
    counted: dependence (...), HSIC of rows and latents as tr(K H L H) / N^2 (Gretton et al. 2005), and distance (...)
    from the prior, the squared MMD of z and N(0, 1): the statistic of Henze and Zirkler 1990 at beta = 1, over N, with
    the prior's moments for the sample's."""
    pairs = (-0.5 * (z[..., None] - z[..., None, :]).square()).exp()
    apart = pairs.mean((-1, -2)) - math.sqrt(2.0) * (-0.25 * z.square()).exp().mean(-1) + 1.0 / math.sqrt(3.0)
    return (kernel * pairs).mean((-1, -2)), apart


def size(inputs: int) -> int:
    """How many weights a network has."""
    return HIDDEN * (inputs + 4) + 2


def network(w: Tensor, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Two outputs (..., N) of a layer of ReLUs and a linear one, for weights w (..., size), rows x (N, p) and latents z
    (..., N) or (..., 1)."""
    p = x.shape[1]
    inner, outer, bias = w.split([HIDDEN * (p + 2), 2 * HIDDEN, 2], -1)
    rows, latent, shift = inner.unflatten(-1, (p + 2, HIDDEN)).split([p, 1, 1], -2)
    hidden = torch.relu(INNER * (x @ rows + z[..., None] * latent + shift))
    both = hidden @ outer.unflatten(-1, (HIDDEN, 2)) * (OUTER / HIDDEN**0.5) + bias[..., None, :]
    return both[..., 0], both[..., 1]


class Posterior(nn.Module):
    """q(w) q(z) of as many settings as there are weights.

    Args:
        x, y: rows (N, p) and responses (N,), standardised.
        draws: of all that is random.
        settings: weights of NCAI's constraints, in nats a row.
        noise: ``fixed`` at NOISE, with latents; without, ``learned``, or a ``function`` of x, the second output.
        spread: of q, in its deviations: 0 leaves the mode of weights and latents alone.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        draws: Generator,
        settings: Sequence[float],
        noise: str = "fixed",
        spread: float = 1.0,
    ) -> None:
        super().__init__()
        self.x, self.y, self.draws, self.noise, self.spread, self.kernel = x, y, draws, noise, spread, centred(x)
        self.weight = torch.tensor(settings)
        self.mean = nn.Parameter(torch.randn(size(x.shape[1]), generator=draws).expand(len(settings), -1).clone())
        self.log_sd = nn.Parameter(torch.full_like(self.mean, math.log(NARROW)))
        self.z_mean, self.z_log_sd = (nn.Parameter(torch.zeros(len(settings), len(x))) for _ in range(2))
        self.log_noise = nn.Parameter(torch.full((len(settings),), math.log(NOISE)), noise == "learned")

    def law(self, w: Tensor, x: Tensor, z: Tensor, log_noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the deviation of responses, as of `network`."""
        mean, log_sd = network(w, x, z)
        return mean, (log_sd if self.noise == "function" else log_noise.expand(mean.shape))

    def drawn(self, mean: Tensor, log_sd: Tensor) -> Tensor:
        """(K, DRAWS, n) for (K, n)."""
        noise = torch.randn((len(mean), DRAWS, mean.shape[1]), generator=self.draws)
        return mean[:, None] + self.spread * log_sd.exp()[:, None] * noise

    def start_loss(self) -> Tensor:
        """(K,): mean squared error of the function at z = 0, halved."""
        mean, _ = network(self.mean, self.x, torch.zeros(len(self.mean), 1))
        return 0.5 * (self.y - mean).square().mean(1)

    def loss(self) -> Tensor:
        """(K,): the negative ELBO of a row, and both violations times their weight."""
        w, z = self.drawn(self.mean, self.log_sd), self.drawn(self.z_mean, self.z_log_sd)
        latent = self.noise == "fixed"
        fit = log_normal(self.y, *self.law(w, self.x, z if latent else torch.zeros(1), self.log_noise[:, None, None]))
        loss = divergence(self.mean, self.log_sd) / len(self.y) - fit.mean((1, 2))
        if latent:
            loss = loss + divergence(self.z_mean, self.z_log_sd) / len(self.y)
        if self.weight.any():
            loss = loss + self.weight * sum(violations(self.kernel, z[:, 0]))
        return loss

    def descend(self, warm: int, steps: int) -> None:
        """Adam on the function alone, so that q(z) stays the prior, then on all, at a rate that falls to 0."""
        for loss, length in ((self.start_loss, warm), (self.loss, steps)):
            adam = torch.optim.Adam(self.parameters(), RATE)
            for i in range(length):
                adam.param_groups[0]["lr"] = RATE * 0.5 * (1.0 + math.cos(math.pi * i / length))
                adam.zero_grad()
                loss().sum().backward()
                adam.step()

    @torch.no_grad()
    def predict(self, k: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Of setting k, for rows x (T, p) with responses y (T,): log densities and means of the predictive law (T,).
        Weights are drawn from q; the latent has its prior and is summed over."""
        latent = self.noise == "fixed"
        nodes, log_p = (NODES, PROBABILITIES.log()) if latent else (torch.zeros(1), torch.zeros(1))
        logs, means = [], []
        for _ in range(PREDICTIVE // 2):
            w = self.mean[k] + self.spread * self.log_sd[k].exp() * torch.randn(
                (2, self.mean.shape[1]), generator=self.draws
            )
            mean, log_sd = self.law(w[:, None], x, nodes[:, None], self.log_noise[k])
            logs.append((log_normal(y, mean, log_sd) + log_p[:, None]).logsumexp((0, 1)))
            means.append((log_p.exp() @ mean).mean(0))
        return torch.stack(logs).logsumexp(0) - math.log(PREDICTIVE), torch.stack(means).mean(0)
