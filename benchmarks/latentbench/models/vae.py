"""Variational autoencoders with one or several Gaussian layers, trained on the ELBO or the importance-weighted bound.

Kingma & Welling 2014 (arXiv 1312.6114); Rezende et al. 2014 (1401.4082); Burda et al. 2016, "IWAE" (1509.00519);
Higgins et al. 2017 (beta). With stochastic layers h_1 (bottom) .. h_L (top),

    q(h | x) = q(h_1 | x) q(h_2 | h_1) ... q(h_L | h_{L-1}),   p(x, h) = p(h_L) p(h_{L-1} | h_L) ... p(x | h_1),

p(h_L) standard normal and every other conditional a diagonal Gaussian predicted by a network (IWAE section 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn

from latentbench.core.capabilities import Elbo
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, likelihoods, nets

Gaussian = tuple[Tensor, Tensor]
"""Mean and log standard deviation of a diagonal Gaussian."""


_SMALL = {"latent_dim": 3, "hidden": (8,)}


@model(
    "hierarchical-vae",
    "Trainable VariationalBound Sampler Encoder Decoder Reconstructor LikelihoodHead",
    "variational autoencoder with several stochastic layers; ELBO or IWAE objective",
    scalars=("beta",),
    draws="k",
    examples=(
        Example("binary-vector", {"latent_dims": (4, 2), "hidden": ((8,), (6,)), "k": 2}, "elbo"),
        Example("real-vector", {"latent_dims": (4, 3, 2), "hidden": ((8,), (), (5, 5))}, "elbo"),
    ),
)
class HierarchicalVAE(nn.Module):
    """A VAE with L >= 1 stochastic layers.

    Args:
        info: the data.
        latent_dims: width of each stochastic layer, bottom first.
        hidden: for each stochastic layer, the widths of the deterministic layers of its q network, bottom first.
        decoder_hidden: likewise for the p network that leads from each stochastic layer down; None mirrors `hidden`.
        activation: of the deterministic layers: tanh, relu, elu, silu or softplus.
        decoder_activation: of those of p; None takes `activation`.
        network: ``mlp``, or ``{conv: {channels, batch_norm}}`` for the networks that touch images.
        likelihood: the head of p(x | h_1), see `likelihoods`; None takes the support's natural one.
        objective: ``elbo``, averaged over the k samples (IWAE eq. 3 with one sample, its VAE baseline with k), or
            ``iwae``, the importance-weighted bound L_k (eq. 8).
        k: samples of h for each datum.
        beta: weight of the KL term in the training loss (ELBO only; the bounds that are reported never carry it).
        init: ``glorot`` or ``default`` (PyTorch's).
        bias_from_mean: starts the output bias at the training mean, as Burda et al.'s code does.

    The KL term is the Monte Carlo form log q(h|x) - log p(h), as in the IWAE paper: no closed form exists for L > 1.

    Raises:
        UserError: a parameter is out of its range, or the likelihood or network does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dims: Sequence[PositiveInt] = (100, 50),
        hidden: Sequence[Sequence[int]] = ((200, 200), (100, 100)),
        decoder_hidden: Sequence[Sequence[int]] | None = None,
        activation: str = "tanh",
        decoder_activation: str | None = None,
        network: checks.Choice = "mlp",
        likelihood: checks.Choice | None = None,
        objective: Literal["elbo", "iwae"] = "elbo",
        k: PositiveInt = 1,
        beta: NonNegativeFloat = 1.0,
        init: str = "glorot",
        bias_from_mean: bool = False,
    ) -> None:
        super().__init__()
        self.shape = tuple(info.shape)
        self.latent_dims = checks.wholes("latent_dims", latent_dims)
        if not self.latent_dims:
            raise UserError("latent_dims is empty", fix="one width or more")
        self.objective = checks.one_of("objective", objective, ("elbo", "iwae"))
        self.k = checks.whole("k", k)
        self.beta = checks.number("beta", beta)
        if self.objective == "iwae" and self.beta != 1.0:
            raise UserError(f"beta is {self.beta:g} with objective iwae", fix="that bound has no separate KL term")
        checks.one_of("activation", activation, nets.ACTIVATIONS)
        decoder_activation = checks.one_of("decoder_activation", decoder_activation or activation, nets.ACTIVATIONS)
        checks.one_of("init", init, nets.INITS)
        up = self._widths("hidden", hidden)
        down = self._widths("decoder_hidden", decoder_hidden) if decoder_hidden is not None else [h[::-1] for h in up]

        self.likelihood = likelihoods.build_likelihood(likelihood, info)
        parts = nets.build_network(network, info)
        dims = self.latent_dims
        self.q = nn.ModuleList([nets.GaussianLayer(*parts.encoder(up[0], activation), dims[0])])
        self.p = nn.ModuleList()
        for below, above, q_hidden, p_hidden in zip(dims, dims[1:], up[1:], down[1:], strict=False):
            q_features, p_features = [below, *q_hidden][-1], [above, *p_hidden][-1]
            self.q.append(nets.GaussianLayer(nets.mlp(below, q_hidden, activation), q_features, above))
            self.p.append(nets.GaussianLayer(nets.mlp(above, p_hidden, decoder_activation), p_features, below))
        self.decoder, last = parts.decoder(dims[0], down[0], decoder_activation, self.likelihood.outputs)
        nets.initialise(self, init)
        if checks.flag("bias_from_mean", bias_from_mean):
            self._set_output_bias(last, info)

    def _widths(self, name: str, hidden: object) -> list[tuple[int, ...]]:
        if isinstance(hidden, str) or not isinstance(hidden, Sequence) or len(hidden) != len(self.latent_dims):
            raise UserError(f"{name} is {hidden!r}", fix=f"{len(self.latent_dims)} lists, one a stochastic layer")
        return [checks.wholes(f"{name}[{i}]", widths) for i, widths in enumerate(hidden)]

    def _set_output_bias(self, last: nn.Module, info: DataInfo) -> None:
        if info.mean is None:
            raise UserError("bias_from_mean needs the training mean", fix="these data have none: set it to false")
        mean = torch.as_tensor(info.mean, dtype=torch.float32)
        per_channel = isinstance(last, nn.ConvTranspose2d)
        bias = self.likelihood.output_bias(mean.mean((1, 2)) if per_channel else mean.flatten())
        with torch.no_grad():
            last.bias.copy_(bias)  # type: ignore[operator]

    def _noise(self, *shape: int, generator: Generator, like: Tensor) -> Tensor:
        """Standard normal (*shape, sum of latent_dims): all noise of a step in one draw."""
        width = sum(self.latent_dims)
        return torch.randn((*shape, width), generator=generator, device=like.device, dtype=like.dtype)

    def _training_noise(self, x: Tensor, generator: Generator) -> Tensor:
        """For k draws a datum; one draw goes without that axis, which spares a small model's step some reductions."""
        shape = (x.shape[0],) if self.k == 1 else (self.k, x.shape[0])
        return self._noise(*shape, generator=generator, like=x)

    def _terms(self, x: Tensor, posterior: Gaussian, noise: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x | h_1) and log q(h | x) - log p(h), each (..., N), at the draws of `noise` (..., N, sum of dims)."""
        mean, log_std = posterior
        noises = noise.split(self.latent_dims, -1)
        rate = densities.standard_normal(noise) - log_std.sum(-1)
        h = below = torch.addcmul(mean, torch.exp(log_std), noises[0])
        for q, p, eps in zip(self.q[1:], self.p, noises[1:], strict=False):
            mean, log_std = q(below)
            above = torch.addcmul(mean, torch.exp(log_std), eps)
            rate = rate - log_std.sum(-1) - densities.normal(below, *p(above))
            below = above
        rate = rate - densities.standard_normal(below)
        return self.likelihood.log_prob(x.flatten(1), self.decoder(h)), rate

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The negative objective, with `rate` and `distortion` in nats per sample (means over the k samples)."""
        x = batch.x
        noise = self._training_noise(x, generator)  # first, so that what follows compiles into one graph
        log_px, rate = self._terms(x, self.q[0](x), noise)
        if self.objective == "iwae" and self.k > 1:  # with one sample the bound is the ELBO
            loss = -densities.importance_weighted_bound(log_px - rate).mean()
            return {"loss": loss, "rate": rate.detach().mean(), "distortion": -log_px.detach().mean()}
        rate, distortion = rate.mean(), -log_px.mean()
        return {"loss": distortion + self.beta * rate, "rate": rate.detach(), "distortion": distortion.detach()}

    def elbo(self, x: Tensor, generator: Generator) -> Elbo:
        """One-sample estimate; the rate is log q(h|x) - log p(h) at that sample."""
        log_px, rate = self._terms(x, self.posterior(x), self._noise(x.shape[0], generator=generator, like=x))
        return Elbo(rate=rate, distortion=-log_px)

    def posterior(self, x: Tensor) -> Gaussian:
        """Mean and log standard deviation of q(h_1 | x), each (N, latent_dims[0])."""
        posterior: Gaussian = self.q[0](x)
        return posterior

    def log_importance_weights(self, x: Tensor, posterior: Gaussian, k: int, generator: Generator) -> Tensor:
        """log p(x, h_i) - log q(h_i | x) for k fresh draws, (k, N) nats; memory grows with k * N * dims."""
        log_px, rate = self._terms(x, posterior, self._noise(k, x.shape[0], generator=generator, like=x))
        return log_px - rate

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, *shape) draws of x, every layer sampled."""
        like = next(self.parameters())
        h, *noises = self._noise(n, generator=generator, like=like).split(self.latent_dims[::-1], -1)
        for p, eps in zip(reversed(self.p), noises, strict=True):
            mean, log_std = p(h)
            h = torch.addcmul(mean, torch.exp(log_std), eps)
        return self.likelihood.sample(self.decoder(h), generator).unflatten(1, self.shape)

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means, (N, sum of latent_dims), bottom first.

        For layers above the first it is the mean of q(h_l | mean of the layer below): the expectation over the layer
        below has no closed form. `encode_sample` draws through all layers.
        """
        mean, _ = self.q[0](x)
        means = [mean]
        for q in self.q[1:]:
            means.append(q(means[-1])[0])
        return torch.cat(means, -1)

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """One draw of all layers from q(h | x), (N, sum of latent_dims), bottom first."""
        noises = self._noise(x.shape[0], generator=generator, like=x).split(self.latent_dims, -1)
        draws = []
        below = x
        for q, eps in zip(self.q, noises, strict=True):
            mean, log_std = q(below)
            below = torch.addcmul(mean, torch.exp(log_std), eps)
            draws.append(below)
        return torch.cat(draws, -1)

    def decode(self, z: Tensor) -> Tensor:
        """(N, latent_dims[-1]) to the mean of p(x | h_1), (N, *shape); each lower layer is set to its mean."""
        for p in reversed(self.p):
            z = p(z)[0]
        return self.likelihood.mean(self.decoder(z)).unflatten(1, self.shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x | mean of q(h_1 | x)), (N, *shape)."""
        return self.likelihood.mean(self.decoder(self.posterior(x)[0])).unflatten(1, self.shape)


@model(
    "vae",
    "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder "
    "LikelihoodHead StandardNormalPrior",
    "variational autoencoder with one stochastic layer; ELBO, beta-ELBO or IWAE objective",
    scalars=("beta",),
    draws="k",
    examples=(
        Example("binary-vector", {**_SMALL, "bias_from_mean": True}, "elbo"),
        Example("binary-vector", {**_SMALL, "k": 4, "beta": 2.0}),
        Example("binary-vector", {**_SMALL, "k": 2, "kl": "analytic"}, "elbo"),
        Example("binary-vector", {**_SMALL, "k": 4, "objective": "iwae"}),
        Example("unit-vector", {**_SMALL, "likelihood": "bernoulli", "bias_from_mean": True}, "elbo"),
        Example("real-vector", {**_SMALL, "bias_from_mean": True, "activation": "relu"}, "elbo"),
        Example("real-vector", {**_SMALL, "likelihood": {"gaussian": {"scale": 0.5}}}, "elbo"),
        Example("real-vector", {**_SMALL, "likelihood": {"gaussian": {"scale": "shared"}}}, "elbo"),
        Example("discrete-vector", {**_SMALL, "bias_from_mean": True}, "elbo"),
        Example("discrete-vector", {**_SMALL, "likelihood": "categorical", "init": "default"}, "elbo"),
        Example("binary-image", {**_SMALL, "network": {"conv": {"channels": [4, 6]}}, "k": 2}),
        Example(
            "discrete-image",
            {**_SMALL, "network": {"conv": {"channels": [4, 6], "batch_norm": True}}, "activation": "relu"},
        ),
        Example("real-image", {**_SMALL, "network": {"conv": {"channels": [4, 6]}}, "bias_from_mean": True}),
    ),
)
class VAE(HierarchicalVAE):
    """A VAE with one stochastic layer, whose posterior is one diagonal Gaussian.

    Args:
        latent_dim: width of the code.
        hidden: widths of the encoder's deterministic layers.
        decoder_hidden: those of the decoder; None mirrors `hidden`.
        kl: ``sample`` (log q - log p at the k samples, as in IWAE's code) or ``analytic`` (closed form; ELBO only).
            `elbo` always uses the closed form, which has the same mean and less noise.

    The other arguments are those of `HierarchicalVAE`.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 50,
        hidden: Sequence[PositiveInt] = (200, 200),
        decoder_hidden: Sequence[int] | None = None,
        activation: str = "tanh",
        decoder_activation: str | None = None,
        network: checks.Choice = "mlp",
        likelihood: checks.Choice | None = None,
        objective: Literal["elbo", "iwae"] = "elbo",
        k: PositiveInt = 1,
        beta: NonNegativeFloat = 1.0,
        kl: Literal["sample", "analytic"] = "sample",
        init: str = "glorot",
        bias_from_mean: bool = False,
    ) -> None:
        super().__init__(
            info,
            latent_dims=(checks.whole("latent_dim", latent_dim),),
            hidden=(checks.wholes("hidden", hidden),),
            decoder_hidden=None if decoder_hidden is None else (checks.wholes("decoder_hidden", decoder_hidden),),
            activation=activation,
            decoder_activation=decoder_activation,
            network=network,
            likelihood=likelihood,
            objective=objective,
            k=k,
            beta=beta,
            init=init,
            bias_from_mean=bias_from_mean,
        )
        self.kl = checks.one_of("kl", kl, ("sample", "analytic"))
        if self.objective == "iwae" and self.kl == "analytic":
            raise UserError("kl is 'analytic' with objective iwae", fix="its weights need the sampled form")

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        if self.kl == "sample":
            return super().loss(batch, generator)
        x = batch.x
        noise = self._training_noise(x, generator)
        log_px, rate = self._analytic_terms(x, self.q[0](x), noise)
        rate, distortion = rate.mean(), -log_px.mean()
        return {"loss": distortion + self.beta * rate, "rate": rate.detach(), "distortion": distortion.detach()}

    def _analytic_terms(self, x: Tensor, posterior: Gaussian, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = posterior
        z = torch.addcmul(mean, torch.exp(log_std), noise)
        return self.likelihood.log_prob(x.flatten(1), self.decoder(z)), densities.normal_kl(mean, log_std)

    def elbo(self, x: Tensor, generator: Generator) -> Elbo:
        """One-sample distortion and the closed-form rate KL(q(z|x) || p(z))."""
        noise = self._noise(x.shape[0], generator=generator, like=x)
        log_px, rate = self._analytic_terms(x, self.posterior(x), noise)
        return Elbo(rate=rate, distortion=-log_px)

    def encode_gaussian(self, x: Tensor) -> Gaussian:
        """Mean and log-variance of q(z|x), each (N, latent_dim)."""
        mean, log_std = self.posterior(x)
        return mean, 2.0 * log_std
