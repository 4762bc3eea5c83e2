"""FactorVAE, the rival: a VAE whose total correlation a discriminator estimates (Kim & Mnih 2018, arXiv 1802.05983).

    loss of the VAE              -ELBO + gamma E_q(z) [log D(z) / (1 - D(z))]                                   (eq. 2)
    loss of the discriminator    -E_q(z) [log D(z)] / 2 - E_q'(z) [log(1 - D(z))] / 2

where q(z) is the aggregate posterior and q'(z) the product of its margins, drawn by permuting each code over a
minibatch (algorithm 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, nets
from latentbench.models.vae import VAE
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F  # noqa: N812

PLAYERS = ("vae", "discriminator")


def permuted(z: Tensor, generator: Generator) -> Tensor:
    """(N, D) with each column in an order of its own."""
    noise = torch.rand(z.shape, generator=generator, device=z.device)
    return z.gather(0, noise.argsort(0))


@model(
    "factor-vae",
    "Players VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder LikelihoodHead StandardNormalPrior",
    "VAE with a penalty on the total correlation, which a discriminator estimates",
    whole_batch=True,
    players=PLAYERS,
    examples=(Example("binary-vector", {"latent_dim": 3, "hidden": (8,), "width": 6}),),
)
class FactorVAE(VAE):
    """A `vae` (`rest`, but for `kl` and `objective`) with a discriminator of codes: two layers of `width` units, leaky
    ReLU. `gamma` weighs the total correlation. UserError: a parameter is out of its range."""

    loss = None  # type: ignore[assignment]  # two players have two

    def __init__(
        self, info: DataInfo, *, gamma: NonNegativeFloat = 10.0, width: PositiveInt = 1000, **rest: Any
    ) -> None:
        super().__init__(info, kl="analytic", **rest)
        self.gamma, width = checks.number("gamma", gamma), checks.whole("width", width)
        d = sum(self.latent_dims)
        self.discriminator = nn.Sequential(
            nn.Linear(d, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
        )
        nets.initialise(self.discriminator, "glorot")

    def players(self) -> Mapping[str, Iterable[nn.Parameter]]:
        judge = list(self.discriminator.parameters())
        return {"vae": [p for p in self.parameters() if all(p is not q for q in judge)], "discriminator": judge}

    def player_loss(self, player: str, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Of the VAE with `rate`, `distortion` and the estimated `total_correlation`, nats a row."""
        if player == "discriminator":
            z = self.encode_sample(batch.x, generator).detach()
            other = permuted(z, generator)
            return {"loss": (F.softplus(-self.log_odds(z)) + F.softplus(self.log_odds(other))).mean() / 2}
        mean, log_std = posterior = self.posterior(batch.x)
        noise = self._training_noise(batch.x, generator)
        log_px, rate = self._analytic_terms(batch.x, posterior, noise)
        correlation = self.log_odds(torch.addcmul(mean, torch.exp(log_std), noise)).mean()
        terms = {"rate": rate.mean(), "distortion": -log_px.mean(), "total_correlation": correlation}
        loss = terms["distortion"] + terms["rate"] + self.gamma * correlation
        return {"loss": loss, **{k: v.detach() for k, v in terms.items()}}

    def log_odds(self, z: Tensor) -> Tensor:
        """log D(z) / (1 - D(z)), (N,)."""
        return self.discriminator(z).squeeze(-1)
