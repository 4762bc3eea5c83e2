"""AnnealedVAE: a VAE whose rate is held to a capacity that rises (Burgess et al. 2018, arXiv 1804.03599).

L(x) = -E_q(z|x) log p(x | z) + gamma |KL(q(z|x) || p(z)) - C|,        C = C_max min(1, step / rise)        (eq. 8)
"""

from __future__ import annotations

from typing import Any

from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.vae import VAE
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor

_SMALL = {"latent_dim": 3, "hidden": (8,), "gamma": 2.0, "capacity": 1.5, "rise": 2}


@model(
    "annealed-vae",
    "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder "
    "LikelihoodHead StandardNormalPrior",
    "VAE whose KL term is held to a capacity that rises during training",
    whole_batch=True,
    examples=(
        Example("binary-vector", _SMALL),
        Example("unit-vector", {**_SMALL, "capacity": 0.1, "gamma": 1.0, "likelihood": "bernoulli"}),
    ),
)
class AnnealedVAE(VAE):
    """A `vae` (`rest`, but for `kl`, `beta` and `objective`) whose mean rate over a minibatch is drawn to a capacity.

    Args:
        info: the data.
        gamma: weight of the distance from the capacity.
        capacity: C_max, nats a row.
        rise: steps until it is reached.
        rest: as for `vae`.

    Raises:
        UserError: a parameter is out of its range, or the likelihood or network does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        gamma: NonNegativeFloat = 1000.0,
        capacity: NonNegativeFloat = 25.0,
        rise: PositiveInt = 100_000,
        **rest: Any,
    ) -> None:
        super().__init__(info, kl="analytic", **rest)
        self.gamma, self.capacity = checks.number("gamma", gamma), checks.number("capacity", capacity)
        self.rise = checks.whole("rise", rise)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Of eq. 8, with `rate`, `distortion` and the `capacity` of the step in nats a row."""
        noise = self._training_noise(batch.x, generator)
        log_px, rate = self._analytic_terms(batch.x, self.posterior(batch.x), noise)
        distortion, rate = -log_px.mean(), rate.mean()
        capacity = self.capacity * min(1.0, batch.step / self.rise)
        loss = distortion + self.gamma * (rate - capacity).abs()
        return {
            "loss": loss,
            "rate": rate.detach(),
            "distortion": distortion.detach(),
            "capacity": loss.new_tensor(capacity),
        }
