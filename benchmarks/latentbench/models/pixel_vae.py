"""VAEs of images whose decoder, prior and posterior may each be autoregressive, and whose loss weighs information.

    decoder    pixels independent given the code, or PixelCNN with a window of limited size
    prior      standard normal, or an autoregressive flow (VLAE: Chen et al. 2017, arXiv 1611.02731, section 3)
    posterior  diagonal Gaussian, or that through an inverse autoregressive flow (Kingma et al. 2016, arXiv 1606.04934)
    loss       InfoVAE (Zhao et al. 2017, arXiv 1706.02262, eq. 6), with MMD for the last divergence:
               -E_q log p(x|z) + (1 - alpha) KL(q(z|x) || p(z)) + (alpha + lambda - 1) D(q(z) || p(z))

alpha = 0, lambda = 1 is the ELBO; lambda = 1 - alpha = beta weighs the KL by beta; alpha = 1 is MMD-VAE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Le
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Generator, Tensor, nn

from latentbench.core.capabilities import Elbo
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, likelihoods, nets
from latentbench.models.autoregressive_flow import AutoregressiveFlow
from latentbench.models.discrepancy import squared_mmd
from latentbench.models.pixelcnn import CausalDecoder

Gaussian = tuple[Tensor, Tensor]


_SMALL = {"latent_dim": 3, "hidden": (8,)}


@model(
    "pixel-vae",
    "Trainable VariationalBound Sampler Encoder CodeLikelihood LikelihoodHead CodePrior StandardNormalPrior",
    "VAE with PixelCNN decoder, autoregressive-flow prior or posterior, and the InfoVAE loss, each if wanted",
    whole_batch=True,
    unless={"StandardNormalPrior": "prior_flow"},
    examples=(
        Example("binary-vector", {**_SMALL, "alpha": 1.0, "strength": 100.0}),
        Example("binary-image", {**_SMALL, "window": 3, "channels": 4, "layers": 1, "condition": 1}, "elbo"),
        Example(
            "discrete-image",
            {**_SMALL, "window": 3, "channels": 4, "layers": 1, "condition": 1, "free_bits": 0.1, "kernel": 3},
        ),
        Example("binary-vector", {**_SMALL, "prior_flow": 2, "posterior_flow": 2, "flow_hidden": (8,)}, "elbo"),
        Example("binary-vector", {**_SMALL, "posterior_flow": 1, "flow_hidden": (8,)}, "elbo"),
    ),
)
class PixelVAE(nn.Module):
    """A VAE with one code and, if wanted, autoregressive parts.

    Args:
        info: the data; images where `window` is not 0.
        latent_dim, hidden, decoder_hidden, activation, decoder_activation, network, likelihood, init: as for `VAE`.
        window: side of the PixelCNN's first convolution, 3 or more; 0 decodes pixels independently.
        kernel, channels, layers: of the PixelCNN, see `CausalDecoder`.
        condition: channels of the map through which the code reaches the PixelCNN.
        prior_flow, posterior_flow: steps of the autoregressive flow of prior and posterior, 0 for none.
        flow_hidden: widths of the flows' networks.
        alpha: weight of information in the loss, above.
        strength: lambda, above; alpha + lambda must be 1 or more.
        free_bits: nats of KL a sample, averaged over the minibatch, that cost nothing.

    Raises:
        UserError: a parameter is out of its range, or the likelihood or network does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 32,
        hidden: Sequence[PositiveInt] = (200, 200),
        decoder_hidden: Sequence[int] | None = None,
        activation: str = "relu",
        decoder_activation: str | None = None,
        network: checks.Choice = "mlp",
        likelihood: checks.Choice | None = None,
        window: NonNegativeInt = 0,
        kernel: int = 1,
        channels: int = 32,
        layers: int = 2,
        condition: PositiveInt = 4,
        prior_flow: int = 0,
        posterior_flow: int = 0,
        flow_hidden: Sequence[int] = (64,),
        alpha: Annotated[float, Ge(0), Le(1)] = 0.0,
        strength: NonNegativeFloat = 1.0,
        free_bits: NonNegativeFloat = 0.0,
        init: str = "glorot",
    ) -> None:
        super().__init__()
        self.shape = tuple(info.shape)
        self.latent_dim = checks.whole("latent_dim", latent_dim)
        self.alpha = checks.number("alpha", alpha, most=1.0)
        self.strength = checks.number("strength", strength)
        if self.alpha + self.strength < 1.0 - 1e-9:
            raise UserError(f"alpha + strength is {self.alpha + self.strength:g}", fix="1 or more")
        self.free_bits = checks.number("free_bits", free_bits)
        checks.one_of("activation", activation, nets.ACTIVATIONS)
        after = checks.one_of("decoder_activation", decoder_activation or activation, nets.ACTIVATIONS)
        up = checks.wholes("hidden", hidden)
        down = up[::-1] if decoder_hidden is None else checks.wholes("decoder_hidden", decoder_hidden)
        self.likelihood = likelihoods.build_likelihood(likelihood, info)
        parts = nets.build_network(network, info)
        self.q = nets.GaussianLayer(*parts.encoder(up, activation), self.latent_dim)
        causal = checks.whole("window", window, 0) > 0
        outputs = checks.whole("condition", condition) if causal else self.likelihood.outputs
        self.decoder, _ = parts.decoder(self.latent_dim, down, after, outputs)
        nets.initialise(self, checks.one_of("init", init, nets.INITS))
        self.causal: CausalDecoder | None = None
        if causal:
            depth, height, width = checks.image_shape("window", info)
            self.place = (outputs * depth, height, width)
            self.causal = CausalDecoder(
                info,
                outputs=self.likelihood.outputs,
                condition=outputs * depth,
                window=window,
                kernel=kernel,
                channels=channels,
                layers=layers,
            )
        self.prior = self._flow("prior_flow", prior_flow, flow_hidden)
        self.transform = self._flow("posterior_flow", posterior_flow, flow_hidden)

    def _flow(self, name: str, layers: int, hidden: Sequence[int]) -> AutoregressiveFlow | None:
        widths = checks.wholes("flow_hidden", hidden)
        return (
            AutoregressiveFlow(self.latent_dim, layers=layers, hidden=widths) if checks.whole(name, layers, 0) else None
        )

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z), (..., D) to (...) nats."""
        if self.prior is None:
            return densities.standard_normal(z)
        noise, log_det = self.prior(z)
        return densities.standard_normal(noise) + log_det

    def _draw(self, posterior: Gaussian, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (..., N, D) and log q(z | x), (..., N), at standard normal `noise`."""
        mean, log_std = posterior
        z = torch.addcmul(mean, torch.exp(log_std), noise)
        log_q = densities.standard_normal(noise) - log_std.sum(-1)
        if self.transform is None:
            return z, log_q
        z, log_det = self.transform(z)
        return z, log_q - log_det

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z), (N, *shape) and (..., N, D) to (..., N) nats."""
        if self.causal is None:
            return self.likelihood.log_prob(x.flatten(1), self.decoder(z))
        maps = self.decoder(z).reshape(-1, *self.place)
        out = self.causal(x, maps).unflatten(0, z.shape[:-1])
        return self.likelihood.log_prob(x.flatten(1), out)

    def _noise(self, *shape: int, generator: Generator, like: Tensor) -> Tensor:
        return torch.randn((*shape, self.latent_dim), generator=generator, device=like.device, dtype=like.dtype)

    def _rate(self, posterior: Gaussian, z: Tensor, log_q: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)), closed form where both are Gaussian, else at z."""
        if self.prior is None and self.transform is None:
            return densities.normal_kl(*posterior)
        return log_q - self.log_prior(z)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The InfoVAE loss; `rate`, `distortion` in nats a sample, and `mmd` of the minibatch's codes and the prior."""
        x, n = batch.x, batch.x.shape[0]
        noise = self._noise(n, generator=generator, like=x)
        wanted = self._noise(n, generator=generator, like=x)
        posterior = self.posterior(x)
        z, log_q = self._draw(posterior, noise)
        distortion = -self.log_likelihood(x, z).mean()
        rate = self._rate(posterior, z, log_q).mean()
        loss = distortion + (1.0 - self.alpha) * (rate.clamp_min(self.free_bits) if self.free_bits else rate)
        terms = {"rate": rate.detach(), "distortion": distortion.detach()}
        if (weight := self.alpha + self.strength - 1.0) > 0.0:
            with torch.no_grad():
                target = wanted if self.prior is None else self.prior.inverse(wanted)
            mmd = squared_mmd(z, target)
            loss = loss + weight * mmd
            terms["mmd"] = mmd.detach()
        return {"loss": loss, **terms}

    def elbo(self, x: Tensor, generator: Generator) -> Elbo:
        """One-sample estimate; the rate in closed form where there is one."""
        posterior = self.posterior(x)
        z, log_q = self._draw(posterior, self._noise(x.shape[0], generator=generator, like=x))
        return Elbo(rate=self._rate(posterior, z, log_q), distortion=-self.log_likelihood(x, z))

    def posterior(self, x: Tensor) -> Gaussian:
        """Mean and log standard deviation of the Gaussian (before the posterior's flow), each (N, D)."""
        posterior: Gaussian = self.q(x)
        return posterior

    def log_importance_weights(self, x: Tensor, posterior: Gaussian, k: int, generator: Generator) -> Tensor:
        """log p(x, z_i) - log q(z_i | x) for k fresh draws, (k, N) nats; a PixelCNN takes them eight at a time."""
        weights = []
        for part in torch.arange(k).split(k if self.causal is None else 8):
            z, log_q = self._draw(posterior, self._noise(len(part), x.shape[0], generator=generator, like=x))
            weights.append(self.log_likelihood(x, z) + self.log_prior(z) - log_q)
        return torch.cat(weights)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, *shape) draws of x."""
        z = self._noise(n, generator=generator, like=self.q.head.weight)
        out = self.decoder(z if self.prior is None else self.prior.inverse(z))
        if self.causal is None:
            return self.likelihood.sample(out, generator).unflatten(1, self.shape)
        return self.causal.draw((n, *self.shape), self.likelihood, generator, out.reshape(n, *self.place))

    def encode(self, x: Tensor) -> Tensor:
        """(N, D): the Gaussian's mean, through the posterior's flow where there is one."""
        mean, _ = self.posterior(x)
        return mean if self.transform is None else self.transform(mean)[0]

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """One draw from q(z | x), (N, D)."""
        return self._draw(self.posterior(x), self._noise(x.shape[0], generator=generator, like=x))[0]
