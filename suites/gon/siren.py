"""Images as functions of their coordinates: networks with sine activations (Sitzmann et al. 2020, arXiv 2006.09661)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from latentbench.core.types import DataInfo
from latentbench.models import checks
from torch import Tensor, nn


class Siren(nn.Module):
    """A code and a pixel's coordinates in [-1, 1]^2 to that pixel's channels.

    Args:
        info: the data; images.
        latent_dim: width of the code.
        hidden: widths of the sine layers.
        frequency: omega_0, what the argument of each sine is multiplied by; weights start as in their section 3.2.
    """

    grid: Tensor

    def __init__(
        self, info: DataInfo, latent_dim: int, *, hidden: Sequence[int] = (256,) * 4, frequency: float = 30.0
    ) -> None:
        super().__init__()
        self.shape = checks.image_shape("network siren", info)
        self.frequency = checks.number("network.siren.frequency", frequency, above=True)
        widths = [latent_dim + 2, *checks.wholes("network.siren.hidden", hidden), self.shape[0]]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        with torch.no_grad():
            for i, layer in enumerate(self.layers):
                reach = 1.0 / widths[i] if i == 0 else math.sqrt(6.0 / widths[i]) / self.frequency
                layer.weight.uniform_(-reach, reach)  # type: ignore[operator]
        axes = [torch.linspace(-1.0, 1.0, n) for n in self.shape[1:]]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1)
        self.register_buffer("grid", grid, persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """(N, latent_dim) to (N, C * H * W)."""
        at = self.grid.expand(z.shape[0], -1, -1)
        h = torch.cat([at, z[:, None].expand(-1, at.shape[1], -1)], -1)
        for layer in list(self.layers)[:-1]:
            h = torch.sin(self.frequency * layer(h))
        return self.layers[-1](h).mT.flatten(1)
