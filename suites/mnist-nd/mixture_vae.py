"""The mixture VAE that MNIST-Nd is made with (Turishcheva et al. 2024; networks of the authors' code).

    p(y) uniform over K,  p(z|y) = N(m_y, diag s_y),  p(x|z);    q(y|x),  q(z|x,y) = N(m(x,y), diag s(x,y))

y is relaxed by Gumbel-Softmax, one draw a row. With D latent dimensions the loss is

    E[-log p(x|z)] + (weight / D) E[log q(z|x,y) - log p(z|y)] + class_weight KL(q(y|x) || p(y))

so that the prior's pull on a row stays about the same however many dimensions there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, likelihoods, nets
from latentbench.models.discrete import layout
from latentbench.models.discrete.estimator import Hints
from latentbench.models.discrete.pathwise import GumbelSoftmax
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional

Gaussian = tuple[Tensor, Tensor]
ANNEALED = 10**9  # a step at which the temperature has come to its end
_SMALL = {"latent_dim": 2, "categories": 3, "hidden": (8,)}


class Diagonal(nn.Module):
    """A diagonal Gaussian of features: mean and log standard deviation, the variance being a softplus."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.head = nets.Blocks(n_in, n_out, 2)

    def forward(self, features: Tensor) -> Gaussian:
        mean, raw = self.head(features).chunk(2, -1)
        return mean, 0.5 * (functional.softplus(raw) + 1e-8).log()


@model(
    "mixture-vae",
    "Trainable Encoder LikelihoodHead Classifier",
    "VAE whose prior is a learned mixture of Gaussians, the component relaxed (MNIST-Nd)",
    examples=(Example("binary-vector", _SMALL), Example("unit-vector", {**_SMALL, "likelihood": "bernoulli"})),
)
class MixtureVAE(nn.Module):
    """A VAE with `latent_dim` codes and a mixture of `categories` Gaussians as prior.

    Args:
        info: the data.
        hidden, likelihood: as for `vae`, for both networks of q; the decoder mirrors them.
        weight, class_weight: of the KL terms, the first before it is divided by `latent_dim`.
        rate: at which the temperature of y falls from 1 to 0.5, exponentially, a step.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 2,
        categories: Annotated[int, Ge(3)] = 10,
        hidden: Sequence[PositiveInt] = (512, 512),
        likelihood: checks.Choice | None = None,
        weight: PositiveFloat = 8.0,
        class_weight: PositiveFloat = 1.0,
        rate: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__()
        self.categories, widths = checks.whole("categories", categories, 3), checks.wholes("hidden", hidden)
        self.beta = checks.number("weight", weight, above=True) / checks.whole("latent_dim", latent_dim)
        self.class_weight = checks.number("class_weight", class_weight, above=True)
        self.likelihood = likelihoods.build_likelihood(likelihood, info)
        self.q_y = nn.Sequential(nets.mlp(info.dims, widths, "relu"), nn.Linear(widths[-1], categories))
        self.q_z = nn.Sequential(nets.mlp(info.dims + categories, widths, "relu"), Diagonal(widths[-1], latent_dim))
        self.p_z = Diagonal(categories, latent_dim)
        self.decoder, _ = nets.MlpNetwork(info).decoder(latent_dim, widths[::-1], "relu", self.likelihood.outputs)
        nets.initialise(self, "glorot")
        self.relaxed = GumbelSoftmax(info.dims, rate=rate, every=1)
        self.register_buffer("start", torch.randint(2**31, ()))  # what its codes' draws and clusterings start from

    def category(self, logits: Tensor, step: int, generator: Generator) -> Tensor:
        """A relaxed draw of y, (N, K), at the temperature of a step."""
        return self.relaxed.code(logits[:, None], generator, Hints(step, 0.0)).squeeze(1)

    def posterior(self, x: Tensor, y: Tensor) -> Gaussian:
        """Mean and log standard deviation of q(z|x,y), (N, D) each, for x (N, ...) and y (N, K)."""
        found: Gaussian = self.q_z(torch.cat([x.flatten(1), y], -1))
        return found

    def draw(self, x: Tensor, logits: Tensor, step: int, generator: Generator) -> tuple[Tensor, Gaussian, Tensor]:
        """A relaxed draw of y (N, K), q(z|x,y), and a draw of z (N, D)."""
        y = self.category(logits, step, generator)
        q = self.posterior(x, y)
        return y, q, densities.normal_draw(*q, generator)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """As above, with `distortion`, `rate` (unweighted) and `class_rate` in nats a row."""
        logits = self.classify(batch.x)
        y, q, z = self.draw(batch.x, logits, batch.step, generator)
        rate = (densities.normal(z, *q) - densities.normal(z, *self.p_z(y))).mean()
        class_rate = layout.kl(logits[:, None], torch.zeros_like(logits[:, None])).mean()
        distortion = -self.likelihood.log_prob(batch.x.flatten(1), self.decoder(z)).mean()
        terms = {"distortion": distortion, "rate": rate, "class_rate": class_rate}
        loss = distortion + self.beta * rate + self.class_weight * class_rate
        return {"loss": loss, **{k: v.detach() for k, v in terms.items()}}

    def row_codes(self, x: Tensor, generator: Generator) -> Tensor:
        """A row of MNIST-Nd for each of x: the mean of q(z|x,y) at a relaxed draw of y, (N, D), once it is annealed."""
        return self.posterior(x, self.category(self.classify(x), ANNEALED, generator))[0]

    def encode(self, x: Tensor) -> Tensor:
        """The mean of q(z|x,y) at the probabilities of y, (N, D): `row_codes` without its draw."""
        return self.posterior(x, self.classify(x).softmax(-1))[0]

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """A draw of z, (N, D)."""
        return self.draw(x, self.classify(x), ANNEALED, generator)[2]

    def classify(self, x: Tensor) -> Tensor:
        """Logits of q(y|x), (N, K); which component is which digit is not known to the model."""
        logits: Tensor = self.q_y(x.flatten(1))
        return logits
