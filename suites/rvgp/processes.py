"""Gaussian processes for tangent fields of which vectors at some of a cloud's points are seen (sections 4 and 5.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models.study import Arrays, Problem, Study
from numpy import ndarray
from pydantic import PositiveInt
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from torch import Generator, Tensor

from .bundle import Bundle
from .surfaces import Smooth, Surface, diffused, farthest, surface, unit

SMALL = {"problems": 2, "points": 60, "pairs": 20}
MASKED = {**SMALL, "kernel": "eigenmaps", "task": "masked", "surface": "torus"}
FACTORS = np.array([0.25, 0.5, 1.0, 2.0, 4.0])  # scales to start from, times the kernel's own
NOISES = (1e-3, 1e-2, 1e-1)  # shares of the signal's variance to start from
tensor = partial(torch.as_tensor, dtype=torch.float64)
WIDTH = 100.0  # how far from its start a parameter may go, as a factor


@model("tangent-field-gp", "Iterative Study", examples=(Example("real-vector", SMALL), Example("real-vector", MASKED)))
class TangentFields(Study):
    """A Gaussian process completes tangent vectors: answers are ``vectors`` (points, 3), posterior means.

    Args:
        info: of data that are not looked at.
        task: ``diffused``: the paper's field, seen at half of the points; ``smooth``: a field that no graph has made,
            seen at half of them; ``masked``: the same, seen everywhere but at the tenth of the points that is nearest
            to one of the twelve nearest to a singularity.
        kernel: ``connection``: RVGP, a Matern spectrum of the connection Laplacian; or for each component by itself:
            ``graph``, that of the graph's Laplacian, or RBF on ``coordinates`` or ``eigenmaps``, rows of the graph
            Laplacian's eigenvectors times the root of n (the authors' rival).
        surface, points, pairs: of the cloud, at least 40 points, and eigenpairs of a Laplacian, fewer than points.
        problems: how many.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        surface: Surface = "sphere",
        task: Literal["diffused", "smooth", "masked"] = "diffused",
        kernel: Literal["connection", "graph", "coordinates", "eigenmaps"] = "connection",
        points: PositiveInt = 500,
        pairs: PositiveInt = 100,
        problems: PositiveInt = 4,
    ) -> None:
        super().__init__(info, problems=problems)
        if pairs >= points or points < 40:
            raise UserError(f"{pairs} eigenpairs of {points} points", fix="40 points at least, and fewer eigenpairs")
        self.surface, self.task, self.kernel, self.points, self.pairs = surface, task, kernel, points, pairs

    def problem(self, rng: np.random.Generator) -> Problem:
        n = self.points
        x, normals = surface(self.surface, rng, 8 * n)
        zero, chosen = x[-1], farthest(x[:-1], n)
        x, normals = x[chosen], normals[chosen]
        field = diffused(Bundle(x, self.pairs), rng) if self.task == "diffused" else Smooth(rng, zero)(x, normals)
        seen = rng.permutation(n) < n // 2
        if self.task == "masked":
            centre = x[rng.choice(np.argsort(np.linalg.norm(x - zero, axis=1))[:12])]
            seen = np.argsort(np.argsort(np.linalg.norm(x - centre, axis=1))) >= n // 10
        given = {"x": x, "seen": seen, "vectors": field[seen]}
        return Problem(given, {"x": x, "hidden": ~seen, "vectors": field, "normals": normals, "zero": zero})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        x, seen, y = given["x"], given["seen"], given["vectors"]
        bundle = Bundle(x, self.pairs)
        if self.kernel == "connection":
            values, modes = bundle.connection
            fields = bundle.ambient(modes.reshape(len(x), -1, self.pairs)).reshape(-1, self.pairs)
            return {"vectors": spectral(values, fields, np.repeat(seen, 3), y.reshape(-1, 1)).reshape(-1, 3)}
        if self.kernel == "graph":
            return {"vectors": spectral(*bundle.graph, seen, y)}
        return {"vectors": radial(x if self.kernel == "coordinates" else bundle.graph[1] * len(x) ** 0.5, seen, y)}


def spectral(values: ndarray, modes: ndarray, seen: ndarray, targets: ndarray) -> ndarray:
    """Means (rows, channels) under modes diag((values + 2 nu / kappa^2)^-nu) modes', given targets at rows seen."""
    lambdas, scaled, y = torch.from_numpy(values.clip(0)), torch.from_numpy(modes * len(modes) ** 0.5), tensor(targets)
    features = scaled[seen]
    gram, projected = features.T @ features, features.T @ y

    def posterior(p: Tensor) -> tuple[Tensor, Tensor]:
        root = (len(lambdas) * p[2] * torch.softmax(-p[0] * (lambdas + 2 * p[0] / p[1] ** 2).log(), 0)).sqrt()
        chol = torch.linalg.cholesky(p[3] * torch.eye(len(root)).double() + root[:, None] * gram * root)
        half = torch.linalg.solve_triangular(chol, root[:, None] * projected, upper=False)
        logdet = 2 * chol.diagonal().log().sum() + (len(y) - len(root)) * p[3].log()
        cost = 0.5 * (y.shape[1] * logdet + ((y**2).sum() - (half**2).sum()) / p[3])
        return cost / len(y), root[:, None] * torch.linalg.solve_triangular(chol.T, half, upper=True)

    middle = (3.0 / float(lambdas.median())) ** 0.5
    best = search(lambda p: posterior(p)[0], middle * FACTORS, float((y**2).mean()), 1.5)
    return (scaled @ posterior(best)[1]).numpy()


def radial(inputs: ndarray, seen: ndarray, targets: ndarray) -> ndarray:
    """As `spectral`, with an RBF kernel on inputs (rows, d)."""
    y, squared = tensor(targets), torch.cdist(tensor(inputs), tensor(inputs)) ** 2
    near = squared[seen][:, seen]

    def posterior(p: Tensor) -> tuple[Tensor, Tensor]:
        inner = p[1] * torch.exp(-0.5 * near / p[0] ** 2) + p[2] * torch.eye(len(y)).double()
        chol = torch.linalg.cholesky(inner)
        weights = torch.cholesky_solve(y, chol)
        return (0.5 * (y * weights).sum() + y.shape[1] * chol.diagonal().log().sum()) / len(y), weights

    best = search(lambda p: posterior(p)[0], np.median(pdist(inputs)) * FACTORS, float((y**2).mean()))
    return (best[1] * torch.exp(-0.5 * squared[:, seen] / best[0] ** 2) @ posterior(best)[1]).numpy()


def search(cost: Callable[[Tensor], Tensor], scales: ndarray, signal: float, *fixed: float) -> Tensor:
    """Positive (fixed ..., scale, variance, noise) by L-BFGS on logarithms, from the best of scales and noises."""

    def valued(logs: ndarray) -> tuple[float, ndarray]:
        p = torch.from_numpy(logs).requires_grad_()
        value = cost(p.exp())
        return value.item(), torch.autograd.grad(value, p)[0].numpy()

    grid = [[*fixed, scale, signal, share * signal] for scale in scales for share in NOISES]
    start = np.log(min(grid, key=lambda p: float(cost(tensor(p)))))
    bounds = [(at - np.log(WIDTH), at + np.log(WIDTH)) for at in start]
    return tensor(
        np.exp(minimize(valued, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-11}).x)
    )


@metric("field_alignment", "Study", "1", "higher")
def field_alignment(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean inner product of predicted and true unit vectors over points whose vectors were hidden."""
    return over_problems(model, lambda t, a: float((t["vectors"] * a["vectors"])[t["hidden"]].sum(1).mean()))


@metric("field_protrusion", "Study", "1", "lower", within=(0.0, 1.0))
def field_protrusion(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean absolute sine of the angle between predicted vectors and the true tangent planes, over the same points."""
    return over_problems(model, lambda t, a: np.abs((unit(a["vectors"]) * t["normals"]).sum(1))[t["hidden"]].mean())


@metric("singularity_error", "Study", "1", "lower", within=(0.0, None))
def singularity_error(model: Any, view: View, settings: Arrays, generator: Generator) -> MetricValue:
    """Mean distance of the singularity to the hidden point of the shortest prediction, by the cloud's mean spacing."""

    def error(truth: Arrays, answer: Arrays) -> float:
        x, hidden = truth["x"], truth["hidden"]
        found = x[hidden][np.linalg.norm(answer["vectors"][hidden], axis=1).argmin()]
        return float(np.linalg.norm(found - truth["zero"]) / cKDTree(x).query(x, 2)[0][:, 1].mean())

    return over_problems(model, error)
