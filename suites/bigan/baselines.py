"""What the paper compares BiGAN with, all of the same networks (section 4.1), and two that nobody trained.

Latent regressors: a GAN whose encoder learns, on generated rows alone, to say what they were generated from, by the
cross-entropy of its log-odds with (z + 1) / 2. In the joint one the generator lowers that loss too, weighed by 0.25.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.papers.bigan.bigan import adversarial
from latentbench.papers.bigan.nets import Discriminator, Features, Generative, Networks
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F  # noqa: N812

PLAYERS = ("discriminator", "generator", "encoder")


@model(
    "latent-regressor",
    "Players Encoder Reconstructor Sampler",
    "GAN with an encoder of its samples",
    whole_batch=True,
    players=PLAYERS,
    examples=(
        Example("unit-vector", {"latent_dim": 3, "width": 8}),
        Example("unit-vector", {"latent_dim": 3, "width": 8, "joint": 0.25}),
    ),
)
class LatentRegressor(Generative):
    """A GAN and an encoder E of G(z).

    The batch statistics with which E is evaluated are those of real rows, as in the authors' code.

    Args:
        info, latent_dim, width: as for `Networks`; the code starts at 0, as in the authors' code.
        joint: weight of the encoder's loss, for the generator as for the encoder itself; with 0 the generator is that
            of a plain GAN, and the encoder's weight is 1.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 50,
        width: PositiveInt = 1024,
        joint: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__(info, latent_dim, width, code_std=0.0)
        self.joint = joint
        self.discriminator = Discriminator(info.dims, width)

    def players(self) -> Mapping[str, Iterable[nn.Parameter]]:
        return {
            "discriminator": list(self.discriminator.parameters()),
            "generator": list(self.generator.parameters()),
            "encoder": [*self.encoder.parameters(), *self.code.parameters()],
        }

    def player_loss(self, player: str, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """As `BiGAN`'s for the discriminator; -log D(G(z)) + joint * L for the generator; L for the encoder, nats."""
        z = self.prior(len(batch.x), generator)
        rows = self.generator(z)
        if player == "discriminator":
            return adversarial(self.discriminator(batch.x), self.discriminator(rows, noted=False))
        if player == "encoder":
            with torch.no_grad():
                self.encoder(batch.x)
            found = self.code_error(rows, z)
            return {"loss": (self.joint or 1.0) * found, "code_error": found}
        fooled = F.softplus(-self.discriminator(rows, noted=False)).mean()
        if not self.joint:
            return {"loss": fooled}
        found = self.code_error(rows, z)
        return {"loss": fooled + self.joint * found, "fooled": fooled, "code_error": found}

    def code_error(self, rows: Tensor, z: Tensor) -> Tensor:
        """L(z, E(rows)): cross-entropy a coordinate, nats."""
        return F.binary_cross_entropy_with_logits(self.code(self.encoder(rows, noted=False)), (z + 1) / 2)

    def discriminator_features(self, x: Tensor) -> Tensor:
        """The discriminator's layer before its answer, (N, width)."""
        features: Tensor = self.discriminator.features(x)
        return features


@model(
    "uniform-autoencoder",
    "Trainable Encoder Reconstructor",
    "autoencoder of BiGAN's networks, by squared or absolute error",
    whole_batch=True,
    examples=(
        Example("unit-vector", {"latent_dim": 3, "width": 8}),
        Example("unit-vector", {"latent_dim": 3, "width": 8, "error": "l1"}),
    ),
)
class Autoencoder(Networks):
    """G(E(x)) trained towards x.

    Args:
        info, latent_dim, width: as for `Networks`.
        error: ``l2`` squared, ``l1`` absolute.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 50,
        width: PositiveInt = 1024,
        error: Literal["l2", "l1"] = "l2",
    ) -> None:
        super().__init__(info, latent_dim, width)
        self.error = error

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Error a row, summed over its coordinates."""
        off = self.reconstruct(batch.x) - batch.x
        each = off.square() if self.error == "l2" else off.abs()
        return {"loss": each.sum(1).mean()}


@model(
    "untrained-features",
    "Fittable Encoder",
    "rows themselves, or an encoder that nobody trained",
    examples=(Example("unit-vector", {"width": 8}), Example("unit-vector", {"width": 0})),
)
class Untrained(nn.Module):
    """BiGAN's encoder before its first step, batch-normalised by the training rows; with width 0 the rows themselves.

    Args:
        info: of vectors.
        width: units of its layers.
    """

    def __init__(self, info: DataInfo, *, width: NonNegativeInt = 1024) -> None:
        super().__init__()
        self.encoder = Features(info.dims, width) if width else nn.Identity()

    @torch.no_grad()
    def fit(self, x: Tensor, generator: Generator) -> None:
        """Take note of the batch statistics of `x`."""
        self.train()
        self.encoder(x.flatten(1))
        self.eval()

    def encode(self, x: Tensor) -> Tensor:
        """(N, width), or the rows as vectors."""
        features: Tensor = self.encoder(x.flatten(1))
        return features

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """As `encode`."""
        return self.encode(x)
