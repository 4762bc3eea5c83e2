"""Convolutional parts of hierarchical models: residual blocks, and the ways from features to codes and back."""

from __future__ import annotations

from collections.abc import Callable

from latentbench.models.nets import LOG_STD_LIMIT
from torch import Tensor, nn


class ResBlock(nn.Module):
    """Two convolutions around a shortcut; strides down, or up to `size` where that is given."""

    def __init__(
        self, c: int, kernel: int, stride: int, act: Callable[[], nn.Module], size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.size = size if stride > 1 else None
        self.act = act()
        step = 1 if size is not None else stride
        self.first = nn.Conv2d(c, c, kernel, step, kernel // 2)
        self.second = nn.Conv2d(c, c, kernel, 1, kernel // 2)
        self.shortcut = nn.Conv2d(c, c, 1, step) if step > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.size is not None:  # nearest neighbours, cut to odd sizes
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., : self.size[0], : self.size[1]]
        out: Tensor = self.shortcut(x) + self.second(self.act(self.first(self.act(x))))
        return out


class Head(nn.Module):
    """Features (N, C, h, w) to mean and log standard deviation of a code: a map (N, width, h, w) or (N, width)."""

    def __init__(self, place: tuple[int, int, int], width: int, is_map: bool, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        c, h, w = place
        last: list[nn.Module] = (
            [nn.Conv2d(c, 2 * width, 3, 1, 1)] if is_map else [nn.Flatten(), nn.Linear(c * h * w, 2 * width)]
        )
        self.net = nn.Sequential(act(), *last)

    def forward(self, d: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.net(d).chunk(2, 1)
        return mean, log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT)


class Spread(nn.Module):
    """A code back to features (N, C, h, w)."""

    def __init__(self, place: tuple[int, int, int], width: int, is_map: bool) -> None:
        super().__init__()
        self.code = (width, *place[1:]) if is_map else (width,)
        self.net = (
            nn.Conv2d(width, place[0], 1)
            if is_map
            else nn.Sequential(nn.Linear(width, place[0] * place[1] * place[2]), nn.Unflatten(1, place))
        )

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.net(z)
        return out
