"""BiGAN: an encoder E beside the generator G of a GAN (Donahue et al. 2017, arXiv 1605.09782).

    V(D, E, G) = E_x log D(x, E(x)) + E_z log(1 - D(G(z), z))                                    (eq. 2)
    C(E, G) = max_D V = 2 JSD(P_EX || P_GZ) - log 4                                              (proposition 2)

The discriminator maximises V. Encoder and generator minimise, together, not V but V with its labels swapped (the
"inverse objective" of section 3.4). Both losses are halved, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.papers.bigan.nets import Discriminator, Generative
from pydantic import PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F  # noqa: N812

PLAYERS = ("discriminator", "encoder_generator")


@model(
    "bigan",
    "Players Encoder Reconstructor Sampler",
    "BiGAN: a GAN on pairs of a row and its code",
    whole_batch=True,
    players=PLAYERS,
    examples=(Example("unit-vector", {"latent_dim": 3, "width": 8}),),
)
class BiGAN(Generative):
    """E and G against a discriminator of pairs.

    Args:
        info, latent_dim, width: as for `latentbench.papers.bigan.nets.Networks`.
    """

    def __init__(self, info: DataInfo, *, latent_dim: PositiveInt = 50, width: PositiveInt = 1024) -> None:
        super().__init__(info, latent_dim, width)
        self.discriminator = Discriminator(info.dims, width, latent_dim)

    def players(self) -> Mapping[str, Iterable[nn.Parameter]]:
        both = [*self.encoder.parameters(), *self.code.parameters(), *self.generator.parameters()]
        return {"discriminator": list(self.discriminator.parameters()), "encoder_generator": both}

    def player_loss(self, player: str, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Cross-entropy of the discriminator on real and generated pairs, nats; its labels swapped for E and G."""
        real, fake = self.log_odds(batch.x, generator)
        return adversarial(real, fake) if player == "discriminator" else adversarial(-real, -fake)

    def log_odds(self, x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The discriminator's of the pairs (x, E(x)) and (G(z), z), (N,) each."""
        z = self.prior(len(x), generator)
        real = self.discriminator(x, self.code_of(x))
        return real, self.discriminator(self.generator(z), z, noted=False)


def adversarial(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """-V / 2 where D = sigmoid(log-odds), nats."""
    parts = {"real": F.softplus(-real).mean(), "generated": F.softplus(fake).mean()}
    return {"loss": torch.stack(list(parts.values())).mean(), **parts}
