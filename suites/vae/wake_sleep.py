"""Wake-sleep (Hinton et al. 1995) on the networks of a VAE: the baseline of Kingma & Welling 2014, section 5.

    wake:  with z ~ q(z|x) held fixed,             theta follows the gradient of log p(x, z)
    sleep: with z ~ p(z), x ~ p(x|z) held fixed,   phi follows the gradient of log q(z | x)

The two do not add up to the gradient of any one bound, but one optimiser step can carry both, since each touches
parameters of its own: the loss is their sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities
from latentbench.models.likelihoods import Bernoulli
from latentbench.models.vae import VAE
from torch import Generator, Tensor


@model(
    "wake-sleep",
    "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder "
    "LikelihoodHead StandardNormalPrior",
    "the networks of a VAE with one stochastic layer, trained by wake-sleep",
    examples=(
        Example("binary-vector", {"latent_dim": 3, "hidden": (8,)}),
        Example("real-vector", {"latent_dim": 3, "hidden": (8,)}),
    ),
)
class WakeSleep(VAE):
    """A `VAE` trained by wake-sleep; each step dreams as many samples as the minibatch holds.

    Args:
        info, latent_dim, hidden, decoder_hidden, activation, decoder_activation, network, likelihood, init,
            bias_from_mean: as for `VAE`.

    Raises:
        UserError: a parameter is out of its range, or the likelihood or network does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: int = 50,
        hidden: Sequence[int] = (200, 200),
        decoder_hidden: Sequence[int] | None = None,
        activation: str = "tanh",
        decoder_activation: str | None = None,
        network: checks.Choice = "mlp",
        likelihood: checks.Choice | None = None,
        init: str = "glorot",
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
            init=init,
            bias_from_mean=bias_from_mean,
        )

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """-log p(x|z) at z ~ q(z|x) plus -log q(z'|x') at a dream (z', x') ~ p, nats a sample; log p(z) has no
        parameters and is left out. `wake` and `sleep` are the two parts."""
        x = batch.x
        noise = self._noise(x.shape[0], generator=generator, like=x)
        dreamt = self._noise(x.shape[0], generator=generator, like=x)
        with torch.no_grad():
            mean, log_std = self.posterior(x)
            z = torch.addcmul(mean, torch.exp(log_std), noise)
            dream = self._draw(self.decoder(dreamt), generator).unflatten(1, self.shape)
        wake = -self.likelihood.log_prob(x.flatten(1), self.decoder(z)).mean()
        sleep = -densities.normal(dreamt, *self.posterior(dream)).mean()
        return {"loss": wake + sleep, "wake": wake.detach(), "sleep": sleep.detach()}

    def _draw(self, out: Tensor, generator: Generator) -> Tensor:
        """A draw of x; of bits by comparison with uniform draws, which `torch.func.vmap` can share between seeds."""
        if isinstance(self.likelihood, Bernoulli):
            uniform = torch.rand(out.shape, generator=generator, device=out.device, dtype=out.dtype)
            return (uniform < torch.sigmoid(out)).to(out.dtype)
        return self.likelihood.sample(out, generator)
