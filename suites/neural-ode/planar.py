"""Planar flows (Rezende & Mohamed 2015, arXiv 1505.05770), run from data to the base so that densities are exact."""

from __future__ import annotations

import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities
from pydantic import PositiveInt
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus

#: Halvings of the bracket of a root when inverting: to the last bits of float32.
BISECTIONS = 40


@model(
    "planar-flow",
    "Trainable ExactLikelihood Sampler",
    "planar normalising flow of vectors",
    examples=(Example("real-vector", {"layers": 3}, "likelihood"),),
)
class PlanarFlow(nn.Module):
    """Layers z' = z + û tanh(w·z + b) (their eq. 10), invertible since û is u moved along w until w·û >= -1 (their
    appendix A.1); log |det| = log |1 + û·w tanh'(w·z + b)| (their eq. 12).

    Args:
        info: vectors of real coordinates.
        layers: K, layers of one hidden unit each.
    """

    def __init__(self, info: DataInfo, *, layers: PositiveInt = 32) -> None:
        checks.support("PlanarFlow", info, "real", "unit")
        super().__init__()
        self.dims = checks.vector_length("PlanarFlow", info)
        k = checks.whole("layers", layers)
        self.w = nn.Parameter(torch.randn(k, self.dims) / self.dims**0.5)
        self.u = nn.Parameter(0.1 * torch.randn(k, self.dims))
        self.b = nn.Parameter(torch.zeros(k))

    def _moved(self) -> tuple[Tensor, Tensor]:
        """û (K, D) and w·û (K,), which is above -1."""
        inner = (self.w * self.u).sum(-1)
        wanted = softplus(inner) - 1.0
        shift = (wanted - inner) / self.w.square().sum(-1).clamp_min(1e-12)
        return self.u + shift[:, None] * self.w, wanted

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, D) to z (N, D) and log |dz/dx| (N,)."""
        moved, inner = self._moved()
        log_det = x.new_zeros(len(x))
        for w, u, b, slope in zip(self.w, moved, self.b, inner):
            h = torch.tanh(x @ w + b)
            log_det = log_det + torch.log1p(slope * (1 - h * h))
            x = x + h[:, None] * u
        return x, log_det

    @torch.no_grad()
    def inverse(self, z: Tensor) -> Tensor:
        """z (N, D) to x (N, D), each layer by bisection of a + (w·û) tanh(a + b) = w·z, whose left side rises in a."""
        moved, inner = self._moved()
        for w, u, b, slope in reversed(list(zip(self.w, moved, self.b, inner))):
            goal = z @ w
            low, high = goal - slope.abs(), goal + slope.abs()
            for _ in range(BISECTIONS):
                a = 0.5 * (low + high)
                under = a + slope * torch.tanh(a + b) < goal
                low, high = torch.where(under, a, low), torch.where(under, high, a)
            z = z - torch.tanh(0.5 * (low + high) + b)[:, None] * u
        return z

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log-density, (N, D) -> (N,) nats."""
        z, log_det = self(x)
        return densities.standard_normal(z) + log_det

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        return {"loss": -self.log_prob(batch.x).mean()}

    def sample(self, n: int, generator: Generator) -> Tensor:
        like = self.w
        return self.inverse(torch.randn(n, self.dims, generator=generator, device=like.device, dtype=like.dtype))
