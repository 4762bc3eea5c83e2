"""Discrete-time diffusion of small vectors as the authors have it, and the exact denoiser of a known mixture.

With betas b_t, t = 0 ... T - 1, a_t = (1 - b_0) ... (1 - b_t) and a_{-1} = 1,

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps,    loss |eps - eps_hat(x_t, t)|^2,
    x_hat_t = (x_t - sqrt(1 - a_t) eps_hat) / sqrt(a_t),
    x_{t-1} = (sqrt(a_{t-1}) b_t x_hat_t + sqrt(1 - b_t) (1 - a_{t-1}) x_t) / (1 - a_t) + [t > 0] sqrt(b_t) noise

(Ho et al. 2020, "fixed large" variances). The first 300 of the authors' 1,000 betas from 0.001 to 0.2 leave a = 8e-5;
what follows adds noise to noise, so that the first ones, `kept`, are a chain of their own.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.papers.diffusion_mode_interpolation.mixture import grid_mixture, posterior_mean
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional

FIRST, LAST = 0.001, 0.2


class Chain(nn.Module):
    """The forward process, and sampling backwards through it.

    Args:
        info: the data, real vectors.
        timesteps: T of the full schedule, whose betas are linear from 0.001 to 0.2.
        kept: how many of them are used, from the first on; 0 for all.
    """

    betas: Tensor
    alpha_bars: Tensor

    def __init__(self, info: DataInfo, timesteps: int, kept: int) -> None:
        super().__init__()
        self.dims = checks.vector_length("ddpm", info)
        full = torch.linspace(FIRST, LAST, checks.whole("timesteps", timesteps), dtype=torch.float64)
        betas = full[: checks.whole("kept", kept, 0) or None]
        self.register_buffer("betas", betas, persistent=False)
        self.register_buffer("alpha_bars", torch.cumprod(1.0 - betas, 0), persistent=False)

    @abstractmethod
    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """eps_hat of x (N, D) at steps t, (N,) or (1,) for one step of all rows."""

    def clean(self, x: Tensor, t: Tensor) -> Tensor:
        """x_hat_t of x (N, D) at steps t."""
        a = self.alpha_bars[t][:, None]
        return (x / a.sqrt() - (1.0 / a - 1.0).sqrt() * self.noise(x, t)).to(x.dtype)

    def noised(self, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t of data x (N, D), steps (N,) and noise (N, D)."""
        a = self.alpha_bars[t][:, None]
        return (a.sqrt() * x + (1.0 - a).sqrt() * eps).to(x.dtype)

    @torch.no_grad()
    def trace(self, n: int, window: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Samples (n, D), and x_hat of the last `window` steps, (window, n, D), the last step's last."""
        device = self.betas.device
        x = torch.randn(n, self.dims, generator=generator, device=device)
        seen = []
        for step in range(len(self.betas) - 1, -1, -1):
            t = torch.tensor([step], device=device)
            guess = self.clean(x, t)
            if step < window:
                seen.append(guess)
            b, a = float(self.betas[step]), float(self.alpha_bars[step])
            before = float(self.alpha_bars[step - 1]) if step else 1.0
            x = (math.sqrt(before) * b * guess + math.sqrt(1.0 - b) * (1.0 - before) * x) / (1.0 - a)
            if step:
                x = x + math.sqrt(b) * torch.randn(x.shape, generator=generator, device=device)
        return x, torch.stack(seen) if seen else x.new_zeros(0, n, self.dims)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, D) by ancestral sampling."""
        return self.trace(n, 0, generator)[0]


class TiedDenoiser(nn.Module):
    """The authors' network: one residual layer, shifted by the time, that is applied several times.

    Their list of layers repeats one object, so that all have the same weights.

    Args:
        dims: of the data.
        timesteps: of the full schedule.
        width: of the layer and of the embedding, at least 4.
        layers: times that it is applied.
    """

    table: Tensor

    def __init__(self, dims: int, timesteps: int, width: int, layers: int) -> None:
        super().__init__()
        self.layers = checks.whole("layers", layers)
        half = checks.whole("width", width, 4) // 2
        frequencies = torch.exp(-math.log(10_000.0) / (half - 1) * torch.arange(half))
        angles = torch.arange(timesteps)[:, None] * frequencies
        table = functional.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, width - 2 * half))
        self.register_buffer("table", table, persistent=False)
        self.time, self.shift = nn.Linear(width, width), nn.Linear(width, width)
        self.first = nn.Linear(dims, width, bias=False)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.inner, self.outer = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.last = nn.Linear(width, dims)
        for layer in (self.time, self.shift, self.first, self.inner, self.outer, self.last):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (N, D) and steps (N,) or (1,) to (N, D)."""
        shift = self.shift(_leaky(self.time(self.table[t])))
        h = self.first(x)
        for _ in range(self.layers):
            y = self.inner(_leaky(self.norm1(h))) + shift
            h = h + self.outer(_leaky(self.norm2(y)))
        out: Tensor = self.last(self.norm3(h))
        return out


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.02)


@model(
    "small-ddpm",
    "Trainable Preparable Sampler",
    "discrete-time diffusion of vectors with a small network",
    examples=(
        Example("real-vector", {"timesteps": 50, "kept": 20, "width": 16}),
        Example("real-vector", {"timesteps": 20, "width": 9, "layers": 2, "rows": 12}),
    ),
)
class SmallDDPM(Chain):
    """A denoiser trained on the noise.

    Args:
        info, timesteps, kept: as for `Chain`.
        width, layers: as for `TiedDenoiser`.
        rows: how many training rows it sees, the first ones; 0 for all.
    """

    seen: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        timesteps: PositiveInt = 1000,
        kept: NonNegativeInt = 0,
        width: PositiveInt = 128,
        layers: PositiveInt = 3,
        rows: NonNegativeInt = 0,
    ) -> None:
        super().__init__(info, timesteps, kept)
        self.network = TiedDenoiser(self.dims, timesteps, width, layers)
        self.register_buffer("seen", torch.zeros(checks.whole("rows", rows, 0), self.dims))

    def prepare(self, x: Tensor, generator: Generator) -> None:
        """Keep the rows that training is limited to, over and over where there are not as many."""
        self.seen.copy_(x[torch.arange(len(self.seen), device=x.device) % len(x)])

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = self.network(x, t)
        return out

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Mean over rows and coordinates; with `rows`, of as many of them as the batch has, drawn anew."""
        x, n = batch.x, len(batch.x)
        if len(self.seen):
            x = self.seen[torch.randint(len(self.seen), (n,), generator=generator, device=x.device)]
        t = torch.randint(len(self.betas), (n,), generator=generator, device=x.device)
        eps = torch.randn(x.shape, generator=generator, device=x.device)
        return {"loss": (eps - self.noise(self.noised(x, t, eps), t)).square().mean()}


@model(
    "exact-ddpm",
    "Fittable Sampler",
    "discrete-time diffusion with the exact denoiser of a known mixture",
    examples=(Example("real-vector", {"axes": [[-1.0, 1.0], [0.0], [0.0], [0.5], [2.0]], "timesteps": 20}),),
)
class ExactDDPM(Chain):
    """The same sampler with E[eps | x_t] of a `GridMixture`: what training tends to.

    Args:
        info, timesteps, kept: as for `Chain`.
        axes, noise, scale: of the law, as its dataset says.
    """

    means: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        axes: list[list[float]],
        noise: PositiveFloat = 0.05,
        scale: PositiveFloat = 1.0,
        timesteps: PositiveInt = 1000,
        kept: NonNegativeInt = 0,
    ) -> None:
        super().__init__(info, timesteps, kept)
        law = grid_mixture(axes, noise, scale)
        if len(axes) != self.dims:
            raise UserError(f"{len(axes)} axes for {self.dims} coordinates", fix="the axes that the dataset has")
        self.std = law.std
        self.register_buffer("means", torch.from_numpy(law.means).float())

    def fit(self, x: Tensor, generator: Generator) -> None:
        """There is nothing to learn."""

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        a = self.alpha_bars[t][:, None].to(x.dtype)
        clean = posterior_mean(x, a, self.means, self.std)
        return (x - a.sqrt() * clean) / (1.0 - a).sqrt()
