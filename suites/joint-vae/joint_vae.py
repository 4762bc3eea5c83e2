"""JointVAE: a VAE with Gaussian codes z and a categorical code c, each held to a capacity (Dupont 2018, 1804.00104).

    q(z, c | x) = q(z | x) q(c | x),  p(z) = N(0, I),  p(c) uniform over K categories

c is relaxed by Gumbel-Softmax in training. With R_z and R_c the mean KL terms of a minibatch and capacities C_z and C_c
that rise linearly from 0, C_c to log K at most, the loss is E[-log p(x|z,c)] and

    separate    gamma |R_z - C_z| + gamma |R_c - C_c|       (the paper's)
    shared      gamma |R_z + R_c - C_z - C_c|               (one capacity for both)
    weighted    gamma (R_z + R_c)                           (beta-VAE's)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, likelihoods, nets
from latentbench.models.discrete import layout as codes
from latentbench.models.discrete.estimator import Hints
from latentbench.models.discrete.pathwise import GumbelSoftmax
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

Posterior = tuple[Tensor, Tensor, Tensor]
"""Mean and log standard deviation of q(z|x), (N, D) each, and logits of q(c|x), (N, 1, K)."""
_SMALL = {"latent_dim": 2, "categories": 3, "hidden": (8,), "rise": 1, "gamma": 1.0}


@model(
    "joint-vae",
    "Trainable Encoder Reconstructor LikelihoodHead Classifier",
    "VAE with Gaussian codes and a categorical one, each held to a capacity",
    whole_batch=True,
    examples=(
        Example("binary-vector", _SMALL),
        Example("unit-vector", {**_SMALL, "likelihood": "bernoulli", "penalty": "shared"}),
        Example("binary-image", {**_SMALL, "network": {"conv": {"channels": [4, 6]}}, "penalty": "weighted"}),
    ),
)
class JointVAE(nn.Module):
    """A VAE with `latent_dim` Gaussian codes and one of three `categories` or more.

    Args:
        info: the data.
        hidden, activation, network, likelihood: as for `vae`; the decoder mirrors the encoder.
        penalty, gamma: see above.
        capacity, class_capacity: what C_z and C_c rise to in `rise` steps, nats a row.
        temperature: of the Gumbel-Softmax.

    Raises:
        UserError: a parameter is out of its range, or the likelihood or network does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 10,
        categories: Annotated[int, Ge(3)] = 10,
        hidden: Sequence[PositiveInt] = (256,),
        activation: str = "relu",
        network: checks.Choice = "mlp",
        likelihood: checks.Choice | None = None,
        penalty: Literal["separate", "shared", "weighted"] = "separate",
        gamma: NonNegativeFloat = 30.0,
        capacity: NonNegativeFloat = 5.0,
        class_capacity: NonNegativeFloat = 5.0,
        rise: PositiveInt = 25_000,
        temperature: PositiveFloat = 0.67,
    ) -> None:
        super().__init__()
        self.shape, self.latent_dim = tuple(info.shape), checks.whole("latent_dim", latent_dim)
        self.categories, self.rise = checks.whole("categories", categories, 3), checks.whole("rise", rise)
        widths = checks.wholes("hidden", hidden)
        checks.one_of("activation", activation, nets.ACTIVATIONS)
        self.penalty = checks.one_of("penalty", penalty, ("separate", "shared", "weighted"))
        self.gamma, self.capacity = checks.number("gamma", gamma), checks.number("capacity", capacity)
        self.class_capacity = checks.number("class_capacity", class_capacity)
        self.likelihood = likelihoods.build_likelihood(likelihood, info)
        parts = nets.build_network(network, info)
        self.body, width = parts.encoder(widths, activation)
        self.gaussian = nets.Blocks(width, self.latent_dim, 2)
        self.classes = nn.Linear(width, self.categories)
        n_in = self.latent_dim + self.categories
        self.decoder, _ = parts.decoder(n_in, widths[::-1], activation, self.likelihood.outputs)
        self.relaxed = GumbelSoftmax(info.dims, temperature=temperature)

    def posterior(self, x: Tensor) -> Posterior:
        features = self.body(x)
        mean, log_std = self.gaussian(features).chunk(2, -1)
        return mean, log_std.clamp(-nets.LOG_STD_LIMIT, nets.LOG_STD_LIMIT), self.classes(features)[:, None]

    def rates(self, posterior: Posterior) -> tuple[Tensor, Tensor]:
        """KL(q(z|x) || p(z)) and KL(q(c|x) || p(c)) in closed form, (N,) nats each; the second at most log K."""
        mean, log_std, logits = posterior
        return densities.normal_kl(mean, log_std), codes.kl(logits, torch.zeros_like(logits))

    def capacities(self, step: int) -> tuple[float, float]:
        """C_z and C_c in nats, for the loss after `step` steps."""
        share = (step + 1) / self.rise
        highest = min(self.class_capacity, math.log(self.categories))
        return min(share, 1.0) * self.capacity, min(share * self.class_capacity, highest)

    def held(self, rate: Tensor, class_rate: Tensor, step: int) -> Tensor:
        """The penalty, of mean KL terms."""
        if self.penalty == "weighted":
            return self.gamma * (rate + class_rate)
        capacity, class_capacity = self.capacities(step)
        if self.penalty == "shared":
            return self.gamma * (rate + class_rate - capacity - class_capacity).abs()
        return self.gamma * ((rate - capacity).abs() + (class_rate - class_capacity).abs())

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """As above, with `distortion`, `rate` and `class_rate` in nats a row."""
        posterior = self.posterior(batch.x)
        z = self._style(posterior, generator)
        c = self.relaxed.code(posterior[2], generator, Hints(batch.step, batch.progress)).flatten(-2)
        distortion = -self.likelihood.log_prob(batch.x.flatten(1), self.decoder(torch.cat([z, c], -1))).mean()
        rate, class_rate = (r.mean() for r in self.rates(posterior))
        terms = {"distortion": distortion, "rate": rate, "class_rate": class_rate}
        loss = distortion + self.held(rate, class_rate, batch.step)
        return {"loss": loss, **{k: v.detach() for k, v in terms.items()}}

    def _style(self, posterior: Posterior, generator: Generator) -> Tensor:
        mean, log_std, _ = posterior
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return torch.addcmul(mean, torch.exp(log_std), noise)

    def encode(self, x: Tensor) -> Tensor:
        """Mean of z and probabilities of c, (N, D + K)."""
        mean, _, logits = self.posterior(x)
        return torch.cat([mean, logits.flatten(-2).softmax(-1)], -1)

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """A draw of z and of c, one-hot, (N, D + K)."""
        posterior = self.posterior(x)
        return torch.cat([self._style(posterior, generator), codes.draw(posterior[2], generator).flatten(-2)], -1)

    def classify(self, x: Tensor) -> Tensor:
        """Logits of q(c|x), (N, K); which category is which class is not known to the model."""
        return self.posterior(x)[2].squeeze(-2)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x | z, c) at the mean of z and the likeliest c, (N, *shape)."""
        mean, _, logits = self.posterior(x)
        code = torch.cat([mean, codes.one_hot(logits.argmax(-1), logits).flatten(-2)], -1)
        return self.likelihood.mean(self.decoder(code)).unflatten(1, self.shape)
