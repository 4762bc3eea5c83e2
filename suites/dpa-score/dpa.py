"""Distributional principal autoencoder (Leban 2025, arXiv 2502.11583; Shen and Meinshausen 2024, arXiv 2404.13649).

An encoder e to K latents and a decoder d that takes noise share a loss over numbers k of latents that are kept, those
after them made noise, too: the sum over k of (eq. 10 and 11, uniform weights)

    E |X - Y|^beta - E |Y - Y'|^beta / 2,    Y, Y' = d(e_1(X) .. e_k(X), noise), two independent draws,

an energy score, least where Y follows the law of X given its first k latents (for beta below 2, there alone).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.view import View
from latentbench.models import checks
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

EXAMPLES = (
    Example("real-vector", {"hidden": 8, "noise": 3, "beta": 1.0}),
    Example("real-vector", {"hidden": 8, "noise": 0, "levels": [2]}),
)


def energy_score(x: Tensor, draws: Tensor, beta: float) -> Tensor:
    """Mean over rows x (N, D) of their score by two draws (2, N, D)."""
    squared = torch.stack([x - draws[0], x - draws[1], draws[0] - draws[1]]).square().sum(-1)
    apart = squared if beta == 2.0 else (squared + 1e-12).pow(0.5 * beta)  # which has a gradient at 0
    return 0.5 * (apart[0] + apart[1] - apart[2]).mean()


class Network(nn.Module):
    """Two blocks W2 [relu(W1 [h, noise]), noise] + W3 h, a ReLU between them; (..., n_in) to (..., n_out)."""

    def __init__(self, n_in: int, hidden: int, n_out: int, noise: int) -> None:
        super().__init__()
        self.noise = noise
        self.first = nn.ModuleList(nn.Linear(n + noise, hidden) for n in (n_in, hidden))
        self.second = nn.ModuleList(nn.Linear(hidden + noise, n) for n in (hidden, n_out))
        self.skip = nn.ModuleList([nn.Linear(n_in, hidden), nn.Linear(hidden, n_out)])

    def forward(self, h: Tensor, generator: Generator | None = None) -> Tensor:
        def noisy(h: Tensor) -> Tensor:
            return torch.cat([h, torch.randn(*h.shape[:-1], self.noise, generator=generator, device=h.device)], -1)

        for i in range(2):
            h = torch.relu(h) if i else h
            inner = torch.relu(self.first[i](noisy(h)))
            h = self.second[i](noisy(inner)) + self.skip[i](h)
        return h


@model("dpa", "Trainable Encoder", "distributional principal autoencoder by energy scores", examples=EXAMPLES)
class DPA(nn.Module):
    """`levels`: the numbers k (None: K = latent_dim, .. 0). `noise`: its width beside each of the decoder's layers.

    With noise 0, and K as the one level, Y = Y' and the model is an autoencoder.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 2,
        levels: Sequence[NonNegativeInt] | None = None,
        noise: NonNegativeInt = 100,
        beta: PositiveFloat = 2.0,
        hidden: PositiveInt = 100,
    ) -> None:
        super().__init__()
        dims = checks.vector_length("DPA", info)
        self.levels = tuple(range(latent_dim, -1, -1) if levels is None else levels)
        if max(self.levels) > latent_dim or beta > 2:
            raise UserError("no such loss", fix="levels of at most latent_dim latents, beta of at most 2")
        self.latent_dim, self.beta = latent_dim, beta
        self.encoder = Network(dims, hidden, latent_dim, 0)
        self.decoder = Network(latent_dim, hidden, dims, noise)

    def encode(self, x: Tensor) -> Tensor:
        code: Tensor = self.encoder(x)
        return code

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        return self.encode(x)

    def draws(self, z: Tensor, k: int, generator: Generator) -> Tensor:
        """Two independent draws (2, N, D) of Y given the first k of codes z (N, K)."""
        rest = torch.randn(2, len(z), self.latent_dim - k, generator=generator, device=z.device)
        out: Tensor = self.decoder(torch.cat([z[:, :k].expand(2, -1, -1), rest], -1), generator)
        return out

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The sum of the energy scores of all levels, and each of them."""
        z = self.encode(batch.x)
        scores = {f"level_{k}": energy_score(batch.x, self.draws(z, k, generator), self.beta) for k in self.levels}
        return {"loss": torch.stack([*scores.values()]).sum(), **{k: v.detach() for k, v in scores.items()}}


@metric("decoder_mean_error", "Encoder", "squared data unit", "lower")
def decoder_mean_error(model: Any, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Mean squared error a coordinate of E[Y | all latents], unbiased by all pairs of 48 draws: E (X - Y)(X - Y')."""
    if not isinstance(model, DPA):
        raise UserError("no draws given codes", fix="model dpa; `reconstruction_mse` measures the same of others")
    z = model.encode(view.x).detach()
    off = view.x - torch.cat([model.draws(z, model.latent_dim, generator).detach() for _ in range(24)])
    return MetricValue(float((off.sum(0) ** 2 - (off**2).sum(0)).mean() / (48 * 47)), None, None)
