"""Networks that several models share, and their initialisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models import checks

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}
INITS = ("glorot", "default")

LOG_STD_LIMIT = 12.0
"""Predicted log standard deviations are held within +-12 (sigma from 6e-6 to 1.6e5): wide enough never to touch a
model that trains, and enough to keep exp() finite on wild input."""


class Blocks(nn.Linear):
    """A linear layer whose outputs are `blocks` groups, each initialised as a layer of its own."""

    def __init__(self, n_in: int, n_out: int, blocks: int) -> None:
        super().__init__(n_in, n_out * blocks)
        self.blocks = blocks


class GaussianLayer(nn.Module):
    """A network that predicts a diagonal Gaussian: to mean and log standard deviation, each (..., n_out)."""

    def __init__(self, body: nn.Module, n_features: int, n_out: int) -> None:
        super().__init__()
        self.body = body
        self.head = Blocks(n_features, n_out, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.head(self.body(x)).chunk(2, -1)
        return mean, log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT)


def mlp(n_in: int, hidden: Sequence[int], activation: str, *, batch_norm: bool = False) -> nn.Sequential:
    """Linear layers of the widths `hidden`, each followed by the activation; the identity where `hidden` is empty."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers.append(nn.Linear(n_in, width))
        if batch_norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(ACTIVATIONS[activation]())
        n_in = width
    return nn.Sequential(*layers)


def initialise(root: nn.Module, init: str) -> None:
    """`glorot`: uniform weights as in Glorot & Bengio 2010 (eq. 16), zero biases; `default`: leaves PyTorch's."""
    if init == "default":
        return
    for module in root.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            with torch.no_grad():
                for block in module.weight.chunk(getattr(module, "blocks", 1)):
                    nn.init.xavier_uniform_(block)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class Centre(nn.Module):
    """Maps integers 0 .. levels - 1 to [-1, 1], where networks work best."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.scale = 2.0 / (levels - 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale - 1.0


def _stem(info: DataInfo) -> list[nn.Module]:
    return [Centre(info.levels)] if info.support == "discrete" and info.levels else []


class MlpNetwork:
    """Fully connected encoder and decoder of a sample (as a vector)."""

    def __init__(self, info: DataInfo) -> None:
        self.info = info

    def encoder(self, hidden: Sequence[int], activation: str) -> tuple[nn.Module, int]:
        """A network from (N, *shape) to (N, n) features, and n."""
        body = nn.Sequential(*_stem(self.info), nn.Flatten(), *mlp(self.info.dims, hidden, activation))
        return body, [self.info.dims, *hidden][-1]

    def decoder(self, n_in: int, hidden: Sequence[int], activation: str, outputs: int) -> tuple[nn.Module, nn.Module]:
        """A network from (..., n_in) to (..., outputs * dims), and its last layer."""
        last = Blocks([n_in, *hidden][-1], self.info.dims, outputs)
        return nn.Sequential(*mlp(n_in, hidden, activation), last), last


class ConvNetwork:
    """Strided convolutions for images, then fully connected layers; the decoder mirrors it.

    Each convolution has 4x4 kernels, stride 2 and padding 1, so it halves height and width (rounded down, and the
    decoder restores odd sizes). With channels (32, 32, 64, 64), 64x64 images and one fully connected layer of 512 it
    is the network of Chen et al. 2018 (their last 4x4 convolution is that layer).

    Args:
        channels: channels after each convolution.
        batch_norm: batch normalisation after every layer but the last.
    """

    def __init__(self, info: DataInfo, *, channels: Sequence[int] = (32, 32, 64, 64), batch_norm: bool = False) -> None:
        self.info = info
        self.channels = checks.wholes("network.conv.channels", channels)
        self.batch_norm = checks.flag("network.conv.batch_norm", batch_norm)
        c, h, w = checks.image_shape("network conv", info)
        self.sizes = [(h, w)]
        for _ in self.channels:
            h, w = h // 2, w // 2
            self.sizes.append((h, w))
        if not self.channels or min(h, w) < 1:
            raise UserError(
                f"network.conv.channels has {len(self.channels)} entries for images of {info.shape[1]}x{info.shape[2]}",
                fix="at least one, and no more than the image can be halved",
            )
        self.features = self.channels[-1] * h * w
        self.image_channels = c

    def _finish(self, channels: int, activation: str) -> list[nn.Module]:
        norm: list[nn.Module] = [nn.BatchNorm2d(channels)] if self.batch_norm else []
        return [*norm, ACTIVATIONS[activation]()]

    def encoder(self, hidden: Sequence[int], activation: str) -> tuple[nn.Module, int]:
        """A network from (N, C, H, W) to (N, n) features, and n."""
        layers = _stem(self.info)
        n_in = self.image_channels
        for n_out in self.channels:
            layers += [nn.Conv2d(n_in, n_out, 4, 2, 1), *self._finish(n_out, activation)]
            n_in = n_out
        dense = mlp(self.features, hidden, activation, batch_norm=self.batch_norm)
        return nn.Sequential(*layers, nn.Flatten(), *dense), [self.features, *hidden][-1]

    def decoder(self, n_in: int, hidden: Sequence[int], activation: str, outputs: int) -> tuple[nn.Module, nn.Module]:
        """A network from (..., n_in) to (..., outputs * C * H * W), and its last layer."""
        layers: list[nn.Module] = list(mlp(n_in, hidden, activation, batch_norm=self.batch_norm))
        layers += [
            nn.Linear([n_in, *hidden][-1], self.features),
            nn.Unflatten(1, (self.channels[-1], *self.sizes[-1])),
            *self._finish(self.channels[-1], activation),
        ]
        widths = [*self.channels[::-1], self.image_channels * outputs]
        steps = zip(widths, widths[1:], self.sizes[::-1], self.sizes[-2::-1], strict=False)
        for before, after, (h, w), (height, width) in steps:
            odd = (height - 2 * h, width - 2 * w)
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, output_padding=odd), *self._finish(after, activation)]
        while not isinstance(layers[-1], nn.ConvTranspose2d):
            layers.pop()
        last = layers[-1]
        return FoldBatch(nn.Sequential(*layers, nn.Flatten())), last


class FoldBatch(nn.Module):
    """Runs a network of (N, D) on (..., N, D) by folding the leading axes into one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z.reshape(-1, z.shape[-1])).unflatten(0, z.shape[:-1])


NETWORKS: Mapping[str, Callable[..., Any]] = {"mlp": MlpNetwork, "conv": ConvNetwork}


def build_network(choice: checks.Choice, info: DataInfo) -> MlpNetwork | ConvNetwork:
    """`choice` is ``mlp``, ``conv``, or ``{conv: {channels: [...], batch_norm: ...}}``."""
    name, parameters = checks.chosen("network", choice, NETWORKS)
    network: MlpNetwork | ConvNetwork = NETWORKS[name](info, **parameters)
    return network
