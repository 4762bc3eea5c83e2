"""A tiny model that can be told to go wrong, and a metric likewise."""

from __future__ import annotations

import math
import os
import signal
import time

import torch
from latentbench.core.errors import Diverged, UserError
from latentbench.core.types import Batch, DataInfo, MetricValue
from torch import Generator, Tensor, nn


class Toy(nn.Module):
    """Independent Gaussians, trained with a little noise on the data.

    Args:
        spoil: what goes wrong in training: nothing, an exception (``raise``), a NaN loss, no memory (``memory``, or on
            the way back: ``backward``), the death of the process (``kill``).
        rank: of the device whose process alone goes wrong, if not all do.
        pause: seconds that each step takes on top.
        spread: standard deviation of the initial means.
    """

    def __init__(
        self, info: DataInfo, *, spoil: str = "", rank: int = -1, pause: float = 0.0, spread: float = 1.0
    ) -> None:
        if spread < 0:
            raise UserError(f"spread is {spread}", fix="0 or more")
        super().__init__()
        self._spoil, self._rank, self.pause = spoil, rank, pause
        self.mean = nn.Parameter(spread * torch.randn(info.shape))
        self.log_std = nn.Parameter(torch.zeros(info.shape))

    @property
    def spoil(self) -> str:
        return self._spoil if self._rank < 0 or self._rank == torch.distributed.get_rank() else ""

    def log_prob(self, x: Tensor) -> Tensor:
        each = -0.5 * ((x - self.mean) * torch.exp(-self.log_std)).square() - self.log_std - 0.5 * math.log(2 * math.pi)
        return each.flatten(1).sum(1)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        if self.pause:
            time.sleep(self.pause)
        if self.spoil == "raise":
            raise RuntimeError("told to fail\nin two lines")
        if self.spoil == "memory":
            raise MemoryError
        if self.spoil == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        x = batch.x + 0.1 * torch.randn(batch.x.shape, generator=generator)
        loss = -self.log_prob(x).mean()
        if self.spoil == "backward":
            loss.register_hook(_no_memory)
        return {"loss": loss * math.nan if self.spoil == "nan" and batch.step > 1 else loss}


def _no_memory(gradient: Tensor) -> Tensor:
    raise MemoryError


def measure(model: object, view: object, settings: dict, generator: Generator) -> MetricValue:
    """The mean of the model's means, or what it is told to give instead."""
    how, scale = settings["as"], float(settings["scale"])
    time.sleep(settings["pause"])
    if how == "raise":
        raise RuntimeError("the metric was told to fail")
    if how == "diverge":
        raise Diverged("the metric left the finite numbers")
    if how == "nan":
        return MetricValue(math.nan)
    noise = float(torch.randn((), generator=generator))
    return MetricValue(scale * noise, math.nan if how == "nan error" else 0.5, 7, {"odd": math.inf, "noise": noise})
