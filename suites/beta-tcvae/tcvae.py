"""beta-TCVAE: a VAE whose KL term is split in three, each with a weight (Chen et al. 2018, arXiv 1802.04942).

    E_p(n) KL(q(z|n) || p(z)) = I_q(z; n) + KL(q(z) || prod_j q(z_j)) + sum_j KL(q(z_j) || p(z_j))       (eq. 2)

with q(z) the aggregate posterior over the N training samples. The loss weighs index-code mutual information, total
correlation and dimension-wise KL by alpha, beta and gamma (eq. 4); with all three 1 it is the ELBO.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities
from latentbench.models.vae import VAE
from pydantic import NonNegativeFloat
from torch import Generator, Tensor


def pairwise_log_density(z: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log q(z_i[d] | n_j) for all pairs of a minibatch: three (M, D) to (D, M, M), axes (d, i, j)."""
    # Contiguous, so that the large results lie in the order of their axes and are summed twice as fast.
    z, mean, log_std = (t.T.contiguous() for t in (z, mean, log_std))
    z, mean, log_std = z[:, :, None], mean[:, None, :], log_std[:, None, :]
    d = (z - mean) * torch.exp(-log_std)
    return torch.addcmul(-log_std - densities.HALF_LOG_2PI, d, d, value=-0.5)


def stratified_log_weights(m: int, n: int, like: Tensor) -> Tensor:
    """log weights (M, M) of minibatch stratified sampling (their appendix C), rows i, columns j.

    Sample i's own component has weight 1/N; one other, here its cyclic successor, (N - (M-1)) / (N (M-1)); the rest
    1/(M-1). Over random minibatches the weighted sum is an unbiased estimate of q(z_i). (The authors' code fills the
    first two columns in place of the diagonal and its neighbour, which mixes the roles up; this follows the paper.)
    """
    rest = m - 1
    weights = torch.full((m, m), 1.0 / rest, device=like.device, dtype=like.dtype)
    weights.diagonal().fill_(1.0 / n)
    last = (n - rest) / (n * rest)
    weights.diagonal(1).fill_(last)
    weights[m - 1, 0] = last
    return weights.log()


def aggregate_log_densities(pairs: Tensor, n_train: int, estimator: str) -> tuple[Tensor, Tensor]:
    """Estimates of log q(z_i) and of sum_d log q(z_i[d]), each (M,), from `pairwise_log_density`.

    ``mws``, minibatch-weighted sampling (their appendix C): log 1/(N M) sum_j q(z_i | n_j). It is biased low: by a
    factor of M where posteriors do not overlap, up to N where they coincide or the minibatch is the whole set. So the
    mutual information comes out too high by log M to log N nats, the dimension-wise KL too low by D log M to D log N,
    the total correlation too high by the difference; their sum, the KL, is not affected.

    ``mss``, minibatch-stratified sampling: unbiased for q(z), so biased low only through the logarithm.
    """
    m = pairs.shape[-1]
    joint = pairs.sum(0)
    if estimator == "mws":
        norm = math.log(n_train * m)
        return joint.logsumexp(-1) - norm, pairs.logsumexp(-1).sum(0) - norm * pairs.shape[0]
    weights = stratified_log_weights(m, n_train, pairs)
    return (joint + weights).logsumexp(-1), (pairs + weights).logsumexp(-1).sum(0)


@model(
    "beta-tcvae",
    "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder "
    "LikelihoodHead StandardNormalPrior",
    "VAE with weights on mutual information, total correlation and dimension-wise KL",
    scalars=("alpha", "beta", "gamma"),
    whole_batch=True,
    examples=(
        Example("binary-vector", {"latent_dim": 3, "hidden": (8,), "decoder_hidden": None}),
        Example(
            "binary-image",
            {
                "latent_dim": 3,
                "hidden": (8,),
                "network": {"conv": {"channels": [4, 6]}},
                "decoder_hidden": None,
                "estimator": "mss",
                "alpha": 0.0,
            },
        ),
    ),
)
class BetaTCVAE(VAE):
    """beta-TCVAE with one Gaussian code and a standard normal prior.

    Args:
        info: the data.
        latent_dim, hidden, decoder_hidden, activation, decoder_activation, network, likelihood, init, bias_from_mean:
            as for `VAE`. The defaults are the paper's network for dSprites: 1200-1200 ReLU and 1200-1200-1200 tanh.
            Its network for 3-D faces is ``hidden: [512]``, ReLU,
            ``network: {conv: {channels: [32, 32, 64, 64], batch_norm: true}}``.
        alpha: weight of the index-code mutual information (0 leaves it out).
        beta: weight of the total correlation.
        gamma: weight of the dimension-wise KL.
        estimator: of the aggregate posterior: ``mws`` or ``mss``.

    The estimators need minibatches of two samples or more, and of no more than `Batch.n_train`.

    Raises:
        UserError: a parameter is out of its range, or the likelihood or network does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: int = 10,
        hidden: Sequence[int] = (1200, 1200),
        decoder_hidden: Sequence[int] | None = (1200, 1200, 1200),
        activation: str = "relu",
        decoder_activation: str | None = "tanh",
        network: checks.Choice = "mlp",
        likelihood: checks.Choice | None = None,
        alpha: NonNegativeFloat = 1.0,
        beta: float = 6.0,
        gamma: NonNegativeFloat = 1.0,
        estimator: Literal["mws", "mss"] = "mws",
        init: str = "default",
        bias_from_mean: bool = False,
    ) -> None:
        super().__init__(
            info,
            latent_dim=latent_dim,
            hidden=hidden,
            decoder_hidden=decoder_hidden,
            activation=activation,
            decoder_activation=decoder_activation,
            network=network,
            likelihood=likelihood,
            beta=beta,
            init=init,
            bias_from_mean=bias_from_mean,
        )
        self.alpha = checks.number("alpha", alpha)
        self.gamma = checks.number("gamma", gamma)
        self.estimator = checks.one_of("estimator", estimator, ("mws", "mss"))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The negative of eq. 4, with its parts in nats per sample: `distortion`, `rate` and its three terms."""
        x = batch.x
        m = x.shape[0]
        if not 2 <= m <= batch.n_train:
            raise UserError(
                f"BetaTCVAE got a minibatch of {m} from {batch.n_train} samples",
                fix="2 samples or more, and no more than the training set; drop a smaller last one",
            )
        noise = self._noise(m, generator=generator, like=x)
        mean, log_std = self.posterior(x)
        z = torch.addcmul(mean, torch.exp(log_std), noise)
        distortion = -self.likelihood.log_prob(x.flatten(1), self.decoder(z)).mean()
        log_q_given_n = (densities.standard_normal(noise) - log_std.sum(-1)).mean()
        pairs = pairwise_log_density(z, mean, log_std)
        log_joint, log_product = aggregate_log_densities(pairs, batch.n_train, self.estimator)
        log_joint, log_product = log_joint.mean(), log_product.mean()
        information = log_q_given_n - log_joint
        correlation = log_joint - log_product
        dimension_wise = log_product - densities.standard_normal(z).mean()
        weighted = self.alpha * information + self.beta * correlation + self.gamma * dimension_wise
        return {
            "loss": distortion + weighted,
            "distortion": distortion.detach(),
            "rate": (information + correlation + dimension_wise).detach(),
            "mutual_information": information.detach(),
            "total_correlation": correlation.detach(),
            "dimension_wise_kl": dimension_wise.detach(),
        }
