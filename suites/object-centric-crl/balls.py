"""Properties of balls from pictures, by pairs between which one property of one ball shifts (arXiv 2310.19054).

Pairs tell which property shifted and its sign. Slots, trained on pictures, share heads; the best two are taken:

    min_jk |h(s_j) + b - h(s'_k)|^2,   b the sign, 0 for other properties;   one vector has to be told the ball too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.metrics.codes.matching import mcc
from latentbench.models.nets import mlp
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor, nn

from .scenes import PALETTE, SIZE, cover, grid, pairs, render
from .slots import WIDTH, SlotAutoencoder

CODES, WARMUP, CLIP, MATCHINGS = 3, 50, 1.0, 10  # a ball; steps; norm of gradients; rounds of `matched`
SHIFT, WEIGHT = 0.1, 100.0  # of a slot's code; of the error of pictures, whose gradient is then held to `CLIP`
SMALL = {"rows": 12, "steps": 2, "batch": 3}
EXAMPLES = (
    Example("real-vector", SMALL),
    Example("real-vector", {**SMALL, "learner": "components"}),
    Example("real-vector", {**SMALL, "learner": "vector", "named": True}),
    Example("real-vector", {**SMALL, "learner": "clusters"}),
)


def slot_loss(first: Tensor, later: Tensor, shift: Tensor) -> Tensor:
    """Mean over pairs of the least error, over slots before and after, of codes (n, K, d) for shifts (n, d)."""
    return (first[:, :, None] + shift[:, None, None] - later[:, None]).square().sum(3).amin((1, 2)).mean()


def trained(net: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float) -> None:
    """Adam on draws of a loss, at a rate that rises for `WARMUP` steps and falls by half a cosine."""
    adam = torch.optim.Adam(net.parameters())
    for step in range(steps):
        height = min(1.0, (step + 1) / WARMUP) * (1.0 + math.cos(math.pi * step / steps)) / 2.0
        adam.param_groups[0]["lr"] = rate * height
        adam.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        adam.step()


@model("ball-properties", "Iterative Study LatentEstimator", "balls, by slots or one vector", examples=EXAMPLES)
class BallProperties(Study):
    """Answers hold ``latents`` (rows, 3 balls), codes of pictures; true masks tell, afterwards, whose slot is whose.

    Args:
        info: of the data, which are not looked at.
        learner: ``slots``; ``components``, independent ones of balls' slots, without shifts; one ``vector`` of a
            convolutional network; or ``clusters`` of pixels (k-means), whose centres and roots of areas are the codes:
            what scenes like these give away without learning.
        balls, named, perturbed: in a scene; with a colour of their own; that are ever shifted, the first ones (0: all).
        rows: pictures that are judged.
        steps, batch, rate: of Adam, on pairs that are new at each step. Heads of slots have half as many more.

    Raises:
        UserError: more balls than colours, or than are there to be perturbed.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        learner: Literal["slots", "components", "vector", "clusters"] = "slots",
        balls: PositiveInt = 2,
        named: bool = False,
        perturbed: NonNegativeInt = 0,
        rows: PositiveInt = 400,
        steps: NonNegativeInt = 700,
        batch: PositiveInt = 32,
        rate: PositiveFloat = 3e-3,
    ) -> None:
        super().__init__(info, problems=1)
        if not 1 < balls <= len(PALETTE) or perturbed > balls:
            raise UserError(f"balls is {balls}, perturbed {perturbed}", fix=f"2 to {len(PALETTE)}, and no more of them")
        self.learner, self.balls, self.named, self.perturbed = learner, balls, named, perturbed or balls
        self.rows, self.steps, self.batch, self.rate = rows, steps, batch, rate

    def problem(self, rng: np.random.Generator) -> Problem:
        z = pairs(self.rows, self.balls, self.balls, Generator().manual_seed(int(rng.integers(2**62))))[0]
        return Problem({"x": render(z, self.named), "masks": cover(z)}, {"latents": z.double().flatten(1).numpy()})

    @torch.enable_grad()
    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        x, masks, seed = given["x"], given["masks"], int(rng.integers(2**62))
        if self.learner == "clusters":
            codes, found = clusters(x, self.balls, seed % 2**32)
            return {"latents": aligned(codes, found, masks).reshape(len(x), -1)}
        draws = Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # layers are initialised from torch's own generator
            torch.manual_seed(seed)
            net, one = SlotAutoencoder(self.balls + 1, CODES), vector(self.balls)
        if self.learner == "vector":
            trained(one, lambda: self._vector_loss(one, draws), self.steps, self.rate)
            with torch.no_grad():
                return {"latents": one(x).flatten(1).numpy()}
        trained(net, lambda: self._picture_loss(net, draws), self.steps, self.rate)
        if self.learner == "slots":
            trained(net.heads, lambda: self._head_loss(net, draws), self.steps // 2, self.rate)
        with torch.no_grad():
            slots = net(x, net.start(len(x), draws), draws)
            found = slots if self.learner == "components" else net.codes(slots)
            codes = aligned(found.numpy(), net.decode(slots)[1], masks)
        codes = components(codes, seed % 2**32) if self.learner == "components" else codes
        return {"latents": codes.reshape(len(x), -1)}

    def _pair(self, draws: Generator) -> tuple[Tensor, Tensor, Tensor]:
        z, later, sign = pairs(self.batch, self.balls, self.perturbed, draws)
        return render(z, self.named), render(later, self.named), sign

    def _vector_loss(self, net: nn.Module, draws: Generator) -> Tensor:
        x, later, sign = self._pair(draws)
        return (net(x) + sign - net(later)).square().mean()

    def _picture_loss(self, net: SlotAutoencoder, draws: Generator) -> Tensor:
        x, later, _ = self._pair(draws)
        pictures = net.decode(self._slots(net, x, later, draws))[0]
        return WEIGHT * (pictures - torch.cat([x, later])).square().mean()

    def _head_loss(self, net: SlotAutoencoder, draws: Generator) -> Tensor:
        x, later, sign = self._pair(draws)
        with torch.no_grad():
            slots = self._slots(net, x, later, draws)
        codes = net.codes(slots)
        return slot_loss(codes[: len(x)], codes[len(x) :], SHIFT * sign.sum(1))

    def _slots(self, net: SlotAutoencoder, x: Tensor, later: Tensor, draws: Generator) -> Tensor:
        """(2 n, K, width): of both pictures; those of the later one begin in those of the first."""
        first = net(x, net.start(len(x), draws), draws)
        return torch.cat([first, net(later, first, draws)])


def vector(balls: int) -> nn.Module:
    """A network from pictures (n, 3, side, side) to codes (n, balls, 3)."""
    layers: list[nn.Module] = [nn.Conv2d(3, WIDTH, 5, 2, 2), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.ReLU()]
    dense = [*mlp(WIDTH * (SIZE // 4) ** 2, (128, 128), "relu"), nn.Linear(128, CODES * balls)]
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Unflatten(1, (balls, CODES)))


def components(slots: ndarray, seed: int) -> ndarray:
    """(n, balls, 3): independent components, as FastICA finds them, of balls' slots (n, balls, width)."""
    from sklearn.decomposition import FastICA

    ica = FastICA(CODES, whiten="unit-variance", max_iter=1000, tol=1e-3, random_state=seed)
    return ica.fit_transform(slots.reshape(-1, slots.shape[2])).reshape(*slots.shape[:2], CODES)


def clusters(x: Tensor, balls: int, seed: int) -> tuple[ndarray, Tensor]:
    """Centres and roots of areas (n, balls, 3), and masks, of pixels of pictures x, weighed by their light."""
    from sklearn.cluster import KMeans

    codes, masks, at = [], [], grid(SIZE).numpy()
    for light in x.sum(1).flatten(1).double().numpy():
        fit = KMeans(balls, n_init=3, random_state=seed).fit(at, sample_weight=light)
        masks.append((fit.labels_ == np.arange(balls)[:, None]) * light)
        codes.append(np.column_stack([fit.cluster_centers_, np.sqrt(masks[-1].sum(1))]))
    return np.stack(codes), torch.tensor(np.stack(masks), dtype=torch.float32)


def aligned(codes: ndarray, masks: Tensor, true: Tensor) -> ndarray:
    """(n, balls, d): of codes (n, K, d), those whose masks (n, K, pixels) overlap most with the balls' true ones."""
    overlap = (true @ masks.mT).numpy()
    return np.stack([one[linear_sum_assignment(-by)[1]] for one, by in zip(codes, overlap)])


def matched(z: ndarray, codes: ndarray) -> ndarray:
    """Codes (n, balls, d), reordered in each picture so that affine maps of them, one a place, err least from z."""
    for _ in range(MATCHINGS):
        design = np.concatenate([np.ones_like(codes[..., :1]), codes], 2)
        maps = np.stack([np.linalg.lstsq(design[:, i], z[:, i], rcond=None)[0] for i in range(z.shape[1])])
        errors = ((z[:, :, None] - np.einsum("njd,ide->nije", design, maps)) ** 2 / z.var((0, 1))).sum(3)
        codes = np.stack([one[linear_sum_assignment(by)[1]] for one, by in zip(codes, errors)])
    return codes


@metric("matched_balls_correlation", "Study", "1", "higher", within=(0.0, 1.0))
def matched_balls_correlation(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean correlation of all balls' properties with codes, one to one, that are `matched` anew in each picture."""

    def score(truth: Arrays, answer: Arrays) -> float:
        z, codes = (one["latents"].reshape(-1, model.balls, CODES) for one in (truth, answer))
        return mcc(matched(z, codes).reshape(len(z), -1), truth["latents"])

    if not isinstance(model, BallProperties):
        raise UserError(f"{type(model).__name__} tells no balls' properties", fix="measure ball-properties")
    return over_problems(model, score)
