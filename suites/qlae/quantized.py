"""QLAE: an autoencoder whose every code is quantised by a codebook of its own (Hsu et al. 2023, arXiv 2305.18378).

An encoder gives D numbers a row. Each is replaced by the nearest of the V learnable scalars of its own codebook:

    z_d = argmin_{v in V_d} |v - f(x)_d|,    decoded as f(x) + sg(z - f(x)), which copies the gradient straight through
    L = cross-entropy + l_q |sg(f(x)) - z|^2 + l_c |f(x) - sg(z)|^2            (each a mean over its coordinates)

The other half of the method is the optimiser's weight decay. Rivals differ in the codebook alone: one of vectors for
all codes (VQ-VAE, van den Oord et al. 2017), or none (an autoencoder).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, likelihoods, nets
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn

_SMALL = {"latent_dim": 3, "hidden": (8,), "values": 4}


@model(
    "quantized-autoencoder",
    "Trainable Encoder Decoder Reconstructor LikelihoodHead",
    "autoencoder with a scalar codebook for each code (QLAE), one of vectors (VQ-VAE), or none",
    examples=(
        Example("binary-vector", _SMALL),
        Example("unit-vector", {**_SMALL, "likelihood": "bernoulli", "codebook": "vector", "width": 2}),
        Example("binary-vector", {**_SMALL, "codebook": "none"}),
    ),
)
class QuantizedAutoencoder(nn.Module):
    """An autoencoder with D = `latent_dim` codes and a likelihood head, whose cross-entropy is a mean over coordinates.

    Args:
        info: of the data.
        latent_dim: number of codes D.
        hidden: widths of the encoder's layers, and of the decoder's backwards.
        likelihood: as for `VAE`.
        codebook: ``scalar`` (one a code), ``vector`` (one of vectors for all), ``none``.
        values: entries V of each codebook. Scalars start evenly spaced in [-0.5, 0.5].
        width: numbers in each code, of a ``vector`` codebook.
        quantization, commitment: weights l_q and l_c.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 10,
        hidden: Sequence[PositiveInt] = (200, 200),
        likelihood: checks.Choice | None = None,
        codebook: Literal["scalar", "vector", "none"] = "scalar",
        values: PositiveInt = 10,
        width: PositiveInt = 1,
        quantization: NonNegativeFloat = 0.01,
        commitment: NonNegativeFloat = 0.01,
    ) -> None:
        super().__init__()
        width = width if codebook == "vector" else 1
        self.shape, self.latent_dim, self.width = tuple(info.shape), latent_dim, width
        self.kind, self.quantization, self.commitment = codebook, quantization, commitment
        self.likelihood = likelihoods.build_likelihood(likelihood, info)
        network = nets.build_network("mlp", info)
        body, features = network.encoder(tuple(hidden), "relu")
        self.encoder = nn.Sequential(body, nn.Linear(features, latent_dim * width))
        self.decoder, _ = network.decoder(latent_dim * width, tuple(hidden)[::-1], "relu", self.likelihood.outputs)
        if codebook == "vector":
            limit = (3.0 / width) ** 0.5
            self.codebook = nn.Parameter((2.0 * torch.rand(1, values, width) - 1.0) * limit)
        elif codebook != "none":
            grid = torch.linspace(-0.5, 0.5, values)[None, :, None]
            self.codebook = nn.Parameter(grid.repeat(latent_dim, 1, 1))

    def continuous(self, x: Tensor) -> Tensor:
        """f(x), (N, D, width)."""
        out: Tensor = self.encoder(x).unflatten(1, (self.latent_dim, self.width))
        return out

    def nearest(self, z: Tensor) -> Tensor:
        """Number of the nearest entry of the codebook, (N, D) int, of (N, D, width)."""
        entries = self.codebook.expand(self.latent_dim, -1, -1)
        distances = entries.square().sum(-1) - 2.0 * torch.einsum("nde,dve->ndv", z, entries)  # less |z|^2
        return distances.argmin(-1)

    def entries(self, index: Tensor) -> Tensor:
        """Entries (N, D, width) of numbers (N, D)."""
        return self.codebook.expand(self.latent_dim, -1, -1)[torch.arange(self.latent_dim, device=index.device), index]

    def encode(self, x: Tensor) -> Tensor:
        """(N, D * width): quantised, if there is a codebook."""
        z = self.continuous(x)
        return (z if self.kind == "none" else self.entries(self.nearest(z))).flatten(1)

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        return self.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """(N, D * width) to the mean of x, (N, *shape)."""
        return self.likelihood.mean(self.decoder(z)).unflatten(1, self.shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """`cross_entropy` in nats a coordinate and the mean squared `distance` of encodings to their entries."""
        z = self.continuous(batch.x)
        quantised = z if self.kind == "none" else self.entries(self.nearest(z))
        straight = z + (quantised - z).detach()
        log_px = self.likelihood.log_prob(batch.x.flatten(1), self.decoder(straight.flatten(1)))
        cross_entropy = -log_px.mean() / batch.x[0].numel()
        to_codes = (z.detach() - quantised).square().mean()  # 0 without a codebook, as is the next
        to_entries = (z - quantised.detach()).square().mean()
        loss = cross_entropy + self.quantization * to_codes + self.commitment * to_entries
        return {"loss": loss, "cross_entropy": cross_entropy.detach(), "distance": to_codes.detach()}
