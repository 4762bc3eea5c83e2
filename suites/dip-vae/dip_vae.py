"""DIP-VAE: a VAE whose inferred prior is decorrelated (Kumar, Sattigeri & Balakrishnan 2018, arXiv 1711.00848).

The inferred prior q(z) = E_p(x) q(z|x) of an encoder N(mu(x), diag(sigma(x)^2)) has the covariance

    Cov_q[z] = E_p(x)[diag(sigma(x)^2)] + Cov_p(x)[mu(x)]                                                  (eq. 5)

To the negative ELBO is added the distance of a covariance C from the identity, estimated on the minibatch,

    lambda_od sum_{i != j} C_ij^2 + lambda_d sum_i (C_ii - 1)^2

with C = Cov_p(x)[mu(x)] in DIP-VAE-I (eq. 6) and C = Cov_q[z] in DIP-VAE-II (eq. 7).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.vae import VAE
from pydantic import NonNegativeFloat
from torch import Generator, Tensor

_SMALL = {"latent_dim": 3, "hidden": (8,)}


def covariance_of_means(mean: Tensor) -> Tensor:
    """Cov_p(x)[mu(x)] of rows (N, D), (D, D): moments over N rows, not N - 1."""
    centred = mean - mean.mean(0)
    return centred.T @ centred / len(mean)


def covariance_of_codes(mean: Tensor, log_std: Tensor) -> Tensor:
    """Cov_q[z] of the mixture of N diagonal Gaussians, each (N, D), (D, D): eq. 5."""
    return covariance_of_means(mean) + torch.diag(torch.exp(2.0 * log_std).mean(0))


def distance_from_identity(covariance: Tensor, off_diagonal: float, diagonal: float) -> Tensor:
    """The weighted squared distance above of a (D, D) matrix, a scalar; each pair i, j counts twice."""
    variances = covariance.diagonal()
    covariances = covariance.square().sum() - variances.square().sum()
    return off_diagonal * covariances + diagonal * (variances - 1.0).square().sum()


@model(
    "dip-vae",
    "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder "
    "LikelihoodHead StandardNormalPrior",
    "VAE with a penalty on the covariance of its means (DIP-VAE-I) or of its codes (DIP-VAE-II)",
    whole_batch=True,
    examples=(
        Example("binary-vector", {**_SMALL, "lambda_od": 0.0}, "elbo"),
        Example("binary-vector", {**_SMALL, "lambda_od": 2.0, "factor": 0.5}),
        Example("real-vector", {**_SMALL, "variant": "ii", "lambda_od": 0.5, "factor": 1.0}),
        Example("binary-image", {**_SMALL, "network": {"conv": {"channels": [4, 6]}}, "variant": "ii"}),
    ),
)
class DIPVAE(VAE):
    """DIP-VAE with one Gaussian code, a standard normal prior and the KL in closed form.

    Args:
        info: the data.
        variant: ``i``, the covariance of means is drawn to the identity, or ``ii``, that of codes is.
        lambda_od: weight of squared covariances.
        factor: lambda_d / lambda_od, lambda_d being the weight of squared distances of variances from 1.
        rest: as for `VAE`, but for `kl` and `objective`.

    Minibatches should be large beside the code: M rows add about D^2 / M to the expected sum of squares.

    Raises:
        UserError: a parameter is out of its range, or the likelihood or network does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        variant: Literal["i", "ii"] = "i",
        lambda_od: NonNegativeFloat = 10.0,
        factor: NonNegativeFloat = 10.0,
        **rest: Any,
    ) -> None:
        super().__init__(info, kl="analytic", **rest)
        self.variant = checks.one_of("variant", variant, ("i", "ii"))
        self.lambda_od = checks.number("lambda_od", lambda_od)
        self.factor = checks.number("factor", factor)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Negative ELBO and penalty (eq. 6 or 7), with `rate`, `distortion` in nats a sample and the `penalty`."""
        noise = self._training_noise(batch.x, generator)
        mean, log_std = posterior = self.posterior(batch.x)
        log_px, rate = self._analytic_terms(batch.x, posterior, noise)
        distortion, rate = -log_px.mean(), rate.mean()
        covariance = covariance_of_means(mean) if self.variant == "i" else covariance_of_codes(mean, log_std)
        penalty = distance_from_identity(covariance, self.lambda_od, self.factor * self.lambda_od)
        terms = {"rate": rate, "distortion": distortion, "penalty": penalty}
        return {"loss": distortion + self.beta * rate + penalty, **{k: v.detach() for k, v in terms.items()}}
