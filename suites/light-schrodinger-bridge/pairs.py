"""What models of transport between two marginals share: the form of their data, and the bridge between two points."""

from __future__ import annotations

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models import checks
from torch import Generator, Tensor


def dimensions(model: str, info: DataInfo) -> int:
    """D of data whose rows are (2, D): a point of the source and one of the target, drawn independently.

    Raises:
        UserError: the data are no such rows.
    """
    checks.support(model, info, "real", "unit")
    if len(info.shape) != 2 or info.shape[0] != 2:
        raise UserError(
            f"{model} needs rows of two points (2, D), source and target, and a sample has shape {tuple(info.shape)}",
            fix="choose a dataset of pairs, such as bridge-2d",
        )
    return info.shape[1]


def moment(time: float) -> float:
    """`time`, which must lie in [0, 1]."""
    return checks.number("time", time, most=1.0)


def between(x: Tensor, y: Tensor, time: float | Tensor, epsilon: float, generator: Generator) -> Tensor:
    """A Brownian bridge of variance `epsilon` a unit of time from x (N, D) at 0 to y at 1, at `time` (a number, or
    (N, 1)): N((1 - t) x + t y, ε t (1 - t) I). With (x, y) of the entropic plan it is the Schrödinger bridge."""
    t = torch.as_tensor(time, dtype=x.dtype, device=x.device)
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return torch.lerp(x, y, t.expand_as(x)) + (epsilon * t * (1 - t)).sqrt() * noise
