"""The Inception network of the Fréchet Inception distance, as torch-fidelity defines it.

The graph of the 2015-12-05 TensorFlow release: its bilinear resize, its average pools that leave padding out, and its
last block with a maximum pool. Module names are those of torch-fidelity's weights file
(`weights-inception-2015-12-05-6726825d.pth`), which is read with `weights_only=True`; torch-fidelity itself is not
needed (it would bring torchvision, and unpickles the file). The tests compare the two networks on common random
weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentbench.core.errors import UserError
from latentbench.metrics.extractors.base import Extractor

SIZE = 299
WEIGHTS_SHA256_PREFIX = "6726825d"  # torch.hub's convention: the file's name carries it
Kernel = int | tuple[int, int]


class Conv(nn.Module):
    """Convolution, batch normalisation, ReLU; keeps the size unless `stride` or `pad=False` says otherwise."""

    def __init__(self, a: int, b: int, kernel: Kernel = 1, *, stride: int = 1, pad: bool = True) -> None:
        super().__init__()
        k = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (k[0] // 2, k[1] // 2) if pad and stride == 1 else 0
        self.conv = nn.Conv2d(a, b, k, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(b, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """Parallel branches side by side.

    Args:
        convolutions: name -> convolution; a branch's names share what comes before the last underscore-number.
        branches: for each branch the names it runs through; a tuple in place of a name forks into both, side by side.
        pool: `average`, `maximum` (both keep the size and end in the convolution `branch_pool`) or `stride`.
    """

    def __init__(
        self, convolutions: Mapping[str, Conv], branches: list[list[str | tuple[str, str]]], pool: str
    ) -> None:
        super().__init__()
        for name, convolution in convolutions.items():
            self.add_module(name, convolution)
        self.branches, self.pool = branches, pool

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch in self.branches:
            y = x
            for step in branch:
                if isinstance(step, tuple):
                    y = torch.cat([self.get_submodule(name)(y) for name in step], 1)
                else:
                    y = self.get_submodule(step)(y)
            outputs.append(y)
        if self.pool == "stride":
            pooled = functional.max_pool2d(x, 3, 2)
        elif self.pool == "maximum":
            pooled = self.get_submodule("branch_pool")(functional.max_pool2d(x, 3, 1, 1))
        else:
            pooled = self.get_submodule("branch_pool")(functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
        return torch.cat([*outputs, pooled], 1)


def _block_a(a: int, pooled: int) -> Mixed:
    convolutions = {
        "branch1x1": Conv(a, 64),
        "branch5x5_1": Conv(a, 48),
        "branch5x5_2": Conv(48, 64, 5),
        "branch3x3dbl_1": Conv(a, 64),
        "branch3x3dbl_2": Conv(64, 96, 3),
        "branch3x3dbl_3": Conv(96, 96, 3),
        "branch_pool": Conv(a, pooled),
    }
    double = ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]
    return Mixed(convolutions, [["branch1x1"], ["branch5x5_1", "branch5x5_2"], [*double]], "average")


def _block_b(a: int) -> Mixed:
    convolutions = {
        "branch3x3": Conv(a, 384, 3, stride=2),
        "branch3x3dbl_1": Conv(a, 64),
        "branch3x3dbl_2": Conv(64, 96, 3),
        "branch3x3dbl_3": Conv(96, 96, 3, stride=2),
    }
    return Mixed(convolutions, [["branch3x3"], ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]], "stride")


def _block_c(a: int, c: int) -> Mixed:
    wide, tall = (1, 7), (7, 1)
    convolutions = {
        "branch1x1": Conv(a, 192),
        "branch7x7_1": Conv(a, c),
        "branch7x7_2": Conv(c, c, wide),
        "branch7x7_3": Conv(c, 192, tall),
        "branch7x7dbl_1": Conv(a, c),
        "branch7x7dbl_2": Conv(c, c, tall),
        "branch7x7dbl_3": Conv(c, c, wide),
        "branch7x7dbl_4": Conv(c, c, tall),
        "branch7x7dbl_5": Conv(c, 192, wide),
        "branch_pool": Conv(a, 192),
    }
    single = [f"branch7x7_{i}" for i in (1, 2, 3)]
    double = [f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)]
    return Mixed(convolutions, [["branch1x1"], [*single], [*double]], "average")


def _block_d(a: int) -> Mixed:
    convolutions = {
        "branch3x3_1": Conv(a, 192),
        "branch3x3_2": Conv(192, 320, 3, stride=2),
        "branch7x7x3_1": Conv(a, 192),
        "branch7x7x3_2": Conv(192, 192, (1, 7)),
        "branch7x7x3_3": Conv(192, 192, (7, 1)),
        "branch7x7x3_4": Conv(192, 192, 3, stride=2),
    }
    long = [f"branch7x7x3_{i}" for i in (1, 2, 3, 4)]
    return Mixed(convolutions, [["branch3x3_1", "branch3x3_2"], [*long]], "stride")


def _block_e(a: int, pool: str) -> Mixed:
    wide, tall = (1, 3), (3, 1)
    convolutions = {
        "branch1x1": Conv(a, 320),
        "branch3x3_1": Conv(a, 384),
        "branch3x3_2a": Conv(384, 384, wide),
        "branch3x3_2b": Conv(384, 384, tall),
        "branch3x3dbl_1": Conv(a, 448),
        "branch3x3dbl_2": Conv(448, 384, 3),
        "branch3x3dbl_3a": Conv(384, 384, wide),
        "branch3x3dbl_3b": Conv(384, 384, tall),
        "branch_pool": Conv(a, 192),
    }
    branches: list[list[str | tuple[str, str]]] = [
        ["branch1x1"],
        ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")],
        ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")],
    ]
    return Mixed(convolutions, branches, pool)


class Inception(nn.Module):
    """(N, 3, H, W) pixels 0 … 255 -> (N, 2048) features; `logits` -> (N, 1008) without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, pad=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _block_a(192, 32), _block_a(256, 64), _block_a(288, 64)
        self.Mixed_6a, self.Mixed_6b = _block_b(288), _block_c(768, 128)
        self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = _block_c(768, 160), _block_c(768, 160), _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b, self.Mixed_7c = _block_e(1280, "average"), _block_e(2048, "maximum")
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        # whole pixels, as an image file would hold them
        x = (resize_like_tensorflow(x.round(), SIZE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(functional.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))

    def logits(self, x: Tensor) -> Tensor:
        """Class scores without the bias, as the inception score takes them."""
        return self(x) @ self.fc.weight.T


def resize_like_tensorflow(x: Tensor, size: int) -> Tensor:
    """Bilinear resize of (N, C, H, W) to a square, sampling at i · H / size (corners not aligned, no half-pixel shift).

    TensorFlow 1's rule; torch's own resize samples half a pixel off, which moves a Fréchet distance by several points.
    """
    for axis in (3, 2):
        length = x.shape[axis]
        at = torch.arange(size, dtype=torch.float32, device=x.device) * (length / size)
        low = at.long().clamp_max(length - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = size
        weight = (at - low).reshape(shape).to(x.dtype)
        left, right = x.index_select(axis, low), x.index_select(axis, (low + 1).clamp_max(length - 1))
        x = left + (right - left) * weight
    return x


def inception(weights: Path, *, check: bool = True) -> Extractor:
    """The extractor `inception`, from torch-fidelity's weights file; identity is the file's hash.

    Args:
        weights: `weights-inception-2015-12-05-6726825d.pth`.
        check: refuse a file whose sha256 does not start as its published name says.

    Raises:
        UserError: no such file, another file, or one that holds anything but tensors.
    """
    path = Path(weights)
    if not path.is_file():
        fix = "download weights-inception-2015-12-05-6726825d.pth from torch-fidelity's releases"
        raise UserError("no Inception weights here", where=path, fix=fix)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if check and not digest.startswith(WEIGHTS_SHA256_PREFIX):
        raise UserError(f"sha256 {digest[:8]}… is not the published {WEIGHTS_SHA256_PREFIX}…", where=path)
    network = Inception()
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises its own, pickle's and zip's
        raise UserError(f"holds no Inception weights: {error}", where=path) from None
    network.eval().requires_grad_(False)
    return Extractor("inception", digest[:16], network, network.logits)
