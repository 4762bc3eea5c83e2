"""Autoencoders in which binary attributes can be changed: MSP and two rivals, of one architecture (arXiv 1907.12385).

A picture x has attributes y in {-1, 1}^A and a code z of D numbers. Matrix subspace projection learns M (A, D) by

    |x - x'|^2 + KL(q(z|x) || N(0, I)) + w (|M z - y|^2 + |M^T y - z|^2),    w = pixels / (A + D),

as in the authors' code, with pixels in [-1, 1]: z is made of the attributes along the rows of M, and small beside them.
An attribute is set to v by z + M_j (v - M_j z). Rivals:

    conditional VAE     |x - x'|^2 + beta KL; the decoder is told y beside a code of D - A numbers
    Fader network       the same without noise and KL, and lambda times the cross-entropy of 1 - y under a
                        discriminator of codes, which learns y (Lample et al. 2017, arXiv 1706.00409)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, nets
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn

EXAMPLES = (Example("labelled", {"attributes": 1, "column": "y", "latent_dim": 4, "hidden": [8]}),)
PLAYERS = ("autoencoder", "discriminator")
RISE = 0.1  # of training; in its authors' code 0.32, by which fewer edits came out right (notes.md)


class Editor(nn.Module):
    """What all have in common; `told` and `noise` say whether the decoder is told labels and codes are Gaussian.

    Pictures are in [0, 1]; the first `attributes` (A) entries of `column` are 0 or 1. The decoder is given `latent_dim`
    (D) numbers, A of them labels where it is told, and mirrors an encoder of widths `hidden`; `beta` weighs the
    KL term. UserError: pictures of another range, no such column, D no larger than A.
    """

    told = noise = True

    def __init__(
        self,
        info: DataInfo,
        *,
        attributes: PositiveInt = 4,
        column: str = "factors",
        latent_dim: PositiveInt = 16,
        hidden: Sequence[PositiveInt] = (128,),
        beta: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__()
        checks.support("attribute editors", info, "unit", "binary")
        if column not in info.parts or latent_dim <= attributes:
            told = f"no {latent_dim} numbers for {attributes} attributes of {column!r}"
            raise UserError(told, fix=f"more than attributes; columns are {list(info.parts)}")
        self.shape, self.column, self.beta = tuple(info.shape), column, checks.number("beta", beta)
        self.attributes, self.latent_dim = attributes, latent_dim
        parts, widths = nets.build_network("mlp", info), checks.wholes("hidden", hidden)
        body, width = parts.encoder(widths, "relu")
        n = latent_dim - attributes * self.told
        self.encoder = nets.GaussianLayer(body, width, n) if self.noise else nn.Sequential(body, nn.Linear(width, n))
        self.decoder, _ = parts.decoder(latent_dim, widths[::-1], "relu", 1)

    def labels(self, parts: Mapping[str, Tensor]) -> Tensor:
        """(N, A) of -1 and 1."""
        raw = parts[self.column]
        return 2.0 * raw.reshape(len(raw), -1)[:, : self.attributes].float() - 1.0

    def encode(self, x: Tensor) -> Tensor:
        """Mean codes, (N, D), or (N, D - A) where labels are told."""
        mean: Tensor = self.encoder(x)[0]
        return mean

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        mean, log_std = self.encoder(x)
        return densities.normal_draw(mean, log_std, generator)

    def picture(self, z: Tensor) -> Tensor:
        """What is decoded of (N, D), (N, *shape) in (0, 1)."""
        return torch.sigmoid(self.decoder(z)).unflatten(1, self.shape)

    def error(self, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
        """Squared error, summed over pixels in [-1, 1], (N,)."""
        back = self.picture(torch.cat([z, y], -1) if self.told else z)
        return 4.0 * (back - x).square().flatten(1).sum(-1)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        mean, log_std = self.encoder(batch.x)
        z, y = densities.normal_draw(mean, log_std, generator), self.labels(batch.parts)
        rate = densities.normal_kl(mean, log_std)
        return {"loss": (self.error(batch.x, z, y) + self.beta * rate + self.projected(z, y)).mean()}

    def projected(self, z: Tensor, y: Tensor) -> Tensor | float:
        """MSP's own term, (N,)."""
        return 0.0

    def edit(self, x: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """Pictures with attributes `target` of those with attributes y, both (N, A) of -1 and 1."""
        return self.picture(torch.cat([self.encode(x), target], -1))

    def rest(self, z: Tensor) -> Tensor:
        """The part of codes that should say nothing of attributes, (N, D - A)."""
        return z


@model("matrix-subspace-projection", "Trainable Encoder Reconstructor", "MSP", examples=EXAMPLES)
class MSP(Editor):
    """Matrix subspace projection; `weight` multiplies w."""

    told = False

    def __init__(self, info: DataInfo, *, weight: NonNegativeFloat = 1.0, **rest: Any) -> None:
        super().__init__(info, **rest)
        self.weight = checks.number("weight", weight) * info.dims / (self.attributes + self.latent_dim)
        self.matrix = nn.Parameter(nn.init.xavier_normal_(torch.empty(self.attributes, self.latent_dim)))

    def projected(self, z: Tensor, y: Tensor) -> Tensor:
        found, made = z @ self.matrix.T - y, y @ self.matrix - z
        return self.weight * (found.square().sum(-1) + made.square().sum(-1))

    def edit(self, x: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """Attributes that differ are set; of y nothing else is used."""
        z = self.encode(x)
        change = torch.where(target != y, target - z @ self.matrix.T, 0.0)
        return self.picture(z + change @ self.matrix)

    def rest(self, z: Tensor) -> Tensor:
        """Coordinates beside the span of M's rows, as get_U of the authors' code has them."""
        return z @ torch.linalg.svd(self.matrix.double())[2][self.attributes :].to(z).T

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.picture(self.encode(x))


@model("told-vae", "Trainable Encoder", "VAE whose decoder is told the attributes", examples=EXAMPLES)
class ToldVAE(Editor):
    """The conditional VAE; its encoder sees the picture alone, as the others' do."""


@model("fader-network", "Players Encoder", "code hiding attributes", players=PLAYERS, examples=EXAMPLES)
class FaderNetwork(Editor):
    """Told labels at the decoder's first layer; `weight` (lambda) rises over `RISE` of training; beta goes unused."""

    noise = False
    loss = None  # type: ignore[assignment]  # two players have two

    def __init__(self, info: DataInfo, *, weight: NonNegativeFloat = 1.0, **rest: Any) -> None:
        super().__init__(info, **rest)
        self.weight, n = checks.number("weight", weight), self.latent_dim - self.attributes
        self.discriminator = nn.Sequential(nn.Linear(n, 64), nn.LeakyReLU(0.2), nn.Linear(64, self.attributes))

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self.encoder(x)
        return z

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        return self.encode(x)  # there is no noise

    def players(self) -> Mapping[str, Iterable[nn.Parameter]]:
        own = [p for part in (self.encoder, self.decoder) for p in part.parameters()]
        return {"autoencoder": own, "discriminator": self.discriminator.parameters()}

    def player_loss(self, player: str, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        z, y = self.encode(batch.x), self.labels(batch.parts)
        if player == "discriminator":
            return {"loss": self.surprise(z.detach(), y).mean()}
        weight = self.weight * min(1.0, batch.progress / RISE)
        return {"loss": (self.error(batch.x, z, y) + weight * self.surprise(z, -y)).mean()}

    def surprise(self, z: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of labels under the discriminator, summed over attributes, (N,) nats."""
        return -densities.bernoulli_cross_entropy((y + 1.0) / 2.0, self.discriminator(z))
