"""IDVAE: a VAE whose prior is a second VAE's code of auxiliary labels (Mita, Filippone & Michiardi 2021, 2010.09360).

Rows x come with labels u in [0, 1). The two halves of the objective have parameters of their own:

    images    E_q(z|x,u) [-log p(x|z)] + beta KL(q(z|x,u) || p(z|u))
    labels    E_q(z|u) |u - u'(z)|^2 + gamma KL(q(z|u) || N(0, I)),    p(z|u) := q(z|u), held fixed above

iVAE (Khemakhem et al. 2020) learns p(z|u) by the first line instead. A learner q(u|x), a logit-normal of draws
u = sigmoid(l), l ~ N(m(x), s(x)^2), stands in where labels are missing (SS-IDVAE): a row with labels adds
alpha * cross-entropy(u, l), one without takes the first line at a draw of u, less the entropy of l.
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
from torch.func import functional_call

_SMALL = {"column": "y", "sizes": [2], "latent_dim": 3, "hidden": (8,), "likelihood": "bernoulli"}
GOLDEN = 0.6180339887498949
_CAN = "Trainable Encoder Decoder Reconstructor GaussianEncoder LikelihoodHead"


def draw(of: Gaussian, generator: Generator) -> Tensor:
    """(N, D)"""
    mean, log_std = of
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return torch.addcmul(mean, torch.exp(log_std), noise)


def normal_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) of diagonal Gaussians, (N,) nats."""
    (mean, log_std), (prior, log_scale) = q, p
    return densities.normal_kl((mean - prior) * torch.exp(-log_scale), log_std - log_scale)


def mean_of(values: Tensor, rows: Tensor) -> Tensor:
    """Mean of (N,) values over the rows that are marked, 0 where none is."""
    return torch.where(rows, values, 0.0).sum() / rows.sum().clamp_min(1)


class Labels(nn.Module):
    """A column of integers (N,) or (N, L), divided by their numbers of values `sizes`; a `share` of rows is known."""

    sizes: Tensor

    def __init__(self, column: str, sizes: Sequence[int], share: float) -> None:
        super().__init__()
        self.column, self.share = column, checks.number("share", share)
        self.register_buffer("sizes", torch.tensor(checks.wholes("sizes", sizes)).float(), persistent=False)

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """(N, L) in [0, 1), of a batch's or a view's parts."""
        raw = parts[self.column]
        return raw.reshape(len(raw), -1).to(self.sizes) / self.sizes

    def known(self, batch: Batch) -> Tensor:
        """(N,) booleans: training rows whose labels may be looked at."""
        rows = torch.zeros(len(batch.x)) if batch.index is None else batch.index
        return (rows.to(batch.x.device).double() * GOLDEN).frac() < self.share  # spread evenly: rows may be in order


@model(
    "label-prior-vae",
    _CAN,
    "VAE whose prior and encoder see labels: IDVAE, iVAE, and with few labels SS-IDVAE",
    whole_batch=True,
    examples=(
        Example("labelled", _SMALL),
        Example("labelled", {**_SMALL, "prior": "learnt", "beta": 2.0}),
        Example("labelled", {**_SMALL, "prior": "scale"}),
    ),
)
class LabelPriorVAE(VAE):
    """IDVAE and iVAE with q(z | x, u); of an image without labels u is what the learner says, sigmoid(m(x)).

    Args:
        sizes, column, share: see `Labels`.
        prior: ``double``, the code of a second VAE; ``learnt``, mean and scale by the images' bound; ``scale``, iVAE's
            with mean 0.
        gamma: weight of the second VAE's KL term.
        alpha: weight of the learner's cross-entropy.
        rest: as for `VAE`, of images as vectors; networks of labels have the encoder's widths, too.
    """

    elbo = sample = log_importance_weights = None  # type: ignore[assignment]  # of N(0, I), which is not its prior

    def __init__(
        self,
        info: DataInfo,
        *,
        sizes: Sequence[PositiveInt],
        column: str = "factors",
        share: NonNegativeFloat = 1.0,
        prior: Literal["double", "learnt", "scale"] = "double",
        gamma: NonNegativeFloat = 1.0,
        alpha: NonNegativeFloat = 0.1,
        latent_dim: PositiveInt = 5,
        hidden: Sequence[PositiveInt] = (64, 64),
        activation: str = "relu",
        **rest: Any,
    ) -> None:
        super().__init__(info, latent_dim=latent_dim, hidden=hidden, activation=activation, **rest)
        self.labels, self.kind = Labels(column, sizes, share), prior
        self.gamma, self.alpha = checks.number("gamma", gamma), checks.number("alpha", alpha)

        def gaussian(n_in: int, n_out: int) -> nets.GaussianLayer:
            return nets.GaussianLayer(nets.mlp(n_in, hidden, activation), [n_in, *hidden][-1], n_out)

        count = len(sizes)
        self.q = nn.ModuleList([gaussian(info.dims + count, latent_dim)])
        self.learner, self.label_code = gaussian(info.dims, count), gaussian(count, latent_dim)
        if prior == "double":
            body = nets.mlp(latent_dim, hidden[::-1], activation)
            self.label_decoder = nn.Sequential(body, nn.Linear([latent_dim, *hidden[::-1]][-1], count))

    def prior(self, u: Tensor, frozen: bool = False) -> Gaussian:
        """p(z | u); `frozen` leaves its weights, not u, without gradients."""
        weights = {k: v.detach() for k, v in self.label_code.named_parameters()} if frozen else {}
        mean, log_std = functional_call(self.label_code, weights, (u,))
        return (torch.zeros_like(mean) if self.kind == "scale" else mean), log_std

    def given(self, x: Tensor, u: Tensor) -> Gaussian:
        """q(z | x, u)"""
        posterior: Gaussian = self.q[0](torch.cat([x.flatten(1), u], -1))
        return posterior

    def posterior(self, x: Tensor) -> Gaussian:
        """q(z | x, sigmoid(m(x)))"""
        return self.given(x, torch.sigmoid(self.learner(x.flatten(1))[0]))

    def encode(self, x: Tensor) -> Tensor:
        """(N, D) means, without labels."""
        return self.posterior(x)[0]

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """(N, D) draws, without labels."""
        return draw(self.posterior(x), generator)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Sum of means over rows with labels and over those without, of the equations above."""
        known, true = self.labels.known(batch), self.labels(batch.parts)
        guess = self.learner(batch.x.flatten(1))
        logits = draw(guess, generator)
        u = torch.where(known[:, None], true, torch.sigmoid(logits))
        q = self.given(batch.x, u)
        rate = normal_kl(q, self.prior(u, frozen=self.kind == "double"))
        distortion = -self.likelihood.log_prob(batch.x.flatten(1), self.decoder(draw(q, generator)))
        bound = distortion + self.beta * rate
        labelled = bound - self.alpha * densities.bernoulli_cross_entropy(true, logits)
        if self.kind == "double":
            code = self.label_code(true)
            error = (self.label_decoder(draw(code, generator)) - true).square().sum(-1)
            labelled = labelled + error + self.gamma * densities.normal_kl(*code)
        loss = mean_of(labelled, known) + mean_of(bound - guess[1].sum(-1), ~known)
        return {"loss": loss, "rate": rate.detach().mean(), "distortion": distortion.detach().mean()}


@model(
    "supervised-vae",
    "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder "
    "LikelihoodHead StandardNormalPrior",
    "VAE whose first codes are drawn to labels by cross-entropy (Locatello et al. 2020)",
    whole_batch=True,
    examples=(Example("labelled", _SMALL),),
)
class SupervisedVAE(VAE):
    """A VAE with weight * cross-entropy(u_j, sigmoid of z_j's mean) for each label j, over rows that have labels.

    Args:
        sizes, column, share: see `Labels`.
        weight: of the cross-entropy.
        rest: as for `VAE`; latent_dim is at least the number of labels.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        sizes: Sequence[PositiveInt],
        column: str = "factors",
        share: NonNegativeFloat = 1.0,
        weight: NonNegativeFloat = 1.0,
        **rest: Any,
    ) -> None:
        super().__init__(info, **rest)
        self.labels, self.weight = Labels(column, sizes, share), checks.number("weight", weight)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The loss of `VAE`, and the labels' cross-entropy."""
        out, u = super().loss(batch, generator), self.labels(batch.parts)
        costs = -densities.bernoulli_cross_entropy(u, self.encode(batch.x)[:, : u.shape[1]])
        fit = mean_of(costs, self.labels.known(batch))
        return {**out, "loss": out["loss"] + self.weight * fit}
