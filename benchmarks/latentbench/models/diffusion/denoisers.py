"""Networks that see a noisy sample, a time and perhaps a context: an MLP for vectors, a small U-Net for images.

The U-Net of one resolution is that of Kingma et al. 2021 (VDM, appendix B): residual blocks at full resolution, skip
connections from each block down to its mirror image up, and an attention block in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, Any, TypeVar

import torch
from annotated_types import Ge
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models import checks

Layer = TypeVar("Layer", bound=nn.Module)


class TimeEmbedding(nn.Module):
    """Sines and cosines of times (N,) in [0, 1], frequencies from 1 to `fastest` in a geometric row, (N, width)."""

    frequencies: Tensor

    def __init__(self, width: int, fastest: float) -> None:
        super().__init__()
        top = math.log(checks.number("fastest", fastest, least=1.0))
        frequencies = torch.exp(torch.linspace(0.0, top, math.ceil(width / 2)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.width = 2 * len(frequencies)

    def forward(self, s: Tensor) -> Tensor:
        angles = s[:, None] * self.frequencies
        return torch.cat([torch.sin(angles), torch.cos(angles)], 1)


class Swish(nn.Module):
    """x sigmoid(x), of parts that torch differentiates forwards twice (its own SiLU it does not)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


def fourier(x: Tensor, powers: tuple[int, ...]) -> Tensor:
    """x (N, C, …) beside sin and cos of 2 pi 2^n x for n in `powers`: the last bits of x made large (VDM, eq. 21)."""
    angles = [(2.0**n * 2.0 * math.pi) * x for n in powers]
    return torch.cat([x, *(f(a) for a in angles for f in (torch.sin, torch.cos))], 1)


class MLP(nn.Module):
    """Plain layers over the flattened sample beside an embedding of the time.

    Args:
        info: the data.
        outputs: blocks of the data's shape that it gives.
        context: width of the context, 0 for none.
        width, layers: of the hidden layers.
        time_width: of the embedding of the time.
        fastest: its highest frequency (a learned forward map's time derivative grows with it).
    """

    def __init__(
        self,
        info: DataInfo,
        outputs: int,
        context: int,
        *,
        width: PositiveInt = 128,
        layers: PositiveInt = 3,
        time_width: Annotated[int, Ge(2)] = 32,
        fastest: float = 30.0,
    ) -> None:
        super().__init__()
        width, layers = checks.whole("width", width), checks.whole("layers", layers)
        self.time = TimeEmbedding(checks.whole("time_width", time_width, 2), fastest)
        self.shape, self.outputs = tuple(info.shape), outputs
        sizes = [info.dims + self.time.width + context, *[width] * layers]
        parts = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), Swish())]
        self.body = nn.Sequential(*parts)
        self.head = _zeroed(nn.Linear(width, outputs * info.dims))

    def forward(self, x: Tensor, s: Tensor, context: Tensor | None = None) -> Tensor:
        """(N, *shape), times (N,) in [0, 1] and context (N, K) to (N, outputs, *shape)."""
        seen = [x.flatten(1), self.time(s), *([context] if context is not None else [])]
        out: Tensor = self.head(self.body(torch.cat(seen, 1)))
        return out.view(len(x), self.outputs, *self.shape)


class _Block(nn.Module):
    """Two convolutions about a shift by the condition, beside an identity (or 1x1) path."""

    def __init__(self, n_in: int, n_out: int, condition: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(n_in), nn.Conv2d(n_in, n_out, 3, padding=1)
        self.shift = nn.Linear(condition, n_out)
        self.norm2, self.conv2 = _norm(n_out), _zeroed(nn.Conv2d(n_out, n_out, 3, padding=1))
        self.swish = Swish()
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        y = self.conv1(self.swish(self.norm1(h))) + self.shift(condition)[:, :, None, None]
        out: Tensor = self.skip(h) + self.conv2(self.swish(self.norm2(y)))
        return out


class _Attention(nn.Module):
    """One head over all positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.qkv = _norm(width), nn.Conv2d(width, 3 * width, 1)
        self.out = _zeroed(nn.Conv2d(width, width, 1))

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(h)).flatten(2).chunk(3, 1)
        weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(q.shape[1]), -1)
        out: Tensor = h + self.out((v @ weights.transpose(1, 2)).view_as(h))
        return out


class UNet(nn.Module):
    """A U-Net over patches.

    Args:
        info: the data, images.
        outputs, context: as for `MLP`.
        width: channels, times one of `multipliers` at each resolution.
        multipliers: one a resolution, each half the one before.
        blocks: residual blocks of each level on the way down; one more on the way up.
        patch: side of the squares of pixels that are stacked into channels first (1: none, as in VDM).
        attention: an attention block in the middle.
        fastest: highest frequency of the embedding of the time, which is `width` wide; 1000 in VDM.
        fourier: powers n of the Fourier features sin, cos(2 pi 2^n x) beside the input; values lie in [-1, 1].
    """

    def __init__(
        self,
        info: DataInfo,
        outputs: int,
        context: int,
        *,
        width: Annotated[int, Ge(2)] = 32,
        multipliers: tuple[int, ...] | list[int] = (1, 2),
        blocks: PositiveInt = 1,
        patch: PositiveInt = 1,
        attention: bool = False,
        fastest: float = 30.0,
        fourier: tuple[int, ...] | list[int] = (6, 7),
    ) -> None:
        super().__init__()
        channels, height, wide = checks.image_shape("unet", info)
        width, widths = checks.whole("width", width, 2), [width * m for m in checks.wholes("multipliers", multipliers)]
        levels = len(widths)
        if not levels:
            raise UserError("multipliers is empty", fix="one resolution or more")
        blocks, self.patch = checks.whole("blocks", blocks), checks.whole("patch", patch)
        self.powers, self.outputs, self.channels = checks.wholes("fourier", fourier, 0), outputs, channels
        step = self.patch * 2 ** (levels - 1)
        if height % step or wide % step:
            raise UserError(
                f"images of {height}x{wide} do not divide by {step}", fix="a smaller patch or fewer resolutions"
            )
        self.time = TimeEmbedding(width, fastest)
        n_condition = 4 * width
        self.condition = nn.Sequential(
            nn.Linear(self.time.width + context, n_condition),
            Swish(),
            nn.Linear(n_condition, n_condition),
            Swish(),
        )
        n_in = channels * (1 + 2 * len(self.powers)) * self.patch**2
        self.first = nn.Conv2d(n_in, width, 3, padding=1)
        self.down, self.shrink, self.up, self.grow = (nn.ModuleList() for _ in range(4))
        kept, last = [width], width
        for level, w in enumerate(widths):
            if level:
                self.shrink.append(nn.Conv2d(last, w, 3, stride=2, padding=1))
                kept.append(w)
                last = w
            sizes = [last, *[w] * blocks]
            self.down.append(nn.ModuleList([_Block(a, b, n_condition) for a, b in pairwise(sizes)]))
            kept += [w] * blocks
            last = w
        self.middle1, self.middle2 = _Block(last, last, n_condition), _Block(last, last, n_condition)
        self.attention = _Attention(last) if checks.flag("attention", attention) else nn.Identity()
        for level, w in reversed(list(enumerate(widths))):
            if level < levels - 1:
                self.grow.append(nn.Conv2d(last, w, 1))
                last = w
            self.up.append(nn.ModuleList([_Block(last + kept.pop(), w, n_condition) for _ in range(blocks + 1)]))
            last = w
        self.norm, self.swish = _norm(last), Swish()
        self.head = _zeroed(nn.Conv2d(last, outputs * channels * self.patch**2, 3, padding=1))

    def forward(self, x: Tensor, s: Tensor, context: Tensor | None = None) -> Tensor:
        """(N, C, H, W), times (N,) in [0, 1] and context (N, K) to (N, outputs, C, H, W)."""
        time = self.time(s)
        condition = self.condition(time if context is None else torch.cat([time, context], 1))
        h = self.first(functional.pixel_unshuffle(fourier(x, self.powers), self.patch))
        kept = [h]
        for level, stack in enumerate(self.down):
            if level:
                h = self.shrink[level - 1](h)
                kept.append(h)
            for block in stack:  # type: ignore[attr-defined]
                h = block(h, condition)
                kept.append(h)
        h = self.middle2(self.attention(self.middle1(h, condition)), condition)
        for level, stack in enumerate(self.up):
            if level:
                h = functional.interpolate(self.grow[level - 1](h), scale_factor=2.0, mode="nearest")
            for block in stack:  # type: ignore[attr-defined]
                h = block(torch.cat([h, kept.pop()], 1), condition)
        out = functional.pixel_shuffle(self.head(self.swish(self.norm(h))), self.patch)
        return out.unflatten(1, (self.outputs, self.channels))


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(width, min(32, max(1, width // 4))), width)


def _zeroed(layer: Layer) -> Layer:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


NETWORKS: Mapping[str, Callable[..., Any]] = {"mlp": MLP, "unet": UNet}


def build_network(choice: checks.Choice, info: DataInfo, outputs: int = 1, context: int = 0) -> nn.Module:
    """`choice` is ``mlp``, ``unet`` or ``{name: {parameter: value}}``; its last layer starts at zero."""
    name, parameters = checks.chosen("network", choice, NETWORKS)
    network: nn.Module = NETWORKS[name](info, outputs, context, **parameters)
    return network
