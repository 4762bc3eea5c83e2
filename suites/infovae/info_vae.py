"""InfoVAE: what a code tells and how far the codes are from the prior, weighed apart (Zhao et al. 2017, eq. 6).

    loss = -E_q log p(x|z) + (1 - alpha) KL(q(z|x) || p(z)) + (alpha + lambda - 1) D(q(z) || p(z))

D is taken between the codes of a minibatch, one draw a row, and the standard normal prior (section 3.2):

    mmd      squared maximum mean discrepancy with k(x, y) = exp(-|x - y|^2 / (2 s^2)), without the pairs of a draw with
             itself, so that codes at the prior cost nothing on average (the authors' code keeps those pairs)
    stein    a term whose gradient moves each code along the steepest descent of KL(q(z) || p(z)) in the kernel's space
             (Liu & Wang 2016):  -mean_i z_i . phi_i,  phi_i = mean_j [-k(z_j, z_i) z_j + grad_{z_j} k(z_j, z_i)] fixed
"""

from __future__ import annotations

from typing import Any

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.pixel_vae import PixelVAE
from pydantic import NonNegativeFloat
from torch import Generator, Tensor

_SMALL = {"latent_dim": 3, "hidden": (8,)}


def kernel(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """(N, D), (M, D) to (N, M): exp(-|x - y|^2 / (2 bandwidth^2))."""
    return torch.exp(-(x[:, None] - y[None]).square().sum(-1) / (2.0 * bandwidth**2))


def unbiased_mmd(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """Unbiased squared MMD of two samples (N, D), (M, D) of two rows or more, a scalar that may be negative.

    Gretton et al. 2012, eq. 3: means over pairs of different rows within a sample, and over all pairs between them.
    """

    def within(z: Tensor) -> Tensor:
        n = len(z)
        return (kernel(z, z, bandwidth).sum() - n) / (n * (n - 1))

    return within(x) + within(y) - 2.0 * kernel(x, y, bandwidth).mean()


def stein_direction(z: Tensor, bandwidth: float) -> Tensor:
    """Where each of the codes (N, D) should go to lower KL(q(z) || N(0, I)) fastest, (N, D): phi above."""
    weights = kernel(z, z, bandwidth)
    apart = weights.sum(1, keepdim=True) * z - weights @ z  # sum_j k(z_j, z_i) (z_i - z_j)
    return (apart / bandwidth**2 - weights @ z) / len(z)


@model(
    "info-vae",
    "Trainable VariationalBound Sampler Encoder CodeLikelihood LikelihoodHead CodePrior StandardNormalPrior",
    "VAE trained by the InfoVAE loss: MMD or a Stein term between codes and prior, the KL as far as wanted",
    whole_batch=True,
    examples=(
        Example("binary-vector", {**_SMALL, "alpha": 1.0, "strength": 20.0}),
        Example("binary-vector", {**_SMALL, "alpha": 0.5, "strength": 2.0, "divergence": "stein", "bandwidth": 1.5}),
        Example("binary-image", {**_SMALL, "window": 3, "channels": 4, "layers": 1, "condition": 1}, "elbo"),
    ),
)
class InfoVAE(PixelVAE):
    """A VAE of vectors or images with a Gaussian posterior and a standard normal prior.

    Args:
        info: the data.
        alpha: weight of information, 0 to 1; 0 with `strength` 1 is the ELBO, 1 takes no KL.
        strength: lambda, above; alpha + lambda must be 1 or more, and lambda = 1 - alpha weighs the KL alone.
        divergence: ``mmd`` or ``stein``.
        bandwidth: s of its kernel; 0 takes D / sqrt 2 for codes of D dimensions.
        rest: as for `PixelVAE`, without flows and free bits.

    Raises:
        UserError: a parameter is out of its range, or there are flows or free bits.
    """

    def __init__(
        self, info: DataInfo, *, divergence: str = "mmd", bandwidth: NonNegativeFloat = 0.0, **rest: Any
    ) -> None:
        super().__init__(info, **rest)
        if self.prior is not None or self.transform is not None or self.free_bits:
            raise UserError("info-vae has neither flows nor free bits", fix="leave them out, or take pixel-vae")
        self.divergence = checks.one_of("divergence", divergence, ("mmd", "stein"))
        self.bandwidth = checks.number("bandwidth", bandwidth) or self.latent_dim / 2**0.5

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The loss above; `rate`, `distortion` in nats a sample, and `divergence` of the minibatch where it weighs."""
        x = batch.x
        noise, wanted = (self._noise(len(x), generator=generator, like=x) for _ in range(2))
        posterior = self.posterior(x)
        z, log_q = self._draw(posterior, noise)
        distortion, rate = -self.log_likelihood(x, z).mean(), self._rate(posterior, z, log_q).mean()
        loss = distortion + (1.0 - self.alpha) * rate
        terms = {"rate": rate.detach(), "distortion": distortion.detach()}
        if (weight := self.alpha + self.strength - 1.0) > 1e-9:
            if self.divergence == "mmd":
                apart = unbiased_mmd(z, wanted, self.bandwidth)
            else:
                apart = -(z * stein_direction(z.detach(), self.bandwidth)).sum(-1).mean()
            loss = loss + weight * apart
            terms["divergence"] = apart.detach()
        return {"loss": loss, **terms}
