"""The layers of Real NVP for images: residual networks, checkerboard and channel couplings, batch normalisation.

Dinh et al. 2017 (arXiv 1605.08803), sections 3.4 to 3.7; images are (N, C, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

BN_EPS = 1e-4  # of the authors' code, as is the running averages' momentum of 0.1


@dataclass(frozen=True)
class Settings:
    """What all couplings of a scale have in common; the parameters of `RealNVP` say what they mean."""

    maps: int
    blocks: int
    batch_norm: bool
    additive: bool


def conv(n_in: int, n_out: int, kernel: int) -> nn.Module:
    """A weight-normalised convolution that keeps height and width."""
    return weight_norm(nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2))


def norm_relu(maps: int, batch_norm: bool) -> nn.Sequential:
    return nn.Sequential(*([nn.BatchNorm2d(maps, eps=BN_EPS)] if batch_norm else []), nn.ReLU())


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions, each after batch normalisation and ReLU."""

    def __init__(self, maps: int, batch_norm: bool) -> None:
        super().__init__()
        half = (norm_relu(maps, batch_norm), conv(maps, maps, 3))
        self.net = nn.Sequential(*half, norm_relu(maps, batch_norm), conv(maps, maps, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.net(x)
        return out


class ResNet(nn.Module):
    """Residual blocks that all feed the output through 1x1 convolutions (section 4.1, and the authors' code)."""

    def __init__(self, n_in: int, n_out: int, settings: Settings) -> None:
        super().__init__()
        maps, batch_norm = settings.maps, settings.batch_norm
        self.first = conv(n_in, maps, 3)
        self.blocks = nn.ModuleList([ResidualBlock(maps, batch_norm) for _ in range(settings.blocks)])
        self.skips = nn.ModuleList([conv(maps, maps, 1) for _ in range(settings.blocks + 1)])
        self.last = nn.Sequential(norm_relu(maps, batch_norm), conv(maps, n_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        total = self.skips[0](h)
        for block, skip in zip(self.blocks, self.skips[1:], strict=False):
            h = block(h)
            total = total + skip(h)
        out: Tensor = self.last(total)
        return out


class FlowNorm(nn.Module):
    """Statistics for batch normalisation as a flow step (section 3.7).

    In training the minibatch's own, with their gradients; else running averages. A step's log-determinant is
    -1/2 log(variance + eps) for each element as in the paper: exact where the statistics are fixed, so in evaluation.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("var", torch.ones(channels, 1, 1))

    def forward(self, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each (C, 1, 1), of x (N, C, H, W) where `places` (1, H, W) is 1."""
        if not self.training:
            return self.mean, torch.log(self.var + BN_EPS)
        weights = places / (places.sum() * x.shape[0])
        mean = (x * weights).sum((0, 2, 3)).view_as(self.mean)
        d = x - mean
        var = (d * d * weights).sum((0, 2, 3)).view_as(self.var)
        with torch.no_grad():
            self.mean.lerp_(mean, 0.1)
            self.var.lerp_(var, 0.1)
        return mean, torch.log(var + BN_EPS)


class Coupling(nn.Module):
    """y = x * exp(s) + t on some places, s and t a network's function of the others (section 3.2), then `FlowNorm`.

    s is a learned scale times tanh of the network's output; additive couplings have none. The network sees what it is
    given and its negative, each rectified, as in the authors' code.
    """

    places: Tensor

    def __init__(self, places: Tensor, n_given: int, n_changed: int, settings: Settings, start: float) -> None:
        super().__init__()
        self.register_buffer("places", places, persistent=False)
        self.count = float(places.sum())
        self.first = nn.BatchNorm2d(n_given, eps=BN_EPS) if settings.batch_norm else nn.Identity()
        self.net = ResNet(2 * n_given, n_changed * (1 if settings.additive else 2), settings)
        self.scale = None if settings.additive else nn.Parameter(torch.tensor(start))
        self.norm = FlowNorm(n_changed) if settings.batch_norm else None

    def _step(self, given: Tensor) -> tuple[Tensor, Tensor | None]:
        """Shift t and log scale s (None where additive)."""
        h = self.first(given)
        out = self.net(torch.relu(torch.cat([h, -h], 1)))
        if self.scale is None:
            return out, None
        t, raw = out.chunk(2, 1)
        return t, self.scale * torch.tanh(raw)

    def change(self, x: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """New values of x (to be used at `places` only) and the log-determinant, (N,)."""
        t, s = self._step(given)
        log_det = torch.zeros(x.shape[0], device=x.device, dtype=x.dtype)
        if s is None:
            y = x + t
        else:
            y = torch.addcmul(t, x, torch.exp(s))
            log_det = log_det + (s * self.places).sum((1, 2, 3))
        if self.norm is not None:
            mean, log_var = self.norm(y, self.places)
            y = (y - mean) * torch.exp(-0.5 * log_var)
            log_det = log_det - 0.5 * self.count * log_var.sum()
        return y, log_det

    def restore(self, y: Tensor, given: Tensor) -> Tensor:
        """Inverts `change` with the running statistics."""
        t, s = self._step(given)
        if self.norm is not None:
            mean, log_var = self.norm(y, self.places)
            y = y * torch.exp(0.5 * log_var) + mean
        return y - t if s is None else (y - t) * torch.exp(-s)


class Checkerboard(Coupling):
    """Changes the places whose row and column sum to an even (`parity` 0) or odd number; the network sees the mask."""

    def __init__(self, size: tuple[int, int, int], parity: int, settings: Settings) -> None:
        channels, height, width = size
        odd = (torch.arange(height)[:, None] + torch.arange(width)) % 2
        # The authors' starting points: checkerboard layers begin without rescaling, channel layers do not.
        super().__init__((odd == parity).float()[None], channels + 1, channels, settings, start=0.0)

    def _given(self, x: Tensor) -> Tensor:
        kept = 1.0 - self.places
        return torch.cat([x * kept, kept.expand(x.shape[0], -1, -1, -1)], 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = self.change(x, self._given(x))
        return torch.where(self.places > 0, y, x), log_det

    def inverse(self, y: Tensor) -> Tensor:
        return torch.where(self.places > 0, self.restore(y, self._given(y)), y)


class HalfChannels(Coupling):
    """Changes the second half of the channels (`parity` 0) or the first."""

    def __init__(self, size: tuple[int, int, int], parity: int, settings: Settings) -> None:
        channels, height, width = size
        super().__init__(torch.ones(1, height, width), channels // 2, channels // 2, settings, start=1.0)
        self.flip = bool(parity)

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, 1)
        return (b, a) if self.flip else (a, b)

    def _joined(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat((b, a) if self.flip else (a, b), 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self._halves(x)
        b, log_det = self.change(b, a)
        return self._joined(a, b), log_det

    def inverse(self, y: Tensor) -> Tensor:
        a, b = self._halves(y)
        return self._joined(a, self.restore(b, a))
