"""The two ends of a diffusion that stay the same whatever lies between: data in, first latent out, last latent.

Data are put on [-1, 1] (levels at the middles of 2/L wide bins; real values as they are). At log-noise gamma_0, z_0 = x
plus noise of variance exp(gamma_0), up to scale, and p(x | z_0) is q's own likelihood normalised over the levels
(Kingma et al. 2021, VDM, eq. 12 and appendix): its expectation over the noise depends on the level alone, and is
tabulated by quadrature instead of drawn.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from latentbench.core.types import DataInfo
from latentbench.models import checks

MOST_LEVELS = 1024


class Ends(nn.Module):
    """Maps between data and the diffusion's scale, and the expected reconstruction loss.

    Args:
        info: binary, discrete or real data.
        gamma_0: log-variance of the noise that z_0 / alpha_0 adds to x.

    Raises:
        UserError: support ``unit``, for which p(x | z_0) is neither a probability nor a density on its support.
    """

    cost: Tensor

    def __init__(self, info: DataInfo, gamma_0: float) -> None:
        super().__init__()
        checks.support("diffusion", info, "binary", "discrete", "real")
        self.shape, self.dims, self.gamma_0 = tuple(info.shape), info.dims, gamma_0
        self.levels = {"binary": 2, "discrete": info.levels or 0, "real": 0}[info.support]
        if self.levels:
            checks.number("levels of discrete data", self.levels, least=2, most=MOST_LEVELS)
        cost = _level_costs(self.levels, gamma_0) if self.levels else torch.zeros(0)
        self.register_buffer("cost", cost.float(), persistent=False)

    def scale(self, x: Tensor) -> Tensor:
        """Data (N, *shape) to the diffusion's scale."""
        return (2.0 * x + 1.0) / self.levels - 1.0 if self.levels else x

    def unscale(self, x: Tensor) -> Tensor:
        """The inverse of `scale`; discrete values are not rounded."""
        return 0.5 * (self.levels * (x + 1.0) - 1.0) if self.levels else x

    def reconstruction(self, x: Tensor) -> Tensor:
        """E over z_0 of -log p(x | z_0), (N,) nats, for data x (N, *shape)."""
        if self.levels:
            index = x.detach().round().long().clamp(0, self.levels - 1).flatten(1)
            return torch.take(self.cost, index).sum(1)
        return x.new_full((len(x),), 0.5 * self.dims * (math.log(2 * math.pi) + self.gamma_0 + 1.0))

    def decode(self, z: Tensor, generator: Generator) -> Tensor:
        """A draw of real data, or the likeliest level, from z_0 / alpha_0 (N, *shape)."""
        if self.levels:
            return self.unscale(z).round().clamp(0, self.levels - 1)
        noise = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
        return z + math.exp(0.5 * self.gamma_0) * noise


def prior_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, 1)) summed over all but the first axis, (N,) nats."""
    return 0.5 * (mean.square() + torch.exp(log_var) - log_var - 1.0).flatten(1).sum(1)


def stratified(n: int, generator: Generator, like: Tensor) -> Tensor:
    """n times in [0, 1), each uniform, evenly spread between them: (u + i/n) mod 1 with one u (VDM, appendix I.1)."""
    u = torch.rand((), generator=generator, device=like.device, dtype=like.dtype)
    return torch.remainder(u + torch.arange(n, device=like.device, dtype=like.dtype) / n, 1.0)


def _level_costs(levels: int, gamma_0: float) -> Tensor:
    """(L,) float64 nats: E over eps of log sum_w exp(-eps d_w - d_w^2 / 2), d_w the scaled distance to level w."""
    noise = torch.linspace(-9.0, 9.0, 361, dtype=torch.float64)  # the trapezoid rule is exact to rounding for such
    weight = torch.exp(-0.5 * noise.square())
    weight = weight / weight.sum()
    at = torch.arange(levels, dtype=torch.float64) * (2.0 / levels) * math.exp(-0.5 * gamma_0)
    costs = []
    for rows in at.split(32):
        d = rows[:, None, None] - at
        costs.append(torch.logsumexp(-noise[:, None] * d - 0.5 * d.square(), -1) @ weight)
    return torch.cat(costs)
