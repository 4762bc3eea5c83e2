"""Diffusion Schrödinger bridge matching: two small networks, iterated (Shi et al. 2023, arXiv 2303.16852), both
directions at once on pairs that each simulates for the other (De Bortoli et al. 2024, arXiv 2409.09347)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Le
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, nets
from latentbench.papers.light_schrodinger_bridge.pairs import between, dimensions, moment
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn


@model(
    "dsbm",
    "Trainable Transporter",
    "diffusion Schrödinger bridge matching with two small networks",
    examples=(Example("pairs", {"hidden": (8,), "frequencies": 2, "steps": 4}),),
)
class DSBM(nn.Module):
    """Bridges from source to target and back. Each network predicts the far end of a Brownian bridge from a point on
    it and the time that is left; its drift is (prediction - x) / time left.

    For the share `pretrain` of training both learn from independent pairs (bridge matching). After that the forward
    network learns from (simulated backward from y, y), the backward one from (x, simulated forward from x): iterative
    Markovian fitting, whose fixed point is the Schrödinger bridge.

    Args:
        info: rows (2, D), source and target.
        epsilon: variance of the reference process at time 1.
        hidden: widths of each network.
        activation: tanh, relu, elu, silu or softplus.
        frequencies: the time enters as this many sines and cosines.
        steps: Euler-Maruyama steps of a simulation.
        pretrain: share of training on independent pairs.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        epsilon: PositiveFloat = 1.0,
        hidden: Sequence[PositiveInt] = (128, 128),
        activation: str = "silu",
        frequencies: PositiveInt = 8,
        steps: PositiveInt = 20,
        pretrain: Annotated[float, Ge(0), Le(1)] = 0.4,
    ) -> None:
        super().__init__()
        self.dims = dimensions("DSBM", info)
        self.epsilon = checks.number("epsilon", epsilon, above=True)
        self.steps = checks.whole("steps", steps)
        self.pretrain = checks.number("pretrain", pretrain, most=1.0)
        checks.one_of("activation", activation, nets.ACTIVATIONS)
        widths = checks.wholes("hidden", hidden)
        self.frequencies = checks.whole("frequencies", frequencies)
        n_in = self.dims + 2 * self.frequencies
        self.forth, self.back = (
            nn.Sequential(*nets.mlp(n_in, widths, activation), nn.Linear([n_in, *widths][-1], self.dims))
            for _ in range(2)
        )

    def _end(self, net: nn.Module, x: Tensor, left: Tensor) -> Tensor:
        """The predicted far end, from x (N, D) with the time `left` (N, 1) to it."""
        rates = math.pi * torch.arange(1, self.frequencies + 1, device=x.device, dtype=x.dtype)
        phase = left * rates
        return x + net(torch.cat([x, phase.sin(), phase.cos()], -1))

    def _matching(self, net: nn.Module, near: Tensor, far: Tensor, generator: Generator) -> Tensor:
        """E ‖prediction - far end‖² on Brownian bridges at uniform times (Shi et al. 2023, eq. 8, times its (1 - t)²:
        the same minimiser, without the pole at the end)."""
        left = torch.rand(len(near), 1, generator=generator, device=near.device, dtype=near.dtype)
        x = between(near, far, 1.0 - left, self.epsilon, generator)
        return (self._end(net, x, left) - far).square().sum(-1).mean()

    def _simulate(self, net: nn.Module, x: Tensor, until: float, generator: Generator) -> Tensor:
        """Euler-Maruyama from x over the share `until` of the way."""
        if until == 0.0:
            return x
        steps = max(1, round(self.steps * until))
        h = until / steps
        for i in range(steps):
            left = 1.0 - i * h
            end = self._end(net, x, x.new_full((len(x), 1), left))
            noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            x = x + (h / left) * (end - x) + math.sqrt(self.epsilon * h) * noise
        return x

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        source, target = batch.x[:, 0], batch.x[:, 1]
        starts, ends = source, target
        if batch.progress >= self.pretrain:
            with torch.no_grad():
                starts = self._simulate(self.back, target, 1.0, generator)
                ends = self._simulate(self.forth, source, 1.0, generator)
        forth = self._matching(self.forth, starts, target, generator)
        back = self._matching(self.back, ends, source, generator)
        return {"loss": forth + back, "forth": forth.detach(), "back": back.detach()}

    def transport(self, x: Tensor, generator: Generator, time: float = 1.0) -> Tensor:
        """The forward process at `time` from each x, (N, D) -> (N, D)."""
        return self._simulate(self.forth, x, moment(time), generator)
