"""Low-rank autoencoders (Mazumder et al. 2023, arXiv 2310.16194) and what they are compared with.

    L = |x - D(W E(x))|^2 + lambda |W|_*        the nuclear norm of one linear layer between encoder and decoder

IRMAE (Jing et al. 2020, arXiv 2010.00679) puts several square linear layers there and no penalty; a Wasserstein
autoencoder (Tolstikhin et al. 2018, arXiv 1711.01558) none, and penalises the distance of codes from N(0, I).
Samples of all, and of a VAE, come from a density that is fitted to the training codes afterwards, alike for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import nets
from latentbench.models.baselines import Gaussian
from latentbench.models.discrepancy import squared_mmd
from latentbench.models.mixtures import GaussianMixture
from latentbench.models.vae import VAE
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Generator, Tensor, nn

_SMALL = {"latent_dim": 4, "hidden": (8,)}
_STAGES = {"in_stages": [{"name": "autoencoder"}, {"name": "density", "rows": "codes"}]}


@model(
    "low-rank-autoencoder",
    "Trainable Encoder Decoder Reconstructor",
    "autoencoder with linear layers between encoder and decoder: LoRAE, IRMAE, WAE",
    whole_batch=True,
    examples=(
        Example("unit-vector", {**_SMALL, "linear": 1, "nuclear": 0.1}),
        Example("unit-image", {**_SMALL, "linear": 3}),
        Example("real-vector", {**_SMALL, "mmd": 2.0}),
    ),
)
class LowRankAutoencoder(nn.Module):
    """An autoencoder by squared error, summed over coordinates.

    Args:
        info: of the data.
        latent_dim, hidden, activation: of encoder and decoder, which mirror each other.
        linear: square linear layers without bias that the code passes, 1 for LoRAE.
        nuclear: weight lambda of the nuclear norm of their product.
        mmd: weight of the squared MMD of codes and as many draws of N(0, I).
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 128,
        hidden: Sequence[int] = (512,),
        activation: str = "relu",
        linear: NonNegativeInt = 0,
        nuclear: NonNegativeFloat = 0.0,
        mmd: NonNegativeFloat = 0.0,
    ) -> None:
        if nuclear and not linear:
            raise UserError("a nuclear norm without a linear layer", where="linear", fix="give 1 or more")
        super().__init__()
        self.shape, self.nuclear, self.mmd = tuple(info.shape), nuclear, mmd
        parts = nets.build_network("mlp", info)
        body, features = parts.encoder(tuple(hidden), activation)
        self.encoder = nn.Sequential(body, nn.Linear(features, latent_dim))
        self.linear = nn.Sequential(*(nn.Linear(latent_dim, latent_dim, bias=False) for _ in range(linear)))
        self.decoder, _ = parts.decoder(latent_dim, tuple(hidden)[::-1], activation, 1)

    @property
    def matrix(self) -> Tensor:
        """(D, D): the product of the linear layers, which maps E(x) to the code."""
        weights: list[Any] = [layer.weight for layer in self.linear]
        product: Tensor = weights[0]
        for weight in weights[1:]:
            product = weight @ product
        return product

    def encode(self, x: Tensor) -> Tensor:
        code: Tensor = self.linear(self.encoder(x))
        return code

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        return self.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        out: Tensor = self.decoder(z).reshape(-1, *self.shape)
        return out

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Squared error a row, and the penalties that have a weight."""
        z = self.encode(batch.x)
        error = (batch.x - self.decode(z)).square().flatten(1).sum(1).mean()
        terms = {"loss": error, "squared_error": error}
        if self.nuclear:
            terms["nuclear_norm"] = torch.linalg.matrix_norm(self.matrix, "nuc")
            terms["loss"] = terms["loss"] + self.nuclear * terms["nuclear_norm"]
        if self.mmd:
            prior = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
            terms["mmd"] = squared_mmd(z, prior)
            terms["loss"] = terms["loss"] + self.mmd * terms["mmd"]
        return terms


@model(
    "code-sampler",
    "Staged Sampler Encoder Decoder Reconstructor",
    "an autoencoder, and a density fitted to its training codes afterwards, from which samples are decoded",
    stages=("autoencoder", "density"),
    examples=(
        Example("unit-vector", {"autoencoder": {**_SMALL, "linear": 1}, "density": "gaussian"}, training=_STAGES),
        Example("unit-image", {"autoencoder": _SMALL, "density": "mixture", "components": 2}, training=_STAGES),
        Example("unit-vector", {"autoencoder": {**_SMALL, "likelihood": "bernoulli"}, "kind": "vae"}, training=_STAGES),
    ),
)
class CodeSampler(nn.Module):
    """Two stages: ``autoencoder``, then ``density``, fitted to the codes of the training rows.

    Args:
        info: of the data.
        kind: what the autoencoder is.
        autoencoder: its parameters.
        density: one full Gaussian, or a mixture of `components` of them.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        autoencoder: Mapping[str, Any],
        kind: Literal["low-rank-autoencoder", "vae"] = "low-rank-autoencoder",
        density: Literal["gaussian", "mixture"] = "gaussian",
        components: PositiveInt = 10,
    ) -> None:
        super().__init__()
        made = LowRankAutoencoder if kind == "low-rank-autoencoder" else VAE
        self.autoencoder: Any = made(info, **autoencoder)
        with torch.no_grad():
            width = self.autoencoder.encode(torch.zeros(1, *info.shape)).shape[1]
        codes = replace(info, shape=(width,), support="real", levels=None, mean=None, parts={})
        self.density = Gaussian(codes) if density == "gaussian" else GaussianMixture(codes, components=components)

    def stages(self) -> Mapping[str, Any]:
        return {"autoencoder": self.autoencoder, "density": self.density}

    def encode(self, x: Tensor) -> Tensor:
        code: Tensor = self.autoencoder.encode(x)
        return code

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        code: Tensor = self.autoencoder.encode_sample(x, generator)
        return code

    def decode(self, z: Tensor) -> Tensor:
        x: Tensor = self.autoencoder.decode(z)
        return x

    def reconstruct(self, x: Tensor) -> Tensor:
        x_again: Tensor = self.autoencoder.reconstruct(x)
        return x_again

    def sample(self, n: int, generator: Generator) -> Tensor:
        return self.decode(self.density.sample(n, generator))
