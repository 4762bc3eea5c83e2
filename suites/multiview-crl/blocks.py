"""One encoder a view, trained so that sets of views agree on what they share (arXiv 2311.04056, theorem 3.8).

Encoders h_k map views x_k to codes with a coordinate for each latent. The loss of a set of views V with shared latents
C, of coordinates C alone, is the authors' InfoNCE: with d_i = sum over neighbours k, l in V of |h_k(x_i) - h_l(x_i)|^2,
the alignment, and d_ij = sum_k |h_k(x_i) - h_k(x'_j)|^2, whose soft minimum holds up the entropy,

    mean_i  d_i + log (e^-d_i + sum_j e^-d_ij),

for a batch x and another one x' of as many rows. The losses of all sets are added.
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
from scipy.spatial.distance import cdist
from torch import Generator, Tensor
from torch.nn import functional

from .views import LATENTS, SETS, VIEWS, World, shared

Arrays = Mapping[str, Any]
FITTED, ROWS = 400, 1200  # rows that probes are fitted on, and all that are encoded
GAMMAS, ALPHAS = (0.02, 0.1, 0.5), (1e-3, 1e-2, 1e-1, 1.0)
TRAINED = {"all": SETS, "pairs": SETS[:6], "two": SETS[:1]}
HIDDEN, SLOPE, RATE = (64, 64, 64), 0.01, 2e-3  # of encoders and Adam
SAMPLE, RIDGE = 20_000, 1e-3  # of canonical correlation


def masks(sets: Sequence[tuple[int, ...]]) -> Tensor:
    """(S, 4, 6): whether a set has the view, and its views share the latent."""
    found = torch.zeros(len(sets), len(VIEWS), LATENTS)
    for mask, views in zip(found, sets):
        mask[np.ix_(views, shared(views))] = 1.0
    return found


def contrast(h: Tensor, others: Tensor, sets: Sequence[tuple[int, ...]]) -> Tensor:
    """The loss of codes h (4, B, 6) and those of other rows (4, M, 6), added over sets."""
    mask = masks(sets)
    flat, rows, columns = mask.flatten(1), h.transpose(0, 1).flatten(1), others.transpose(0, 1).flatten(1)
    apart = (flat @ rows.square().T)[:, :, None] + (flat @ columns.square().T)[:, None]
    apart = apart - 2.0 * (flat[:, None] * rows) @ columns.T
    gaps = [[(m[k] * (h[k] - h[j]).square()).sum(1) for k, j in pairwise(views)] for m, views in zip(mask, sets)]
    together = torch.stack([torch.stack(one).sum(0) for one in gaps])
    return (together + torch.logaddexp(-together, torch.logsumexp(-apart, 2))).mean(1).sum()


class Blocks(Study):
    """Answers for one world are the blocks ``01-0`` to ``0123-3``: (1200, |C|) codes of C, of a set and a view.

    Args:
        info: of the data, which are not looked at.
        dependent: see `World`.
    """

    def __init__(self, info: DataInfo, *, dependent: bool = False) -> None:
        super().__init__(info, problems=1)
        self.dependent = dependent

    def problem(self, rng: np.random.Generator) -> Problem:
        world, z = judged(int(rng.integers(2**62)), self.dependent)
        given = {"sample": lambda n, draws: world.observe(world.latents(n, draws)), "x": world.observe(z), "z": z}
        return Problem(given, {"latents": z.numpy()})


@lru_cache(maxsize=4)
def judged(seed: int, dependent: bool) -> tuple[World, Tensor]:
    """A world, kept for other methods and for metrics, and latents (1200, 6) to be judged by."""
    world = World(np.random.default_rng(seed), dependent)
    return world, world.latents(ROWS, Generator().manual_seed(seed))


def names() -> dict[str, tuple[tuple[int, ...], int]]:
    """Set and view of each block."""
    return {f"{''.join(map(str, views))}-{k}": (views, k) for views in SETS for k in views}


@model(
    "multiview-encoders",
    "Iterative Study",
    "shared latents by contrast of views, one encoder a view",
    examples=(Example("real-vector", {"steps": 2, "batch": 16}), Example("real-vector", {"steps": 1, "sets": "two"})),
)
class MultiviewEncoders(Blocks):
    """Encoders whose coordinate i is latent i's in all losses: content selectors that are the true ones.

    Args:
        sets: whose losses are added: ``all`` eleven of two views and more, the six ``pairs``, or the first ``two`` views.
        steps, batch: of Adam, whose rate falls linearly to 0, on twice as many rows, new at each step.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        dependent: bool = False,
        sets: Literal["all", "pairs", "two"] = "all",
        steps: NonNegativeInt = 1200,
        batch: PositiveInt = 256,
    ) -> None:
        super().__init__(info, dependent=dependent)
        self.sets, self.steps, self.batch = TRAINED[sets], steps, batch

    @torch.enable_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        draws = Generator().manual_seed(int(rng.integers(2**62)))
        weights = network([len(VIEWS[0]), *HIDDEN, LATENTS], draws)
        adam = torch.optim.Adam(weights, lr=RATE)
        for step in range(self.steps):
            adam.param_groups[0]["lr"] = RATE * (1.0 - step / self.steps)
            h, others = encode(weights, given["sample"](2 * self.batch, draws)).chunk(2, dim=1)
            adam.zero_grad()
            contrast(h, others, self.sets).backward()
            adam.step()
        codes = encode(weights, given["x"]).detach().double().numpy()
        return {name: codes[k][:, shared(views)] for name, (views, k) in names().items()}


def network(widths: Sequence[int], draws: Generator) -> list[Tensor]:
    """Weights (4, in, out) and biases (4, 1, out) of each layer, uniform within 1 / sqrt(in)."""
    shapes = [(shape, n**-0.5) for n, m in pairwise(widths) for shape in ((n, m), (1, m))]
    return [(reach * (2.0 * torch.rand(len(VIEWS), *s, generator=draws) - 1.0)).requires_grad_() for s, reach in shapes]


def encode(weights: list[Tensor], x: Tensor) -> Tensor:
    """(4, n, 5) to (4, n, 6), with leaky ReLUs between layers."""
    x = x.float()
    for i in range(0, len(weights), 2):
        x = torch.baddbmm(weights[i + 1], functional.leaky_relu(x, SLOPE) if i else x, weights[i])
    return x


@model(
    "generalised-cca",
    "Iterative Study",
    "canonical variates of sets of views",
    examples=(Example("real-vector", {"units": 3}),),
)
class GeneralisedCCA(Blocks):
    """MAXVAR generalised canonical correlation (Kettenring 1971) of each set, as many variates as latents are shared.

    Args:
        units: random ReLUs of each view that stand beside its coordinates.
    """

    def __init__(self, info: DataInfo, *, dependent: bool = False, units: NonNegativeInt = 100) -> None:
        super().__init__(info, dependent=dependent)
        self.units = units

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        draws = Generator().manual_seed(int(rng.integers(2**62)))
        sample, x = given["sample"](SAMPLE, draws).numpy(), given["x"].numpy()
        mean, std = sample.mean(1, keepdims=True), sample.std(1, keepdims=True)
        units = rng.standard_normal((len(VIEWS), x.shape[2] + 1, self.units))

        def lifted(rows: ndarray) -> ndarray:
            rows = (rows - mean) / std
            return np.concatenate([rows, np.maximum(rows @ units[:, 1:] + units[:, :1], 0.0)], axis=2)

        features = lifted(sample)
        centre = features.mean(1, keepdims=True)
        maps = {views: canonical((features - centre)[list(views)], len(shared(views))) for views in SETS}
        tests = lifted(x) - centre
        return {name: tests[k] @ maps[views][views.index(k)] for name, (views, k) in names().items()}


def canonical(x: ndarray, d: int) -> ndarray:
    """(K, p, d): maps of centred x (K, n, p) to the d variates of MAXVAR, with a ridge of 0.001 of the mean variance."""
    k, n, p = x.shape
    joint = (x.transpose(0, 2, 1)[:, None] @ x[None]) / n
    whiten = []
    for i in range(k):
        values, vectors = np.linalg.eigh(joint[i, i])
        whiten.append(vectors / np.sqrt(values + RIDGE * values.mean()))
    stacked = np.block([[whiten[i].T @ joint[i, j] @ whiten[j] for j in range(k)] for i in range(k)])
    top = np.linalg.eigh(stacked)[1][:, ::-1][:, :d].reshape(k, p, d)
    return np.stack(whiten) @ top


@model("true-blocks", "Iterative Study", "the shared latents themselves", examples=(Example("real-vector", {}),))
class TrueBlocks(Blocks):
    """What any perfect answer would be measured at."""

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        return {name: given["z"].numpy()[:, shared(views)] for name, (views, _) in names().items()}


def probe(x: ndarray, y: ndarray) -> ndarray:
    """(m,): R^2 of each column of y (n, m) by kernel ridge regression on x (n, d), on the rows after the first 400.

    It is fitted on these, with columns of x standardised, width and penalty of a Gaussian kernel by leaving one out.
    """
    first = slice(FITTED)
    x = (x - x[first].mean(0)) / np.maximum(x[first].std(0), 1e-12)
    y = y - y[first].mean(0)
    distances, least, found = cdist(x, x[first], "sqeuclidean"), np.full(y.shape[1], np.inf), np.zeros_like(y)
    for gamma in GAMMAS:
        kernel = np.exp(-gamma * distances)
        values, vectors = np.linalg.eigh(kernel[first])
        turned = vectors.T @ y[first]
        for alpha in ALPHAS:
            kept = 1.0 / (np.maximum(values, 0.0) + alpha)
            dual = (vectors * kept) @ turned
            error = ((dual / (vectors**2 @ kept)[:, None]) ** 2).mean(0)
            better = error < least
            least[better] = error[better]
            found[:, better] = kernel @ dual[:, better]
    rest = slice(FITTED, None)
    return 1.0 - ((y - found)[rest] ** 2).sum(0) / ((y[rest] - y[rest].mean(0)) ** 2).sum(0)


@lru_cache(maxsize=128)
def probed(x: bytes, y: bytes) -> ndarray:
    """`probe` of the bytes of float64 arrays of 1200 rows, kept for further metrics."""
    return probe(*(np.frombuffer(one).reshape(ROWS, -1) for one in (x, y)))


def scores(z: ndarray, block: ndarray, of: list[int]) -> dict[str, float]:
    """The metrics' parts, of a block (1200, d) that should hold the latents `of` of z (1200, 6) and no other."""
    inside = np.isin(np.arange(LATENTS), of)
    whole, true, codes = (np.ascontiguousarray(part).tobytes() for part in (z, z[:, inside], block))
    told, expected = probed(codes, whole), probed(true, whole)
    content = told[inside].mean()
    return {
        "content": content,
        "style": told[~inside].mean(),
        "excess": np.abs(told - expected)[~inside].mean(),
        "identified": min(content, probed(true, codes).mean()),
    }


def over_blocks(model: Any, settings: Arrays, part: str) -> MetricValue:
    """Mean of one of the `scores` over blocks whose names match the pattern ``blocks``."""
    chosen = {name: views for name, (views, _) in names().items() if fnmatch(name, settings["blocks"])}
    return over_problems(
        model,
        lambda truth, answer: np.mean(
            [scores(truth["latents"], answer[name], shared(views))[part] for name, views in chosen.items()]
        ),
    )


@metric("content_r2", "Study", "1", "higher", settings={"blocks": "*"}, within=(None, 1.0))
def content_r2(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """R^2 (see `probe`) of latents that a set of views shares in its blocks, mean over latents and blocks."""
    return over_blocks(model, settings, "content")


@metric("style_r2", "Study", "1", "lower", settings={"blocks": "*"}, within=(None, 1.0))
def style_r2(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """R^2 of all other latents: above 0 for a perfect block too where latents depend on each other."""
    return over_blocks(model, settings, "style")


@metric("style_r2_excess", "Study", "1", "lower", settings={"blocks": "*"}, within=(0.0, None))
def style_r2_excess(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean absolute difference of these from the R^2 that the true shared latents give on the same rows."""
    return over_blocks(model, settings, "excess")


@metric("block_identification", "Study", "1", "higher", settings={"blocks": "*"}, within=(None, 1.0))
def block_identification(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """The lesser of two R^2, of shared latents in the block and of the block in shared latents, mean over blocks.

    It is 1 for a smooth bijection of the shared latents alone; the second falls where the block holds anything else,
    whether latents depend on each other or not.
    """
    return over_blocks(model, settings, "identified")
