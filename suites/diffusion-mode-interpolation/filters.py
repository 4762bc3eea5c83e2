"""Which samples of a diffusion model are hallucinations? Scores that are higher where one is likelier.

The paper's is the variance of the predicted clean sample over the last steps of its trajectory,

    Hal(x) = mean_d mean_t (x_hat_t,d - mean_t x_hat_t,d)^2,    t = window - 1 ... 0

(`train_toy_filter.py` of the authors' code). It needs neither the data nor their law; its rivals are chance, and the
distance to the training rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.papers.diffusion_mode_interpolation.ddpm import SmallDDPM
from pydantic import PositiveInt
from torch import Generator, Tensor, nn

_SMALL = {"timesteps": 20, "width": 8, "layers": 1}
_STAGES = {"in_stages": [{"name": "ddpm"}, {"name": "filter"}]}
BLOCK = 1000


class Variance(nn.Module):
    """The paper's score."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def fit(self, x: Tensor, generator: Generator) -> None:
        """Count the rows, and learn nothing from them."""
        self.seen.fill_(len(x))

    def score(self, x: Tensor, guesses: Tensor, generator: Generator) -> Tensor:
        """(N,) of samples x (N, D) and their last predictions `guesses` (window, N, D)."""
        return guesses.var(0, unbiased=False).mean(1)


class Chance(Variance):
    """A uniform number."""

    def score(self, x: Tensor, guesses: Tensor, generator: Generator) -> Tensor:
        return torch.rand(len(x), generator=generator, device=x.device)


class Density(Variance):
    """Distance to the k-th nearest training row: a density estimate, turned over."""

    rows: Tensor

    def __init__(self, info: DataInfo, neighbours: int) -> None:
        super().__init__()
        self.neighbours = min(neighbours, info.n_train)
        self.register_buffer("rows", torch.zeros(info.n_train, info.dims))

    def fit(self, x: Tensor, generator: Generator) -> None:
        """Keep the training rows, over and over where there are fewer than the data's."""
        super().fit(x, generator)
        self.rows.copy_(x[torch.arange(len(self.rows), device=x.device) % len(x)])

    def score(self, x: Tensor, guesses: Tensor, generator: Generator) -> Tensor:
        # plain differences: the product form loses the digits that count
        blocks = [torch.cdist(part, self.rows, compute_mode="donot_use_mm_for_euclid_dist") for part in x.split(BLOCK)]
        return torch.cat([block.kthvalue(self.neighbours, 1).values for block in blocks])


@model(
    "ddpm-filter",
    "Staged Sampler",
    "samples of a `small-ddpm`, each with a score of how likely it is to be a hallucination",
    stages=("ddpm", "filter"),
    examples=(
        Example("real-vector", {"ddpm": _SMALL, "window": 3}, training=_STAGES),
        Example("real-vector", {"ddpm": _SMALL, "by": "chance"}, training=_STAGES),
        Example("real-vector", {"ddpm": _SMALL, "by": "density", "neighbours": 2}, training=_STAGES),
    ),
)
class DDPMFilter(nn.Module):
    """Two stages: ``ddpm``, then ``filter``.

    Args:
        info: real vectors.
        ddpm: parameters of the `SmallDDPM`.
        by: the score.
        window: last steps that ``variance`` looks at.
        neighbours: k of ``density``.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        ddpm: Mapping[str, Any],
        by: Literal["variance", "chance", "density"] = "variance",
        window: PositiveInt = 10,
        neighbours: PositiveInt = 10,
    ) -> None:
        super().__init__()
        self.ddpm = SmallDDPM(info, **ddpm)
        self.window = window
        kinds = {"variance": Variance, "chance": Chance}
        self.filter = Density(info, neighbours) if by == "density" else kinds[by]()

    def stages(self) -> Mapping[str, Any]:
        return {"ddpm": self.ddpm, "filter": self.filter}

    @torch.no_grad()
    def scored(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Samples (n, D) and their scores (n,)."""
        x, guesses = self.ddpm.trace(n, self.window, generator)
        return x, self.filter.score(x, guesses, generator)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, D), filtered or not: no sample is left out."""
        return self.ddpm.sample(n, generator)
