"""Real NVP for images: multi-scale affine coupling (Dinh et al. 2017, arXiv 1605.08803).

Dequantisation and the logit transform belong to the preprocessing; the model is a density of what it is given. Vectors
have `coupling`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities
from latentbench.papers.real_nvp.image_coupling import Checkerboard, Coupling, HalfChannels, Settings
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


class Scale(nn.Module):
    """One scale (section 3.6): three checkerboard couplings, squeezing, three channel couplings; the last has four
    checkerboard couplings alone. After squeezing the network is twice as wide."""

    order: Tensor
    back: Tensor

    def __init__(self, size: tuple[int, int, int], settings: Settings, last: bool) -> None:
        super().__init__()
        self.last = last
        channels, height, width = size
        squeezed, wider = (4 * channels, height // 2, width // 2), replace(settings, maps=2 * settings.maps)
        self.boards = nn.ModuleList([Checkerboard(size, i % 2, settings) for i in range(4 if last else 3)])
        self.halves = nn.ModuleList([HalfChannels(squeezed, i % 2, wider) for i in range(0 if last else 3)])
        # Before half of the channels is factored out, each 2x2 block's diagonal comes first: what goes on is then a
        # checkerboard of the image, as in the authors' code.
        order = torch.tensor([4 * c + corner for corner in (0, 3, 1, 2) for c in range(channels)])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """x to what goes on, what is factored out (None at the last scale), and the log-determinant (N,)."""
        total = torch.zeros(x.shape[0], device=x.device, dtype=x.dtype)
        for coupling in self.boards:
            x, log_det = coupling(x)
            total = total + log_det
        if self.last:
            return x, None, total
        x = pixel_unshuffle(x, 2)
        for coupling in self.halves:
            x, log_det = coupling(x)
            total = total + log_det
        on, out = x[:, self.order].chunk(2, 1)
        return on, out, total

    def inverse(self, on: Tensor, out: Tensor | None) -> Tensor:
        x = on
        if out is not None:
            x = torch.cat([on, out], 1)[:, self.back]
            for coupling in reversed(self.halves):
                x = coupling.inverse(x)  # type: ignore[operator]
            x = pixel_shuffle(x, 2)
        for coupling in reversed(self.boards):
            x = coupling.inverse(x)  # type: ignore[operator]
        return x


@model(
    "real-nvp",
    "Trainable ExactLikelihood Sampler",
    "multi-scale convolutional coupling flow of images",
    examples=(
        Example("real-image", {"maps": 4, "blocks": 1}),
        Example("rgb-image", {"maps": 4, "blocks": 0, "batch_norm": False, "l2": 0.0}, "likelihood"),
        Example("real-image", {"maps": 4, "blocks": 1, "additive": True, "scales": 3}),
        Example("real-image", {"maps": 4, "blocks": 1, "additive": True, "scales": 1}),
    ),
)
class RealNVP(nn.Module):
    """A multi-scale coupling flow of images with a standard normal prior.

    Args:
        info: the data: images of real values.
        scales: number of scales, so one more than the number of times the image is halved; None halves as long as
            the side is even and the result at least 4 (the paper's ImageNet and CelebA; its CIFAR-10 has 2).
        maps: feature maps of the residual networks at the first scale, doubled with each halving.
        blocks: residual blocks of each network.
        batch_norm: batch normalisation in the networks and as flow steps.
        additive: NICE in place of Real NVP: couplings without s, and a learned scale of each latent coordinate at the
            end (NICE section 3.3).
        l2: weight of the sum of squares of the weight normalisation's gains and the scales of s (paper: 5e-5).

    Raises:
        UserError: a parameter is out of its range, or the data are no images that can be halved so often.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        scales: int | None = None,
        maps: PositiveInt = 32,
        blocks: NonNegativeInt = 4,
        batch_norm: bool = True,
        additive: bool = False,
        l2: NonNegativeFloat = 5e-5,
    ) -> None:
        checks.support("RealNVP", info, "real", "unit")
        super().__init__()
        channels, height, width = checks.image_shape("RealNVP", info)
        self.shape = (channels, height, width)
        self.l2 = checks.number("l2", l2)
        settings = Settings(
            maps=checks.whole("maps", maps),
            blocks=checks.whole("blocks", blocks, 0),
            batch_norm=checks.flag("batch_norm", batch_norm),
            additive=checks.flag("additive", additive),
        )
        if scales is None:
            scales = 1
            while all(side % 2**scales == 0 and side // 2**scales >= 4 for side in (height, width)):
                scales += 1
        factor = 2 ** (checks.whole("scales", scales) - 1)
        if height % factor or width % factor or min(height, width) < 2 * factor:
            raise UserError(
                f"scales is {scales} for images of {height}x{width}",
                fix="each scale but the last halves both sides, which must stay whole and 2 or more",
            )
        self.scales, self.sizes = nn.ModuleList(), []
        for i in range(scales):
            last = i == scales - 1
            self.scales.append(Scale((channels, height, width), replace(settings, maps=maps * 2**i), last))
            if not last:
                channels, height, width = 2 * channels, height // 2, width // 2
            self.sizes.append((channels, height, width))
        self.log_scale = nn.Parameter(torch.zeros(info.dims)) if additive else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, C, H, W) to z (N, dims), factored-out parts first, and log |dz/dx| (N,)."""
        log_det = torch.zeros(x.shape[0], device=x.device, dtype=x.dtype)
        parts = []
        for scale in self.scales:
            x, out, more = scale(x)
            log_det = log_det + more
            if out is not None:
                parts.append(out.flatten(1))
        z = torch.cat([*parts, x.flatten(1)], 1)
        if self.log_scale is not None:
            z, log_det = z * torch.exp(self.log_scale), log_det + self.log_scale.sum()
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """z (N, dims) to x (N, C, H, W), with running statistics."""
        with evaluating(self):
            if self.log_scale is not None:
                z = z * torch.exp(-self.log_scale)
            lengths = [c * h * w for c, h, w in self.sizes]
            *outs, x = z.split([*lengths[:-1], lengths[-1]], 1)
            x = x.unflatten(1, self.sizes[-1])
            x = self.scales[-1].inverse(x, None)  # type: ignore[operator]
            for i in reversed(range(len(outs))):
                x = self.scales[i].inverse(x, outs[i].unflatten(1, self.sizes[i]))  # type: ignore[operator]
        return x

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log-density, (N,) nats; batch normalisation takes its running statistics, whatever the mode."""
        with evaluating(self):
            z, log_det = self(x)
        return densities.standard_normal(z) + log_det

    def penalty(self) -> Tensor:
        """Sum of squares of the weight normalisation's gains and of the scales of s."""
        terms = [m.scale.reshape(1) for m in self.modules() if isinstance(m, Coupling) and m.scale is not None]
        # `original0` is how torch's weight normalisation names the gains.
        terms += [p.flatten() for name, p in self.named_parameters() if name.endswith("weight.original0")]
        gains = torch.cat(terms)
        return (gains * gains).sum()

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Mean negative log-density in nats per sample (`nll`), plus l2 times `penalty`."""
        z, log_det = self(batch.x)
        nll = -(densities.standard_normal(z) + log_det).mean()
        return {"loss": nll + self.l2 * self.penalty() if self.l2 else nll, "nll": nll.detach()}

    def sample(self, n: int, generator: Generator) -> Tensor:
        like = next(self.parameters())
        dims = sum(c * h * w for c, h, w in self.sizes)
        return self.inverse(torch.randn(n, dims, generator=generator, device=like.device, dtype=like.dtype))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Runs with `model` in evaluation mode and puts its mode back."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()
