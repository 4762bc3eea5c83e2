"""Maximum mean discrepancy of codes, as a training loss."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Squared MMD of two samples (N, D), (M, D), a scalar: mean k(x, x') + mean k(y, y') - 2 mean k(x, y) over all
    pairs, each with itself included (biased, never negative), with k = exp(-|x - y|^2 / D^2).

    Gretton et al. 2012, eq. 5; the kernel's width is that of the code of Zhao et al. 2017.
    """
    return _kernel(x, x).mean() + _kernel(y, y).mean() - 2.0 * _kernel(x, y).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    d = x.shape[-1]
    return torch.exp(-(x[:, None] - y[None]).square().sum(-1) / d**2)
