"""A VAE with a class and a style, some of whose rows are labelled (Kingma et al. 2014; Jang et al. 2017, section 3.3).

    q(y | x) q(z | x, y),   p(y) p(z) p(x | y, z);   y one of K classes, p(y) uniform, z Gaussian

    labelled      L(x, y) = E_{q(z|x,y)} [-log p(x|y,z)] + KL(q(z|x,y) || p(z)) - log p(y)            (eq. 8)
    unlabelled    U(x)    = E_{q(y|x)} [L(x, y)] - H(q(y|x))                                          (eqs. 9, 10)
    loss          mean of L over labelled rows + mean of U over the others
                  - alpha * mean of log q(y|x) over labelled rows                                     (eq. 11)

With ``estimator: enumerate`` the expectation over y is summed over all K classes, at K times the cost of a step; any
other estimator takes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from latentbench.core.capabilities import Elbo
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, likelihoods, nets
from latentbench.models.discrete import layout as codes
from latentbench.models.discrete.estimator import Hints
from latentbench.models.discrete.estimators import build_estimator
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn


@model(
    "class-vae",
    "Trainable VariationalBound Sampler LikelihoodHead Classifier",
    "VAE with a class and a style, the class marginalised or sampled; learns from labelled rows and others",
    whole_batch=True,
    examples=(
        Example("binary-vector", {"classes": 4, "latent_dim": 2, "hidden": (8,)}),
        Example("real-image", {"classes": 3, "latent_dim": 2, "estimator": "enumerate"}, "elbo"),
    ),
)
class ClassVAE(nn.Module):
    """Rows whose column ``y`` is a class, 0 or more, are labelled; those with -1 are not, nor any without the column.

    Args:
        info: vectors or images, read as vectors.
        classes: K, three or more.
        latent_dim: width of the style z.
        hidden: widths of each of the three networks' layers (the decoder's in reverse).
        activation: tanh, relu, elu, silu or softplus.
        likelihood: the head of p(x | y, z); None takes the support's natural one.
        estimator: of the class, see `estimators`.
        alpha: weight of the classifier's own loss.

    Raises:
        UserError: a parameter is out of its range, or the likelihood does not fit the data.
    """

    prior: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        classes: Annotated[int, Ge(3)] = 10,
        latent_dim: PositiveInt = 32,
        hidden: Sequence[PositiveInt] = (256,),
        activation: str = "relu",
        likelihood: checks.Choice | None = None,
        estimator: checks.Choice = "gumbel_softmax",
        alpha: NonNegativeFloat = 0.1,
    ) -> None:
        super().__init__()
        self.shape, dims = tuple(info.shape), info.dims
        classes, self.latent_dim = checks.whole("classes", classes, 3), checks.whole("latent_dim", latent_dim)
        widths = checks.wholes("hidden", hidden)
        checks.one_of("activation", activation, nets.ACTIVATIONS)
        self.alpha = checks.number("alpha", alpha)
        self.likelihood = likelihoods.build_likelihood(likelihood, info)
        self.layout = codes.Layout(classes, 1)
        self.classifier = nn.Sequential(nets.mlp(dims, widths, activation), nn.Linear([dims, *widths][-1], classes))
        seen = dims + classes
        self.style = nets.GaussianLayer(nets.mlp(seen, widths, activation), [seen, *widths][-1], self.latent_dim)
        self.decoder, _ = nets.MlpNetwork(info).decoder(
            classes + self.latent_dim, widths[::-1], activation, self.likelihood.outputs
        )
        self.estimator = build_estimator(estimator, dims)
        self.register_buffer("prior", torch.zeros(1, classes), persistent=False)

    def posterior(self, x: Tensor) -> Tensor:
        """Logits of q(y | x), (N, 1, K)."""
        return self._logits(x)

    def _logits(self, x: Tensor, progress: float | None = None) -> Tensor:
        return self.estimator.sharpened(self.layout.logits(self.classifier(x.flatten(1))), progress)

    def classify(self, x: Tensor) -> Tensor:
        """The same, (N, K)."""
        return self.posterior(x).squeeze(-2)

    def _style(self, x: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log standard deviation of q(z | x, y) and its draw, (..., N, D); y (..., N, K)."""
        flat = x.flatten(1)
        mean, log_std = self.style(torch.cat([flat.expand(*y.shape[:-1], -1), y], -1))
        return mean, log_std, torch.addcmul(mean, torch.exp(log_std), noise)

    def _log_px(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return self.likelihood.log_prob(x.flatten(1), self.decoder(torch.cat([y, z], -1)))

    def _noise(self, *shape: int, generator: Generator, like: Tensor) -> Tensor:
        return torch.randn((*shape, self.latent_dim), generator=generator, device=like.device, dtype=like.dtype)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Eq. 11, negative; one draw of the style serves all classes."""
        x = batch.x
        logits, noise = self._logits(x, batch.progress), self._noise(len(x), generator=generator, like=x)
        y = batch.columns.get("y", x.new_full((len(x),), -1)).long()
        known, label = y >= 0, codes.one_hot(y.clamp_min(0)[:, None], logits)

        def cost(code: Tensor) -> Tensor:
            given = self.layout.flat(torch.where(known[:, None, None], label, code))
            mean, log_std, z = self._style(x, given, noise)
            return densities.normal_kl(mean, log_std) - self._log_px(x, given, z)

        each = self.estimator(logits, cost, generator, Hints(batch.step, batch.progress, x.flatten(1)))
        rate = torch.where(
            known, -codes.log_prob(label, self.prior).sum(-1), codes.kl(self.estimator.balanced(logits), self.prior)
        )
        bound = each + rate
        labelled, others = known.sum().clamp_min(1), (~known).sum().clamp_min(1)
        error = -(known * codes.log_prob(label, logits).sum(-1)).sum() / labelled
        loss = (known * bound).sum() / labelled + (~known * bound).sum() / others + self.alpha * error
        return {"loss": loss, "class_error": error.detach()}

    def elbo(self, x: Tensor, generator: Generator) -> Elbo:
        """With one hard class and one style; the KL terms in closed form given the class."""
        logits = self.posterior(x)
        y = self.layout.flat(codes.draw(logits, generator))
        mean, log_std, z = self._style(x, y, self._noise(len(x), generator=generator, like=x))
        rate = codes.kl(logits, self.prior) + densities.normal_kl(mean, log_std)
        return Elbo(rate=rate, distortion=-self._log_px(x, y, z))

    def log_importance_weights(self, x: Tensor, posterior: Tensor, k: int, generator: Generator) -> Tensor:
        """log p(x, y_i, z_i) - log q(y_i, z_i | x) for k draws, (k, N) nats."""
        code = codes.draw(posterior, generator, k)
        y, noise = self.layout.flat(code), self._noise(k, len(x), generator=generator, like=x)
        _, log_std, z = self._style(x, y, noise)
        class_ratio = (codes.log_prob(code, self.prior) - codes.log_prob(code, posterior)).sum(-1)
        style_ratio = densities.standard_normal(z) - densities.standard_normal(noise) + log_std.sum(-1)
        return self._log_px(x, y, z) + class_ratio + style_ratio

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, *shape) draws of x."""
        y = self.layout.flat(codes.draw(self.prior, generator, n))
        z = self._noise(n, generator=generator, like=y)
        return self.likelihood.sample(self.decoder(torch.cat([y, z], -1)), generator).unflatten(1, self.shape)
