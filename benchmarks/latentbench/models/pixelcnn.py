"""PixelCNN: images as a product of conditionals in raster order (van den Oord et al. 2016, arXiv 1601.06759 and
1606.05328), alone or given a code through a map that is added to its features.

The channels of one pixel are taken as independent given the pixels before it and the code.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from pydantic import PositiveInt
from torch import Generator, Tensor, nn

from latentbench.core.capabilities import Elbo
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, likelihoods, nets


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees pixels before its own in raster order, and its own too where `inclusive`."""

    def __init__(self, n_in: int, n_out: int, size: int, *, inclusive: bool) -> None:
        super().__init__(n_in, n_out, size, padding=size // 2)
        mask = torch.zeros(size, size)
        mask[: size // 2] = 1.0
        mask[size // 2, : size // 2 + inclusive] = 1.0
        self.register_buffer("mask", mask, persistent=False)
        self.mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class CausalDecoder(nn.Module):
    """The features of p(x_i | x_<i, map): what a likelihood head needs of every pixel.

    Args:
        info: the data; images.
        outputs: numbers a coordinate that the head needs.
        condition: channels of the map that carries the code; 0 where there is none.
        window: side of the first convolution, odd: (window - 1) / 2 rows and columns are seen.
        kernel: side of the residual layers' convolutions; with 1 the window is all that is seen.
        channels: of every layer.
        layers: residual layers.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        outputs: int,
        condition: int,
        window: Annotated[int, Ge(3)],
        kernel: PositiveInt,
        channels: PositiveInt,
        layers: PositiveInt,
    ) -> None:
        super().__init__()
        depth, _, _ = checks.image_shape("CausalDecoder", info)
        window, kernel = checks.whole("window", window, 3), checks.whole("kernel", kernel)
        if window % 2 == 0 or kernel % 2 == 0:
            raise UserError(f"window {window}, kernel {kernel}", fix="odd numbers")
        channels = checks.whole("channels", channels)
        self.centre = nets.Centre(info.levels) if info.support == "discrete" and info.levels else nn.Identity()
        self.first = MaskedConv2d(depth, channels, window, inclusive=False)
        self.condition = nn.Conv2d(condition, channels, 1) if condition else None
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                MaskedConv2d(channels, channels, kernel, inclusive=True),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 1),
            )
            for _ in range(checks.whole("layers", layers))
        )
        self.last = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, depth * outputs, 1), nn.Flatten())

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (N, C, H, W), condition (k * N, condition, H, W) or None, to (k * N, outputs * C * H * W)."""
        h = self.first(self.centre(x))
        if self.condition is not None and condition is not None:
            h = h.repeat(condition.shape[0] // x.shape[0], 1, 1, 1) + self.condition(condition)
        for layer in self.layers:
            h = h + layer(h)
        out: Tensor = self.last(h)
        return out

    def draw(
        self,
        shape: tuple[int, ...],
        head: likelihoods.Likelihood,
        generator: Generator,
        condition: Tensor | None = None,
    ) -> Tensor:
        """(N, C, H, W) samples, pixel by pixel."""
        x = torch.zeros(shape, device=self.first.weight.device)
        for i in range(shape[2]):
            for j in range(shape[3]):
                x[:, :, i, j] = head.sample(self(x, condition), generator).unflatten(1, shape[1:])[:, :, i, j]
        return x


@model(
    "pixelcnn",
    "Trainable ExactLikelihood VariationalBound Sampler LikelihoodHead",
    "autoregressive density of images",
    examples=(
        Example("binary-image", {"window": 5, "channels": 4, "layers": 2}, "likelihood"),
        Example("rgb-image", {"window": 3, "channels": 4, "layers": 1}, "likelihood"),
    ),
)
class PixelCNN(nn.Module):
    """PixelCNN without a code: an exact likelihood of images.

    As a VAE whose code has no dimensions it has bounds, too: its rate is 0, and every importance weight is p(x).

    Args:
        info: the data; images.
        window, kernel, channels, layers: see `CausalDecoder`.
        likelihood: the head of each pixel, see `likelihoods`.

    Raises:
        UserError: a parameter is out of its range, or the likelihood does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        window: int = 7,
        kernel: int = 3,
        channels: int = 32,
        layers: int = 6,
        likelihood: checks.Choice | None = None,
    ) -> None:
        super().__init__()
        self.shape = checks.image_shape("PixelCNN", info)
        self.likelihood = likelihoods.build_likelihood(likelihood, info)
        self.net = CausalDecoder(
            info,
            outputs=self.likelihood.outputs,
            condition=0,
            window=window,
            kernel=kernel,
            channels=channels,
            layers=layers,
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """(N,) nats."""
        return self.likelihood.log_prob(x.flatten(1), self.net(x))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Mean negative log-likelihood, nats a sample."""
        return {"loss": -self.log_prob(batch.x).mean()}

    def elbo(self, x: Tensor, generator: Generator) -> Elbo:
        """The likelihood itself, as distortion."""
        distortion = -self.log_prob(x)
        return Elbo(rate=torch.zeros_like(distortion), distortion=distortion)

    def posterior(self, x: Tensor) -> Tensor:
        """(N,) nats: log p(x), which is every weight, computed once a datum."""
        return self.log_prob(x)

    def log_importance_weights(self, x: Tensor, posterior: Tensor, k: int, generator: Generator) -> Tensor:
        """log p(x), (k, N) nats."""
        return posterior.expand(k, -1)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, C, H, W)."""
        return self.net.draw((n, *self.shape), self.likelihood, generator)
