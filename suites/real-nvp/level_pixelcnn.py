"""A PixelCNN of whole grey values as a density of what flows see: dequantised values after the logit transform.

A flow is measured in bits of dequantised values, an autoregressive model in bits of the values themselves. As a density
that is constant between one whole value and the next, P(k) on [k, k + 1), the latter has the same bits of the former:
so one number holds both, as Table 1 of Real NVP does. The transform leaves room below 0, which no datum takes; as the
density is one of the whole line, the values there are values, too, to which the model learns to give nothing.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.pixelcnn import PixelCNN
from pydantic import PositiveInt
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus


@model(
    "level-pixelcnn",
    "Trainable ExactLikelihood Sampler",
    "PixelCNN of whole values, as a density of their dequantised logits",
    examples=(Example("real-image", {"levels": 4, "channels": 4, "layers": 1, "window": 3}),),
)
class LevelPixelCNN(nn.Module):
    """A PixelCNN with a softmax over the values of each pixel, on data under `dequantise` and `logit`.

    Args:
        info: the data: images of real values, logit(alpha + (1 - alpha) x / levels) of x in [0, levels).
        levels: number of values of a pixel.
        alpha: of the logit transform.
        window, kernel, channels, layers: see `CausalDecoder`.

    Raises:
        UserError: a parameter is out of its range, or the data are no images of real values.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        levels: Annotated[int, Ge(2)] = 256,
        alpha: Annotated[float, Gt(0), Lt(0.5)] = 0.05,
        window: Annotated[int, Ge(3)] = 7,
        kernel: PositiveInt = 3,
        channels: PositiveInt = 32,
        layers: PositiveInt = 6,
    ) -> None:
        checks.support("LevelPixelCNN", info, "real")
        super().__init__()
        self.levels = checks.whole("levels", levels, 2)
        self.alpha = checks.number("alpha", alpha, most=0.5)
        self.below = self.alpha * self.levels / (1 - self.alpha)  # the transform has room for values down to -below
        self.extra = math.ceil(self.below)
        self.pixels = PixelCNN(
            DataInfo(info.shape, "discrete", info.n_train, levels=self.levels + self.extra),
            window=window,
            kernel=kernel,
            channels=channels,
            layers=layers,
            likelihood="categorical",
        )

    def values(self, y: Tensor) -> Tensor:
        """The numbers 0 ... levels + extra - 1 of the steps in which y lie; those of the data begin at `extra`."""
        x = torch.sigmoid(y) * (self.levels / (1 - self.alpha)) - self.below
        return (x.floor() + self.extra).clamp(0, self.levels + self.extra - 1)

    def widths(self, values: Tensor) -> Tensor:
        """How wide each step is: 1, but for the lowest, which is cut off where sigmoid(y) is 0."""
        return torch.where(values == 0, self.below - (self.extra - 1), 1.0)

    def log_prob(self, y: Tensor) -> Tensor:
        """log P(values) - log width + log |dx/dy|, (N,): dx/dy = levels / (1 - alpha) sigmoid(y) sigmoid(-y)."""
        values = self.values(y)
        slope = math.log(self.levels / (1 - self.alpha)) - softplus(y) - softplus(-y)
        return self.pixels.log_prob(values) + (slope - self.widths(values).log()).flatten(1).sum(1)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Mean negative log-density, nats a sample."""
        return {"loss": -self.log_prob(batch.x).mean()}

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, C, H, W): values pixel by pixel, a uniform draw within each, and the transform."""
        values = self.pixels.sample(n, generator)
        noise = torch.rand(values.shape, generator=generator, device=values.device, dtype=values.dtype)
        x = values - self.extra + 1 - self.widths(values) * (1 - noise)  # from the upper end of each step
        return torch.logit((x + self.below) * ((1 - self.alpha) / self.levels), eps=1e-6)
