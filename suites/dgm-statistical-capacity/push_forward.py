"""Generators that push latents forward by a Lipschitz map (Tam & Dunson 2025, arXiv 2501.07763).

A network g with bounded slopes sends latents u to x = g(u). Where u is Gaussian, g(u) is sub-Gaussian whatever the
weights: samples have light tails however many data and units there are. Where the tails of u fall like |u|^-df, those
of samples fall no slower: a Lipschitz map makes no tail heavier than its latents'.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, nets
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn


def energy_loss(x: Tensor, y: Tensor) -> Tensor:
    """2 E|x - y| - E|y - y'| of rows (N, D) and samples (M, D), over all pairs of two: the energy distance of Szekely &
    Rizzo (2013), without bias, up to what does not depend on y."""
    within = torch.cdist(y, y).sum() / (len(y) * (len(y) - 1))
    return 2.0 * torch.cdist(x, y).mean() - within


@model(
    "push-forward",
    "Trainable Sampler",
    "network of Gaussian or Student t latents, trained by the energy distance",
    whole_batch=True,
    examples=(
        Example("real-vector", {"latent_dim": 3, "hidden": (8,)}),
        Example("real-vector", {"latent_dim": 2, "hidden": (6, 5), "df": 4.0}),
    ),
)
class PushForward(nn.Module):
    """Samples g(u) of a ReLU network g, which is Lipschitz.

    Args:
        info: real vectors.
        latent_dim: independent coordinates of u.
        df: degrees of freedom of Student's t, of which they are drawn; 0 stands for the normal distribution.
        hidden: widths of g.

    Raises:
        UserError: the data are no real vectors, or a parameter is out of its range.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 4,
        df: NonNegativeFloat = 0.0,
        hidden: Sequence[PositiveInt] = (64, 64),
    ) -> None:
        super().__init__()
        checks.support("PushForward", info, "real")
        dims = checks.vector_length("PushForward", info)
        self.latent_dim, self.df = checks.whole("latent_dim", latent_dim), checks.number("df", df)
        widths = checks.wholes("hidden", hidden)
        last = [self.latent_dim, *widths][-1]
        self.net = nn.Sequential(nets.mlp(self.latent_dim, widths, "relu"), nn.Linear(last, dims))

    def latents(self, n: int, generator: Generator) -> Tensor:
        """(n, latent_dim): a t variable is a normal one over the root of an independent chi-square's mean."""
        like = next(self.parameters())
        normal = torch.randn(n, self.latent_dim, generator=generator, device=like.device, dtype=like.dtype)
        if not self.df:
            return normal
        shape = torch.full_like(normal, self.df / 2.0)
        return normal / (torch._standard_gamma(shape, generator=generator) / shape).sqrt()

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, D) samples."""
        samples: Tensor = self.net(self.latents(n, generator))
        return samples

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The energy distance of the minibatch and as many samples, up to a constant."""
        return {"loss": energy_loss(batch.x, self.sample(len(batch.x), generator))}
