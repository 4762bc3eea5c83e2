"""IDVAE: a VAE whose prior is a second VAE's code of auxiliary labels (Mita, Filippone & Michiardi 2021, 2010.09360).

Rows x come with labels u in [0, 1). The two halves of the objective have parameters of their own:

    images    E_q(z|x,u) [-log p(x|z)] + beta KL(q(z|x,u) || p(z|u))
    labels    E_q(z|u) |u - u'(z)|^2 + gamma KL(q(z|u) || N(0, I)),    p(z|u) := q(z|u), held fixed above

iVAE (Khemakhem et al. 2020) learns p(z|u) by the first line instead. A guess u(x) of the labels, which shares no
parameter with the two, is learned beside them by cross-entropy: images without labels can be encoded by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, nets
from latentbench.models.vae import VAE, Gaussian
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn

_SMALL = {"column": "y", "sizes": [2], "latent_dim": 3, "hidden": (8,), "likelihood": "bernoulli"}


def normal_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) of diagonal Gaussians, (N,) nats."""
    (mean, log_std), (prior, log_scale) = q, p
    return densities.normal_kl((mean - prior) * torch.exp(-log_scale), log_std - log_scale)


class Labels(nn.Module):
    """A column of integers (N,) or (N, L), divided by their numbers of values `sizes`."""

    sizes: Tensor

    def __init__(self, column: str, sizes: Sequence[int]) -> None:
        super().__init__()
        self.column = column
        self.register_buffer("sizes", torch.tensor(checks.wholes("sizes", sizes)).float(), persistent=False)

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """(N, L) in [0, 1), of a batch's or a view's parts."""
        raw = parts[self.column]
        return raw.reshape(len(raw), -1).to(self.sizes) / self.sizes


@model(
    "label-prior-vae",
    "Trainable Encoder Decoder Reconstructor GaussianEncoder LikelihoodHead",
    "VAE whose prior and encoder see labels: IDVAE and iVAE",
    examples=(
        Example("labelled", _SMALL),
        Example("labelled", {**_SMALL, "prior": "learnt", "beta": 2.0}),
        Example("labelled", {**_SMALL, "prior": "scale"}),
    ),
)
class LabelPriorVAE(VAE):
    """IDVAE and iVAE with q(z | x, u); of an image without labels u is the guess u(x).

    Args:
        sizes, column: see `Labels`.
        prior: ``double``, the code of a second VAE; ``learnt``, mean and scale by the images' bound; ``scale``, iVAE's
            with mean 0.
        gamma: weight of the second VAE's KL term.
        rest: as for `VAE`, of images as vectors; networks of labels have the encoder's widths, too.
    """

    elbo = sample = log_importance_weights = None  # type: ignore[assignment]  # of N(0, I), which is not its prior

    def __init__(
        self,
        info: DataInfo,
        *,
        sizes: Sequence[PositiveInt],
        column: str = "factors",
        prior: Literal["double", "learnt", "scale"] = "double",
        gamma: NonNegativeFloat = 1.0,
        latent_dim: PositiveInt = 5,
        hidden: Sequence[PositiveInt] = (64, 64),
        activation: str = "relu",
        **rest: Any,
    ) -> None:
        super().__init__(info, latent_dim=latent_dim, hidden=hidden, activation=activation, **rest)
        self.labels, self.kind, self.gamma = Labels(column, sizes), prior, checks.number("gamma", gamma)

        def gaussian(n_in: int) -> nets.GaussianLayer:
            return nets.GaussianLayer(nets.mlp(n_in, hidden, activation), [n_in, *hidden][-1], latent_dim)

        def regression(n_in: int, widths: Sequence[int]) -> nn.Sequential:
            return nn.Sequential(nets.mlp(n_in, widths, activation), nn.Linear([n_in, *widths][-1], len(sizes)))

        self.q = nn.ModuleList([gaussian(info.dims + len(sizes))])
        self.guess, self.label_code = regression(info.dims, hidden), gaussian(len(sizes))
        if prior == "double":
            self.label_decoder = regression(latent_dim, hidden[::-1])

    def prior(self, u: Tensor) -> Gaussian:
        """p(z | u)"""
        mean, log_std = self.label_code(u)
        return (torch.zeros_like(mean) if self.kind == "scale" else mean), log_std

    def given(self, x: Tensor, u: Tensor) -> Gaussian:
        """q(z | x, u)"""
        posterior: Gaussian = self.q[0](torch.cat([x.flatten(1), u], -1))
        return posterior

    def posterior(self, x: Tensor) -> Gaussian:
        """q(z | x, u(x))"""
        return self.given(x, torch.sigmoid(self.guess(x.flatten(1))))

    def encode(self, x: Tensor) -> Tensor:
        """(N, D) means, without labels."""
        return self.posterior(x)[0]

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """(N, D) draws, without labels."""
        return densities.normal_draw(*self.posterior(x), generator)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Mean over rows of the equations above and of the guess's cross-entropy."""
        u, x = self.labels(batch.parts), batch.x.flatten(1)
        q, prior = self.given(x, u), self.prior(u)
        distortion = -self.likelihood.log_prob(x, self.decoder(densities.normal_draw(*q, generator)))
        loss = distortion - densities.bernoulli_cross_entropy(u, self.guess(x))
        if self.kind == "double":
            error = (self.label_decoder(densities.normal_draw(*prior, generator)) - u).square().sum(-1)
            loss = loss + error + self.gamma * densities.normal_kl(*prior)
            prior = prior[0].detach(), prior[1].detach()
        rate = normal_kl(q, prior)
        loss = (loss + self.beta * rate).mean()
        return {"loss": loss, "rate": rate.detach().mean(), "distortion": distortion.detach().mean()}


@model(
    "supervised-vae",
    "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder "
    "LikelihoodHead StandardNormalPrior",
    "VAE whose first codes are drawn to labels by cross-entropy (Locatello et al. 2020)",
    examples=(
        Example("labelled", _SMALL),
        Example("binary-vector", {"sizes": [2], "weight": 0.0, "latent_dim": 3, "hidden": (8,)}, "elbo"),
    ),
)
class SupervisedVAE(VAE):
    """A VAE with weight * cross-entropy(u_j, sigmoid of z_j's mean) for each label j.

    Args:
        sizes, column: see `Labels`.
        weight: of the cross-entropy; with 0 it is a VAE, and needs no labels.
        rest: as for `VAE`; latent_dim is at least the number of labels.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        sizes: Sequence[PositiveInt],
        column: str = "factors",
        weight: NonNegativeFloat = 1.0,
        **rest: Any,
    ) -> None:
        super().__init__(info, **rest)
        self.labels, self.weight = Labels(column, sizes), checks.number("weight", weight)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The loss of `VAE`, and the labels' cross-entropy."""
        out = super().loss(batch, generator)
        if not self.weight:
            return out
        u = self.labels(batch.parts)
        fit = -densities.bernoulli_cross_entropy(u, self.encode(batch.x)[:, : u.shape[1]]).mean()
        return {**out, "loss": out["loss"] + self.weight * fit}
