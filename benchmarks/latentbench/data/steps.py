"""The steps of preprocessing. Each maps float32 rows to float32 rows and knows log |dy/dx|, so that densities of y
convert exactly into densities of the stored data.

A step is bound to the `State` of what comes before it, which says where its values lie; then it maps rows, and back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from latentbench.core.errors import UserError
from latentbench.core.types import Support
from latentbench.data.draws import hashed_uniform, uniform
from latentbench.data.step import Learner, State, Step
from latentbench.declare import step


@step("flatten", same_quantity=True)
class Flatten(Step):
    """(C, H, W) -> (C*H*W,), or any shape to a vector."""

    name = "flatten"

    def bind(self, state: State) -> State:
        self._shape = state.shape
        return replace(state, shape=(state.dims,))

    def map(self, y: Tensor) -> Tensor:
        return y.reshape(len(y), -1)

    def inverse(self, y: Tensor) -> Tensor:
        return y.reshape(len(y), *self._shape)


@step("to_range", same_quantity=True)
class ToRange(Step):
    """[0, top] -> [low, high], affinely. `top` is the highest level (255), or the number of levels once dequantised."""

    name = "to_range"

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UserError(f"to_range needs low < high, not {low}, {high}")
        self.low, self.high = float(low), float(high)

    def params(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}

    def bind(self, state: State) -> State:
        if state.top is None:
            raise UserError(f"{self.name} needs values of a known range", fix="use standardise for real-valued data")
        self._scale = (self.high - self.low) / state.top
        self.log_volume = state.dims * math.log(self._scale)
        unit = self.low == 0 and self.high == 1
        support: Support = "binary" if unit and state.levels == 2 else "unit" if unit else "real"
        return replace(state, support=support, top=self.high if self.low == 0 else None, levels=None)

    def map(self, y: Tensor) -> Tensor:
        y = y.mul_(self._scale)
        return y.add_(self.low) if self.low else y

    def inverse(self, y: Tensor) -> Tensor:
        return (y - self.low) / self._scale


@step("to_unit", same_quantity=True)
class ToUnit(ToRange):
    """[0, top] -> [0, 1]."""

    name = "to_unit"

    def __init__(self) -> None:
        super().__init__(0.0, 1.0)

    def params(self) -> dict[str, Any]:
        return {}


@step("dequantise")
class Dequantise(Step):
    """Adds uniform noise on [0, 1) to integer values (Uria, Murray & Larochelle 2013; Theis et al. 2016).

    A density of x + u, averaged over u, is at most the probability of the integer x: so -log p(x + u) bounds its
    negative log-probability from above, in expectation, with no constant to add.
    """

    name = "dequantise"
    stochastic = True

    def __init__(self, noise: str = "uniform") -> None:
        if noise != "uniform":
            raise UserError(f"dequantise: noise {noise!r} is not known", fix="uniform")
        self.noise = noise

    def params(self) -> dict[str, Any]:
        return {"noise": self.noise}

    def bind(self, state: State) -> State:
        if state.support not in ("discrete", "binary") or state.levels is None:
            raise UserError("dequantise needs the integer values as stored", fix="put it first, before to_unit")
        self._levels = state.levels
        # below the next integer even where float32 rounds 255 + 0.99999997 up to 256
        self._limit = float(torch.nextafter(torch.tensor(float(state.levels)), torch.tensor(0.0)))
        return replace(state, support="real", top=float(state.levels), levels=None, dequantised=True)

    def forward(self, y: Tensor, generator: Generator | None) -> Tensor:
        return y.add_(uniform(y, generator)).clamp_(max=self._limit)

    def inverse(self, y: Tensor) -> Tensor:
        return y.floor().clamp(0, self._levels - 1)

    def mean(self, mean: Tensor) -> Tensor:
        return mean + 0.5


@step("logit", same_quantity=True)
class Logit(Step):
    """[0, top) -> R: logit(alpha + (1 - alpha) x / top) as in Real NVP (Dinh et al. 2017, section 4.1); `symmetric`
    takes logit(alpha + (1 - 2 alpha) x / top) instead, as in MAF (Papamakarios et al. 2017, section 4.3)."""

    name = "logit"
    linear = False
    log_volume = None

    def __init__(self, alpha: float = 0.05, symmetric: bool = False) -> None:
        if not 0 < alpha < 0.5:
            raise UserError(f"logit: alpha must lie in (0, 0.5), not {alpha}")
        self.alpha, self.symmetric = float(alpha), bool(symmetric)

    def params(self) -> dict[str, Any]:
        return {"alpha": self.alpha, "symmetric": self.symmetric}

    def bind(self, state: State) -> State:
        if state.top is None or not state.dequantised:
            raise UserError("logit needs dequantised values of a known range", fix="put dequantise before it")
        self._slope = (1 - (2 if self.symmetric else 1) * self.alpha) / state.top
        self._dims = state.dims
        return replace(state, support="real", top=None)

    def map(self, y: Tensor) -> Tensor:
        p = y.mul_(self._slope).add_(self.alpha)
        return torch.log(p).sub_(torch.log1p(-p))

    def log_abs_det(self, after: Tensor) -> Tensor:
        # d logit(p)/dp = 1 / (p (1 - p)), and -log p - log(1 - p) = softplus(-y) + softplus(y)
        softplus = torch.nn.functional.softplus
        per_row = softplus(after).add_(softplus(-after)).flatten(1).sum(1)
        return per_row + self._dims * math.log(self._slope)

    def inverse(self, y: Tensor) -> Tensor:
        return (torch.sigmoid(y) - self.alpha) / self._slope


@step("binarise")
class Binarise(Step):
    """Intensities to bits.

    `dynamic` draws Bernoulli(intensity) anew each time (Salakhutdinov & Murray 2008; Burda et al. 2016); `static`
    draws once: a row has the same bits whenever and in whatever batch it comes, by hashing its values with `seed`;
    `deterministic` sets those above `threshold`.
    """

    name = "binarise"
    new_variable = True

    def __init__(self, mode: str = "dynamic", seed: int = 0, threshold: float = 0.5) -> None:
        if mode not in ("dynamic", "static", "deterministic"):
            raise UserError(f"binarise: mode {mode!r} is not known", fix="dynamic, static or deterministic")
        self.mode, self.seed, self.threshold = mode, int(seed), float(threshold)
        self.stochastic = mode == "dynamic"
        self.linear = mode == "dynamic"

    def params(self) -> dict[str, Any]:
        extra: dict[str, dict[str, Any]] = {
            "static": {"seed": self.seed},
            "deterministic": {"threshold": self.threshold},
            "dynamic": {},
        }
        return {"mode": self.mode, **extra[self.mode]}

    def bind(self, state: State) -> State:
        if state.top is None or state.support == "real":
            raise UserError("binarise needs intensities of a known range", fix="put it before other steps than to_unit")
        self._top = state.top
        return replace(state, support="binary", top=1.0, levels=2, dequantised=False)

    def forward(self, y: Tensor, generator: Generator | None) -> Tensor:
        if self.mode == "deterministic":
            return y.div_(self._top).gt_(self.threshold)
        draws = uniform(y, generator) if self.mode == "dynamic" else hashed_uniform(y, self.seed)
        return torch.lt(draws, y.div_(self._top), out=y)

    def inverse(self, y: Tensor) -> Tensor:
        return y * self._top

    def mean(self, mean: Tensor) -> Tensor:
        return mean / self._top


@step("standardise", same_quantity=True)
class Standardise(Learner):
    """(x - mean) / standard deviation, both of the training split: of each `coordinate`, each `channel` (first axis),
    or of `all` values. What never varies is only centred."""

    name = "standardise"

    def __init__(self, per: str = "coordinate") -> None:
        if per not in ("coordinate", "channel", "all"):
            raise UserError(f"standardise: per {per!r} is not known", fix="coordinate, channel or all")
        self.per = per

    def params(self) -> dict[str, Any]:
        return {"per": self.per}

    def bind(self, state: State) -> State:
        if state.levels is not None:
            raise UserError("standardise needs real values", fix="put dequantise or to_unit before it")
        if self.per == "channel" and len(state.shape) < 2:
            raise UserError("standardise per channel needs channels", fix="put flatten after it")
        self._shape = state.shape
        return replace(state, support="real", top=None)

    def fit(self, rows: Iterable[Tensor]) -> None:
        first = {"coordinate": len(self._shape) + 1, "channel": 2, "all": 1}[self.per]
        axes = (0, *range(first, len(self._shape) + 1))
        count = 0
        for y in rows:
            y = y.to("cpu", torch.float64)
            if count == 0:  # sums about a first guess of the mean lose no digits to a large offset
                guess = y.mean(axes, keepdim=True)
                total, squares = torch.zeros_like(guess), torch.zeros_like(guess)
            total += (y - guess).sum(axes, keepdim=True)
            squares += (y - guess).square().sum(axes, keepdim=True)
            count += y.numel() // guess.numel()
        if count == 0:
            raise UserError("standardise cannot be fitted on no rows")
        mean = guess + total / count
        deviation = (squares / count - (total / count).square()).clamp(min=0).sqrt()
        varies = deviation > 1e-6 * mean.abs().clamp(min=1e-6)
        scale = torch.where(varies, deviation, torch.ones_like(deviation))
        self._shift, self._scale = mean[0].to(torch.float32), scale[0].to(torch.float32)
        self.log_volume = -float(scale[0].log().expand(self._shape).sum())
        self.fitted = True

    def map(self, y: Tensor) -> Tensor:
        return y.sub_(self._shift.to(y.device)).div_(self._scale.to(y.device))

    def inverse(self, y: Tensor) -> Tensor:
        return y * self._scale.to(y.device) + self._shift.to(y.device)


@step("flip", same_quantity=True)
class Flip(Step):
    """Mirrors each training image left to right with probability 1/2."""

    name = "flip"
    stochastic = True
    train_only = True

    def bind(self, state: State) -> State:
        if len(state.shape) != 3:
            raise UserError("flip needs images", fix="put it before flatten")
        return state

    def forward(self, y: Tensor, generator: Generator | None) -> Tensor:
        heads = uniform(y[:, 0, 0, 0], generator) < 0.5
        return torch.where(heads[:, None, None, None], y.flip(-1), y)

    def mean(self, mean: Tensor) -> Tensor:
        return mean  # train-only steps are no part of the data that a mean describes
