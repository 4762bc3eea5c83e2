"""Unscented autoencoder (Janjos et al. 2023, arXiv 2306.05256), its relatives, and samples from a density of codes.

A posterior N(mu, diag(s^2)) over D dimensions has the 2D + 1 sigma points mu and mu +- sqrt(D + lambda) s_i e_i
(Uhlmann 1995), whose plain mean is mu and whose outermost 2D have the posterior's covariance times (D + lambda) / D.
With chi_1 .. chi_K some of them, or K draws, a row costs, in means over its coordinates,

    unscented transform    |x - mean_k f(chi_k)|^2 + weight * R(mu, s)
    VAE                    mean_k |x - f(chi_k)|^2 + weight * R(mu, s)

R = KL(N(mu, s^2) || N(0, I)) of a VAE; |mu|^2 + |s - 1|^2, which is the squared 2-Wasserstein distance of the two; or
|mu| + |s - 1|, neither squared, which is what the authors' code has for that distance.
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

LAMBDA = 1e-3
"""What the authors' code adds to the number of dimensions."""

Points = Literal["sigma", "draws", "antithetic", "mean"]
Regulariser = Literal["kl", "wasserstein", "norms", "none"]


def unit_points(kind: Points, k: int, n: int, dims: int, generator: Generator) -> Tensor:
    """(k, n, dims): where points lie in units of the posterior's standard deviations from its mean.

    ``sigma``: both points of k / 2 axes, each drawn with replacement, a row by itself; with k = 1 one of all 2D + 1
    points. ``draws``: standard normal; ``antithetic``: k / 2 such draws and their mirror images; ``mean``: zeros.
    """
    device = generator.device
    if kind == "mean":
        return torch.zeros(k, n, dims, device=device)
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
    if kind == "none":
        return torch.zeros_like(mean[:, 0])
    off = log_std.exp() - 1.0
    if kind == "wasserstein":
        return mean.square().sum(1) + off.square().sum(1)
    return torch.linalg.vector_norm(mean, dim=1) + torch.linalg.vector_norm(off, dim=1)


class UnscentedAutoencoder(nn.Module):
    """Encoder to N(mu, diag(s^2)) and decoder, by squared error a coordinate.

    Args:
        info: of the data.
        latent_dim, hidden, activation, network: of encoder and decoder, which mirror each other.
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
        activation: str = "relu",
        network: Any = "mlp",
        points: Points = "sigma",
        k: PositiveInt = 8,
        average: bool = True,
        regulariser: Regulariser = "wasserstein",
        weight: NonNegativeFloat = 2.5e-4,
    ) -> None:
        if k % 2 and (points == "antithetic" or (points == "sigma" and k > 1)):
            raise UserError(f"{k} points, which come in pairs", where="k", fix="an even number")
        if points == "mean" and regulariser != "none":
            raise UserError("the mean alone leaves the standard deviations free", where="regulariser", fix="none")
        super().__init__()
        self.shape, self.latent_dim = tuple(info.shape), latent_dim
        self.points, self.k, self.average = points, k, average
        self.regulariser, self.weight = regulariser, weight
        parts = nets.build_network(network, info)
        body, features = parts.encoder(tuple(hidden), activation)
        if points == "mean":  # a plain autoencoder has no use for standard deviations
            self.posterior: nn.Module = nn.Sequential(body, nn.Linear(features, latent_dim))
        else:
            self.posterior = nets.GaussianLayer(body, features, latent_dim)
        self.decoder, _ = parts.decoder(latent_dim, tuple(hidden)[::-1], activation, 1)

    def gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log s, each (N, D); a plain autoencoder's s is 0."""
        found = self.posterior(x)
        return found if isinstance(found, tuple) else (found, torch.full_like(found, -nets.LOG_STD_LIMIT))

    def squared_error(self, x: Tensor, points: Points, average: bool, generator: Generator) -> tuple[Tensor, Tensor]:
        """The first term and R, (N,) each."""
        mean, log_std = self.gaussian(x)
        e = unit_points(points, self.k, *mean.shape, generator)
        back = self.decode(torch.addcmul(mean, log_std.exp(), e)).reshape(self.k, *x.shape)
        error = x - back.mean(0, keepdim=True) if average else x - back
        return error.square().flatten(2).mean((0, 2)), distance(self.regulariser, mean, log_std)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        error, distance = (t.mean() for t in self.squared_error(batch.x, self.points, self.average, generator))
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
        Example("unit-image", {"autoencoder": {**_SMALL, "k": 1, "regulariser": "norms"}}, training=_STAGES),
        Example("real-vector", {"autoencoder": {**_SMALL, "k": 2, "points": "draws"}}, training=_STAGES),
    ),
)
class UnscentedSampler(nn.Module):
    """Two stages: ``autoencoder``, then ``density``, a Gaussian mixture fitted to the means of the training rows.

    Args:
        info: of the data.
        autoencoder: parameters of `UnscentedAutoencoder`.
        components, iterations: Gaussians of the mixture, and EM's most steps.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        autoencoder: Mapping[str, Any],
        components: PositiveInt = 10,
        iterations: PositiveInt = 100,
    ) -> None:
        super().__init__()
        self.autoencoder = UnscentedAutoencoder(info, **autoencoder)
        codes = replace(info, shape=(self.autoencoder.latent_dim,), support="real", levels=None, mean=None, parts={})
        self.density = GaussianMixture(codes, components=components, iterations=iterations)

    def stages(self) -> Mapping[str, Any]:
        return {"autoencoder": self.autoencoder, "density": self.density}

    def encode(self, x: Tensor) -> Tensor:
        return self.autoencoder.gaussian(x)[0]

    def encode_gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.autoencoder.gaussian(x)
        return mean, 2.0 * log_std

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        mean, log_std = self.autoencoder.gaussian(x)
        return mean + log_std.exp() * unit_points("draws", 1, *mean.shape, generator)[0]

    def decode(self, z: Tensor) -> Tensor:
        return self.autoencoder.decode(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def sample(self, n: int, generator: Generator) -> Tensor:
        return self.decode(self.density.sample(n, generator))
