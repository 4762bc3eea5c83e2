"""Unscented autoencoder (Janjos et al. 2023, arXiv 2306.05256), its relatives, and samples from a density of codes.

A posterior N(mu, diag(s^2)) over D dimensions has the 2D + 1 sigma points mu and mu +- sqrt(D + lambda) s_i e_i
(Uhlmann 1995). With chi_1 .. chi_K some of them, or K draws, a row costs, in means over its coordinates,

    unscented transform    |x - mean_k f(chi_k)|^2 + weight * R(mu, s)
    VAE                    mean_k |x - f(chi_k)|^2 + weight * R(mu, s)

R = KL(N(mu, s^2) || N(0, I)), or the authors' |mu| + |s - 1|, the parts of the 2-Wasserstein distance of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import densities, nets
from latentbench.models.mixtures import GaussianMixture
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn

LAMBDA = 1e-3  # as in the authors' code
Points = Literal["sigma", "draws", "antithetic"]
Regulariser = Literal["kl", "norms"]


def unit_points(kind: Points, k: int, n: int, dims: int, generator: Generator) -> Tensor:
    """(k, n, dims): where points lie in units of the posterior's standard deviations from its mean.

    ``sigma``: both points of k / 2 axes, each drawn with replacement, a row by itself; with k = 1 one of all 2D + 1
    points. ``draws``: standard normal; ``antithetic``: k / 2 such draws and their mirror images.
    """
    device = generator.device
    if kind == "draws":
        return torch.randn(k, n, dims, generator=generator, device=device)
    if kind == "antithetic":
        half = torch.randn(k // 2, n, dims, generator=generator, device=device)
    elif k == 1:
        every = torch.cat([torch.zeros(1, dims, device=device), torch.eye(dims, device=device)])
        every = (dims + LAMBDA) ** 0.5 * torch.cat([every, -every[1:]])
        return every[torch.randint(2 * dims + 1, (1, n), generator=generator, device=device)]
    else:
        axes = torch.randint(dims, (k // 2, n), generator=generator, device=device)
        half = (dims + LAMBDA) ** 0.5 * nn.functional.one_hot(axes, dims).float()
    return torch.cat([half, -half])


def distance(kind: Regulariser, mean: Tensor, log_std: Tensor) -> Tensor:
    """R of the module's docstring: (N, D) and (N, D) to (N,)."""
    if kind == "kl":
        return densities.normal_kl(mean, log_std)
    return torch.linalg.vector_norm(mean, dim=1) + torch.linalg.vector_norm(log_std.exp() - 1.0, dim=1)


class UnscentedAutoencoder(nn.Module):
    """Encoder to N(mu, diag(s^2)) and decoder, by squared error a coordinate.

    Args:
        latent_dim, hidden, network: of encoder and decoder, which mirror each other.
        points, k: which points of the posterior are decoded, and how many (`unit_points`).
        average: compares the mean of the decoded points with x (unscented transform) instead of each point (VAE).
        regulariser, weight: R and what it weighs.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 64,
        hidden: Sequence[PositiveInt] = (512,),
        network: Any = "mlp",
        points: Points = "sigma",
        k: PositiveInt = 8,
        average: bool = True,
        regulariser: Regulariser = "norms",
        weight: NonNegativeFloat = 2.5e-4,
    ) -> None:
        if k % 2 and (points == "antithetic" or (points == "sigma" and k > 1)):
            raise UserError(f"{k} points, which come in pairs", where="k", fix="an even number")
        super().__init__()
        self.shape, self.latent_dim, self.k = tuple(info.shape), latent_dim, k
        self.points, self.average, self.regulariser, self.weight = points, average, regulariser, weight
        parts = nets.build_network(network, info)
        body, features = parts.encoder(tuple(hidden), "relu")
        self.posterior = nets.GaussianLayer(body, features, latent_dim)
        self.decoder, _ = parts.decoder(latent_dim, tuple(hidden)[::-1], "relu", 1)

    def gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log s, each (N, D)."""
        found: tuple[Tensor, Tensor] = self.posterior(x)
        return found

    def squared_error(self, x: Tensor, points: Points, generator: Generator) -> tuple[Tensor, Tensor]:
        """The first term and R, (N,) each."""
        mean, log_std = self.gaussian(x)
        e = unit_points(points, self.k, len(x), self.latent_dim, generator)
        back = self.decode(torch.addcmul(mean, log_std.exp(), e)).reshape(self.k, *x.shape)
        error = x - back.mean(0, keepdim=True) if self.average else x - back
        return error.square().flatten(2).mean((0, 2)), distance(self.regulariser, mean, log_std)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        error, distance = (t.mean() for t in self.squared_error(batch.x, self.points, generator))
        terms = {"squared_error": error.detach(), "distance": distance.detach()}
        return {"loss": error + self.weight * distance, **terms}

    def decode(self, z: Tensor) -> Tensor:
        """(..., D) to (M, *shape), M rows in all."""
        out: Tensor = self.decoder(z).reshape(-1, *self.shape)
        return out


_SMALL = {"latent_dim": 3, "hidden": (8,)}
_STAGES = {"in_stages": [{"name": "autoencoder"}, {"name": "density", "rows": "codes"}]}


@model(
    "unscented-sampler",
    "Staged Sampler Encoder Decoder Reconstructor GaussianEncoder",
    "an unscented autoencoder or a relative, and a mixture fitted to its training codes, for samples",
    stages=("autoencoder", "density"),
    examples=(
        Example("unit-vector", {"autoencoder": {**_SMALL, "k": 4}, "components": 2}, training=_STAGES),
        Example("unit-image", {"autoencoder": {**_SMALL, "k": 1, "regulariser": "kl"}}, training=_STAGES),
        Example("real-vector", {"autoencoder": {**_SMALL, "k": 2, "points": "draws"}}, training=_STAGES),
    ),
)
class UnscentedSampler(nn.Module):
    """Two stages: ``autoencoder``, then ``density``, a Gaussian mixture fitted to the means of the training rows.

    Args:
        autoencoder: parameters of `UnscentedAutoencoder`.
        components: Gaussians of the mixture.
    """

    def __init__(self, info: DataInfo, *, autoencoder: Mapping[str, Any], components: PositiveInt = 10) -> None:
        super().__init__()
        self.autoencoder = UnscentedAutoencoder(info, **autoencoder)
        codes = replace(info, shape=(self.autoencoder.latent_dim,), support="real", levels=None, mean=None, parts={})
        self.density = GaussianMixture(codes, components=components)

    def stages(self) -> Mapping[str, Any]:
        return {"autoencoder": self.autoencoder, "density": self.density}

    def encode(self, x: Tensor) -> Tensor:
        return self.autoencoder.gaussian(x)[0]

    def encode_gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.autoencoder.gaussian(x)
        return mean, 2.0 * log_std

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        return densities.normal_draw(*self.autoencoder.gaussian(x), generator)

    def decode(self, z: Tensor) -> Tensor:
        return self.autoencoder.decode(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def sample(self, n: int, generator: Generator) -> Tensor:
        return self.decode(self.density.sample(n, generator))
