"""One encoder a view, trained so that sets of views agree on what they share (arXiv 2311.04056, theorem 3.8).

Encoders h_k map views x_k to codes with one coordinate a latent. The loss of a set V of views that share latents C, in
the coordinates of C, is the authors' InfoNCE: with d_i = sum of |h_k(x_i) - h_l(x_i)|^2 over neighbours k, l in V, the
alignment, and d_ij = sum_k |h_k(x_i) - h_k(x'_j)|^2 to rows of another batch, which hold up the entropy,

    mean_i  d_i + log (e^-d_i + sum_j e^-d_ij).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Problem, Study
from numpy import ndarray
from pydantic import NonNegativeInt, PositiveInt
from scipy.linalg import block_diag, eigh
from scipy.spatial.distance import cdist
from torch import Generator, Tensor
from torch.nn import functional

from .views import LATENTS, SETS, VIEWS, World, shared

Arrays = Mapping[str, Any]
PAIRS = SETS[:6]
TRAINED = {"all": SETS, "pairs": PAIRS, "two": PAIRS[:1]}
HIDDEN, SLOPE, RATE = (64, 64, 64), 0.01, 5e-3  # of encoders and Adam
SAMPLE, RIDGE = 20_000, 1e-3  # of canonical correlation
GAMMAS, ALPHAS = (0.02, 0.1, 0.5), (1e-3, 1e-2, 1e-1, 1.0)  # of kernel regressions
SMALL = Example("real-vector", {"steps": 2, "batch": 16, "rows": 30})
BLOCKS = {f"{''.join(map(str, views))}-{k}": (k, shared(views)) for views in SETS for k in views}  # view, latents


def masks(sets: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """1 at latents that a set shares, for its views (S, 4, 6) and for neighbours among these, of `PAIRS` (S, 6, 6)."""
    held, near = torch.zeros(len(sets), len(VIEWS), LATENTS), torch.zeros(len(sets), len(PAIRS), LATENTS)
    for i, views in enumerate(sets):
        held[i][np.ix_(views, shared(views))] = 1.0
        near[i][np.ix_([PAIRS.index(pair) for pair in pairwise(views)], shared(views))] = 1.0
    return held, near


def contrast(h: Tensor, others: Tensor, held: Tensor, near: Tensor) -> Tensor:
    """The losses of codes h (4, B, 6) and those of another batch (4, M, 6), added over sets (see `masks`)."""
    first, second = zip(*PAIRS)
    together = torch.einsum("spc,pbc->sb", near, (h[list(first)] - h[list(second)]).square())
    h, others, held = h.transpose(0, 1).flatten(1), others.transpose(0, 1).flatten(1), held.flatten(1)
    squares = (held @ h.square().T)[:, :, None] + (held @ others.square().T)[:, None]
    apart = squares - 2.0 * (h * held[:, None]) @ others.T
    return (together + torch.logaddexp(-together, torch.logsumexp(-apart, 2))).mean(1).sum()


@model("shared-blocks", "Iterative Study", "latents that sets of views share, from the views", examples=(SMALL,))
class SharedBlocks(Study):
    """Answers for one world are blocks, ``01-0`` to ``0123-3``: codes (rows, |C|) of what a set shares, in one view.

    Args:
        info: of the data, which are not looked at.
        learner: encoders by ``contrast``, `variates` (``cca``), or the ``truth``, which says what can be had.
        dependent: see `World`.
        rows: that are judged, the first third of them to fit regressions on.
        sets: whose losses are added: ``all``, the six ``pairs``, or the first ``two`` views.
        steps, batch: of Adam, at a rate that falls linearly to 0, on twice as many rows, which are new at each step.
        units: of `variates`.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        learner: Literal["contrast", "cca", "truth"] = "contrast",
        dependent: bool = False,
        rows: PositiveInt = 1200,
        sets: Literal["all", "pairs", "two"] = "all",
        steps: NonNegativeInt = 2500,
        batch: PositiveInt = 128,
        units: NonNegativeInt = 250,
    ) -> None:
        super().__init__(info, problems=1)
        self.learner, self.dependent, self.rows, self.units = learner, dependent, rows, units
        self.sets, self.steps, self.batch = TRAINED[sets], steps, batch

    def problem(self, rng: np.random.Generator) -> Problem:
        world, z = judged(int(rng.integers(2**62)), self.dependent, self.rows)
        given = {"sample": lambda n, draws: world.observe(world.latents(n, draws)), "x": world.observe(z)}
        return Problem(given | ({"z": z} if self.learner == "truth" else {}), {"latents": z.numpy()})

    @torch.enable_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        draws = Generator().manual_seed(int(rng.integers(2**62)))
        if self.learner == "cca":
            return variates(given["sample"](SAMPLE, draws).numpy(), given["x"].numpy(), self.units, rng)
        if self.learner == "truth":
            return {name: given["z"].numpy()[:, latents] for name, (_, latents) in BLOCKS.items()}
        weights = network([len(VIEWS[0]), *HIDDEN, LATENTS], draws)
        adam, (held, near) = torch.optim.Adam(weights, lr=RATE), masks(self.sets)
        for step in range(self.steps):
            adam.param_groups[0]["lr"] = RATE * (1.0 - step / self.steps)
            h, others = encode(weights, given["sample"](2 * self.batch, draws)).chunk(2, dim=1)
            adam.zero_grad()
            contrast(h, others, held, near).backward()
            adam.step()
        codes = encode(weights, given["x"]).detach().double().numpy()
        return {name: codes[k][:, latents] for name, (k, latents) in BLOCKS.items()}


@lru_cache(maxsize=4)
def judged(seed: int, dependent: bool, rows: int) -> tuple[World, Tensor]:
    """A world, kept for other methods and for metrics, and latents (rows, 6)."""
    world = World(np.random.default_rng(seed), dependent)
    return world, world.latents(rows, Generator().manual_seed(seed))


def network(widths: Sequence[int], draws: Generator) -> list[Tensor]:
    """Weights (4, in, out) and biases (4, 1, out) of each layer, uniform within 1 / sqrt(in)."""
    shapes = [((len(VIEWS), rows, m), n**-0.5) for n, m in pairwise(widths) for rows in (n, 1)]
    return [(reach * (2.0 * torch.rand(shape, generator=draws) - 1.0)).requires_grad_() for shape, reach in shapes]


def encode(weights: list[Tensor], x: Tensor) -> Tensor:
    """(4, n, 5) to (4, n, 6), with leaky ReLUs between layers."""
    x = x.float()
    for i in range(0, len(weights), 2):
        x = torch.baddbmm(weights[i + 1], functional.leaky_relu(x, SLOPE) if i else x, weights[i])
    return x


def variates(sample: ndarray, new: ndarray, units: int, rng: np.random.Generator) -> Arrays:
    """Blocks of new rows (4, n, 5) by canonical correlation of sets (MAXVAR, Kettenring 1971) in a sample (4, N, 5).

    They are as many variates as latents are shared, of each view's coordinates and `units` random ReLUs of these.
    """
    draws = rng.standard_normal((len(VIEWS), sample.shape[2] + 1, units))
    x = (np.concatenate([sample, new], axis=1) - sample.mean(1, keepdims=True)) / sample.std(1, keepdims=True)
    x = np.concatenate([x, np.maximum(x @ draws[:, 1:] + draws[:, :1], 0.0)], axis=2)
    x, new = np.split(x - x[:, : sample.shape[1]].mean(1, keepdims=True), [sample.shape[1]], axis=1)
    maps = [(k, one) for v in SETS for k, one in zip(v, canonical(x[list(v)], len(shared(v))))]
    return {name: new[k] @ one for name, (k, one) in zip(BLOCKS, maps)}


def canonical(x: ndarray, d: int) -> ndarray:
    """(K, p, d): maps of centred x (K, n, p) to d variates, with a ridge of 0.001 of each view's mean variance."""
    k, n, p = x.shape
    flat = np.hstack(list(x))
    joint = flat.T @ flat / n
    own = [joint[i : i + p, i : i + p] for i in range(0, k * p, p)]
    inner = block_diag(*[one + RIDGE * np.trace(one) / p * np.eye(p) for one in own])
    return eigh(joint, inner, subset_by_index=[k * p - d, k * p - 1])[1].reshape(k, p, d)


def probe(x: ndarray, y: ndarray) -> ndarray:
    """(m,): R^2 of columns of y (n, m) by kernel ridge regression on x (n, d), fitted on the first third of the rows.

    Columns of x are standardised; width and penalty of the Gaussian kernel are those of the least error when one row is
    left out, for each column of y.
    """
    fit, rest = slice(len(x) // 3), slice(len(x) // 3, None)
    x, y = (x - x[fit].mean(0)) / np.maximum(x[fit].std(0), 1e-12), y - y[fit].mean(0)
    distances, least, found = cdist(x, x[fit], "sqeuclidean"), np.full(y.shape[1], np.inf), np.zeros_like(y)
    for gamma in GAMMAS:
        kernel = np.exp(-gamma * distances)
        values, vectors = np.linalg.eigh(kernel[fit])
        turned = vectors.T @ y[fit]
        for alpha in ALPHAS:
            inverse = 1.0 / (np.maximum(values, 0.0) + alpha)
            dual = (vectors * inverse) @ turned
            error = ((dual / (vectors**2 @ inverse)[:, None]) ** 2).mean(0)
            better = error < least
            least[better], found[:, better] = error[better], kernel @ dual[:, better]
    return 1.0 - ((y - found)[rest] ** 2).sum(0) / ((y[rest] - y[rest].mean(0)) ** 2).sum(0)


@lru_cache(maxsize=128)
def probed(x: bytes, y: bytes, rows: int) -> ndarray:
    """`probe` of the bytes of float64 arrays, kept for further metrics."""
    return probe(*(np.frombuffer(one).reshape(rows, -1) for one in (x, y)))


def scores(z: ndarray, block: ndarray, latents: list[int]) -> dict[str, float]:
    """What the metrics average, of a block (n, d) that should hold these latents of z (n, 6) and no other."""
    inside = np.isin(np.arange(LATENTS), latents)
    whole, true, codes = (np.ascontiguousarray(part).tobytes() for part in (z, z[:, inside], block))
    told, back = probed(codes, whole, len(z)), probed(true, codes, len(z))
    content = told[inside].mean()
    return {"content": content, "style": told[~inside].mean(), "bijection": min(content, back.mean())}


def over_blocks(model: Any, blocks: str, of: str) -> MetricValue:
    """Mean of a score over blocks whose names match a pattern."""
    chosen = [(name, latents) for name, (_, latents) in BLOCKS.items() if fnmatch(name, blocks)]
    return over_problems(model, lambda z, a: float(np.mean([scores(z["latents"], a[k], c)[of] for k, c in chosen])))


@metric("block_r2", "Study", "1", "higher", settings={"of": "bijection", "blocks": "*"}, within=(None, 1.0))
def block_r2(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """R^2 (see `probe`) of shared latents in blocks (``content``), or the lesser of that and back (``bijection``)."""
    return over_blocks(model, settings["blocks"], settings["of"])


@metric("block_style_r2", "Study", "1", "lower", within=(None, 1.0))
def block_style_r2(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """R^2 of the latents that are not shared: what dependence leaves, in the row of the true shared ones."""
    return over_blocks(model, "*", "style")
