"""Likelihood of a decoder on perturbed data, and its rivals (Chae, Kim, Kim & Lin 2023, arXiv 2105.04046).

Rows x of a singular law are perturbed, x + s e with e ~ N(0, I), and p(x) = E_z N(x; g(z), sigma^2 I), z ~ N(0, I), is
fitted to them, network g and number sigma, by the importance-weighted bound L_k of Burda et al. 2016 (arXiv 1509.00519,
eq. 8). The estimate of the law is that of g(z): noise is dropped. Without perturbation the likelihood has no bound:
sigma goes to 0 where g meets the rows, whatever weight it puts there.

Decoders for all n and s are lanes of one batch: each has its own weights, and all see the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities
from latentbench.models.study import Arrays
from latentbench.papers.noise_perturbed_mle.laws import ManifoldStudy, spread, wasserstein
from pydantic import NonNegativeFloat, PositiveInt
from scipy.stats import norm
from torch import Generator, Tensor

EXAMPLES = (Example("real-vector", {"problems": 2, "rows": (4, 8), "dims": 3}),)
TRAINED = (Example("real-vector", {"problems": 2, "rows": (4, 8), "dims": 3, "steps": 3}),)
LATENT, HIDDEN = 2, 32  # latents; units of each of two hidden layers, in encoders and decoders
BATCH, K, RATE = 50, 5, 0.01  # rows a step, importance samples, Adam's first step size
LEVELS = (0.025, 0.05, 0.1, 0.2, 0.4)
Levels = Sequence[NonNegativeFloat]


def layers(lanes: int, sizes: Sequence[int], generator: Generator, starts: int = 1) -> list[Tensor]:
    """Weights (lanes, in, out), Glorot, and biases (lanes, 1, out), 0, in turn; every `starts`-th lane begins alike."""
    made = []
    for a, b in pairwise(sizes):
        weight = math.sqrt(6 / (a + b)) * (2 * torch.rand(starts, a, b, generator=generator) - 1)
        made += [weight.repeat(lanes // starts, 1, 1), torch.zeros(lanes, 1, b)]
    return [p.requires_grad_() for p in made]


def network(x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """(lanes, N, in) to (lanes, N, out), ReLU between layers."""
    for i in range(0, len(parameters), 2):
        x = torch.baddbmm(parameters[i + 1], torch.relu(x) if i else x, parameters[i])
    return x


def bound(x: Tensor, noise: Tensor, encoder: list[Tensor], decoder: list[Tensor], log_sigma: Tensor) -> Tensor:
    """L_k, (lanes, N) nats, of x (lanes, N, D) at standard normal `noise` (k, N, latent); log sigma (lanes,)."""
    mean, log_std = network(x, encoder).chunk(2, -1)
    z = mean[:, None] + log_std.exp()[:, None] * noise
    y = network(z.flatten(1, 2), decoder).unflatten(1, noise.shape[:2])
    log_p = densities.normal(x[:, None], y, log_sigma[:, None, None, None]) + densities.standard_normal(z)
    log_q = densities.standard_normal(noise) - log_std.sum(-1)[:, None]
    return densities.importance_weighted_bound((log_p - log_q).transpose(0, 1))


@model("perturbed-decoder", "Iterative Study", "decoders by L_k on data with noise that is dropped", examples=TRAINED)
class PerturbedDecoder(ManifoldStudy):
    """Decoders for each n and level; rows held out choose among those of an n, by the distance of g(z) from them.

    Args:
        levels: s, deviations of the noise; of the decoder (sigma) where `fixed`, with rows as they are.
        fixed: see `levels`; else sigma is learnt, from 0.3.
        starts: decoders for each n and level, from other weights.
        steps: of Adam, whose step size falls along a cosine to 0.
        **design: of `ManifoldStudy`.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        levels: Levels = LEVELS,
        fixed: bool = False,
        starts: PositiveInt = 1,
        steps: PositiveInt = 2500,
        **design: Any,
    ) -> None:
        super().__init__(info, **design)
        if not levels or list(levels) != sorted(set(levels)) or (fixed and not levels[0]):
            raise UserError(f"levels {levels}", fix="rising ones; above 0 where sigma is held at them")
        self.levels = tuple(float(level) for level in levels for _ in range(checks.whole("starts", starts)))
        self.fixed, self.starts, self.steps = checks.flag("fixed", fixed), starts, steps
        self.cells = [(n, level) for n in self.rows for level in self.levels]

    def perturbed(self, x: Tensor, draws: Generator) -> Tensor:
        """A batch (lanes, batch, D) of x (N, D): places among the first n, and e, are one draw for all lanes."""
        n, level = torch.tensor(self.cells, dtype=torch.float64).T[..., None]
        chosen = (torch.rand(BATCH, generator=draws, dtype=torch.float64) * n).long()
        noise = torch.randn(BATCH, x.shape[1], generator=draws)
        return x[chosen] if self.fixed else x[chosen] + level.float()[..., None] * noise

    def trained(self, x: Tensor, draws: Generator) -> tuple[list[Tensor], Tensor]:
        """Parameters of the decoders, and log sigma (lanes,), trained on x (N, D)."""
        encoder = layers(len(self.cells), (self.dims, HIDDEN, HIDDEN, 2 * LATENT), draws, self.starts)
        decoder = layers(len(self.cells), (LATENT, HIDDEN, HIDDEN, self.dims), draws, self.starts)
        log_sigma = torch.tensor([level if self.fixed else 0.3 for _, level in self.cells]).log()
        learnt = [*encoder, *decoder, *([] if self.fixed else [log_sigma.requires_grad_()])]
        optimiser = torch.optim.Adam(learnt, lr=RATE, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        for _ in range(self.steps):
            rows, noise = self.perturbed(x, draws), torch.randn(K, BATCH, LATENT, generator=draws)
            optimiser.zero_grad()
            (-bound(rows, noise, encoder, decoder, log_sigma).mean(1).sum()).backward()  # lanes share no weight
            optimiser.step()
            schedule.step()
        return decoder, log_sigma.detach()

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        draws, shape = torch.Generator().manual_seed(int(rng.integers(2**62))), (len(self.rows), len(self.levels))
        decoder, _ = self.trained(torch.tensor(given["x"], dtype=torch.float32), draws)
        z = torch.tensor(norm.ppf(spread(self.rows[-1], LATENT, rng)), dtype=torch.float32)
        points = network(z.repeat(len(self.cells), 1, 1), decoder).detach().unflatten(0, shape).numpy()
        held_out = [given["x"][self.rows[-1] :][:n] for n in self.rows]
        found = [[wasserstein(p, y) for p in by] for by, y in zip(points, held_out, strict=True)]
        return {"points": points, "chosen": np.argmin(found, 1)}


@model("reference-law", "Iterative Study", "rows, the normal law fitted to them, or the true law", examples=EXAMPLES)
class ReferenceLaw(ManifoldStudy):
    """The law of the n rows; the normal one of their moments; or the true one, the distance's floor."""

    def __init__(self, info: DataInfo, *, law: Literal["rows", "normal", "truth"] = "rows", **design: Any) -> None:
        super().__init__(info, **design)
        self.law = checks.one_of("law", law, ("rows", "normal", "truth"))

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        points, most = [], self.rows[-1]
        for x in (given["x"][:n] for n in self.rows):
            values, vectors = np.linalg.eigh(np.cov(x.T))
            normal = x.mean(0) + norm.ppf(spread(most, self.dims, rng)) * values.clip(min=0) ** 0.5 @ vectors.T
            rows = np.repeat(x, most // len(x), 0)
            points.append({"rows": rows, "normal": normal, "truth": given["other"]}[self.law])
        return {"points": np.stack(points)[:, None], "chosen": [0] * len(points)}
