"""Networks of finite width at initialisation, against the law of infinite width by the theorem of section 3.

Outputs at three inputs along a direction c: with v ~ IG(alpha, beta) their limit is Student's t of 2 alpha degrees of
freedom and squared scale (beta / alpha) c' K c, whatever c is; with v = 1 it is N(0, c' K c).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Arrays, Problem, Study
from pydantic import PositiveFloat, PositiveInt
from scipy.special import stdtr
from torch import Generator

from .kernels import kernels

POINTS, INPUTS, DEPTH = 3, 4, 2
W, B = 2.0, 0.09
CHUNK = 1000


def outputs(x: np.ndarray, width: int, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(draws, P) outputs at x (P, d) of ReLU networks with `DEPTH` hidden layers, one for each of v (draws,)."""
    h = np.broadcast_to(x, (len(v), *x.shape))
    for _ in range(DEPTH):
        weights = rng.standard_normal((len(v), h.shape[2], width)) * np.sqrt(W / h.shape[2])
        h = np.maximum(h @ weights + rng.standard_normal((len(v), 1, width)) * np.sqrt(B), 0.0)
    last = rng.standard_normal((len(v), width, 1)) * np.sqrt(v / width)[:, None, None]
    return (h @ last)[..., 0]


@model("wide-nets", "Iterative Study", examples=(Example("real-vector", {"problems": 2, "draws": 50, "width": 3}),))
class WideNets(Study):
    """Draws from the prior of networks of one width.

    Args:
        info: not used.
        width: units of a hidden layer.
        draws: networks.
        alpha, beta: of the inverse gamma prior on v.
        problems: inputs N(0, 1) with a direction, uniform on the sphere.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        width: PositiveInt = 8,
        draws: PositiveInt = 10000,
        alpha: PositiveFloat = 2.0,
        beta: PositiveFloat = 2.0,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.width, self.draws, self.alpha, self.beta = width, draws, alpha, beta

    def problem(self, rng: np.random.Generator) -> Problem:
        x, c = rng.standard_normal((POINTS, INPUTS)), rng.standard_normal(POINTS)
        c /= np.linalg.norm(c)
        rows = torch.from_numpy(x)
        k = next(kernels(rows, rows, "relu", W, B, (DEPTH,)))[0].numpy()
        return Problem({"x": x, "c": c}, {"variance": c @ k @ c})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        v = self.beta / rng.gamma(self.alpha, size=self.draws)
        found = [outputs(given["x"], self.width, v[i : i + CHUNK], rng) for i in range(0, self.draws, CHUNK)]
        return {"outputs": np.concatenate(found) @ given["c"]}


def distance(at_sample: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of a sample from a law whose distribution function at it, (n,), is given."""
    f, n = np.sort(at_sample), len(at_sample)
    return float(max((np.arange(1, n + 1) / n - f).max(), (f - np.arange(n) / n).max()))


@metric("ks_to_limit", "Study", "1", "lower", within=(0.0, 1.0))
def ks_to_limit(model: WideNets, view: View, settings: Any, generator: Generator) -> MetricValue:
    """Mean Kolmogorov-Smirnov distance of networks' outputs from Student's t, their limit."""

    def measure(truth: Arrays, answer: Arrays) -> float:
        scale = np.sqrt(model.beta / model.alpha * truth["variance"])
        return distance(stdtr(2 * model.alpha, answer["outputs"] / scale))

    return over_problems(model, measure)
