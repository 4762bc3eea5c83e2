"""Rows of the potential of Mueller and Brown (1979) and of a surface, and what an encoder makes of them.

U = scale * sum_i A_i exp(a_i u^2 + b_i u v + c_i v^2), with u = x - X_i and v = y - Y_i; rows follow exp(-U / kT) on
`BOX` (section 4.1). The free energy of both coordinates is U itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from latentbench.core.capabilities import Encoder
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import generator, metric
from latentbench.evaluation.view import View
from numpy import ndarray
from scipy.spatial import cKDTree
from sklearn.neighbors import KNeighborsRegressor

A, X, Y = np.array([-200.0, -100, -170, 15]), np.array([1.0, 0, -0.5, -1]), np.array([0.0, 0.5, 1.5, 1])
QUADRATIC = np.array([[-1.0, -1, -6.5, 0.7], [0, 0, 11, 0.6], [-10, -10, -6.5, 0.7]])
BOX = np.array([[-2.0, 1.5], [-1.0, 2.5]])  # at 300 K the density at its border is below 1e-4 of the highest
ENDS = np.array([[-0.558, 1.442], [0.623, 0.028]])  # near the lowest minimum and the farthest other one
Pair = tuple[ndarray, ndarray]
Settings = Mapping[str, Any]


def potential(x: ndarray, scale: float) -> Pair:
    """U (N,) and its gradient (N, 2) at x (N, 2)."""
    (a, b, c), u, v = QUADRATIC, x[:, :1] - X, x[:, 1:] - Y
    terms = scale * A * np.exp(a * u * u + b * u * v + c * v * v)
    return terms.sum(1), (terms[:, None] * np.stack([2 * a * u + b * v, b * u + 2 * c * v], 1)).sum(2)


@generator("mueller-brown")
def mueller_brown(n: int, rng: np.random.Generator, scale: float, kt: float) -> dict[str, ndarray]:
    """x (n, 2) float32, by rejection from uniform draws on the box."""
    kept, lowest = np.zeros((0, 2)), potential(ENDS[:1], scale)[0] - 1e-3
    while len(kept) < n:
        drawn = rng.uniform(BOX[:, 0], BOX[:, 1], (100_000, 2))
        accepted = rng.random(len(drawn)) < np.exp((lowest - potential(drawn, scale)[0]) / kt)
        kept = np.concatenate([kept, drawn[accepted]])
    return {"x": kept[:n].astype(np.float32)}


@generator("s-curve")
def s_curve(n: int, rng: np.random.Generator) -> dict[str, ndarray]:
    """x (n, 3) float32: two dimensions in three."""
    t, v = rng.uniform(-1.5 * np.pi, 1.5 * np.pi, n), rng.uniform(0, 2, n)
    return {"x": np.stack([np.sin(t), v, np.sign(t) * (np.cos(t) - 1)], 1).astype(np.float32)}


def arc(path: ndarray) -> ndarray:
    """(N,): length of a path (N, 2) up to each node."""
    return np.append(0.0, np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum())


@lru_cache
def minimum_energy_path(nodes: int = 120, steps: int = 3000) -> ndarray:
    """(nodes, 2), evenly apart, from the lowest minimum to the farthest other one, along U's gradient throughout.

    The string method (E, Ren and Vanden-Eijnden 2002): nodes go downhill and are spaced evenly again, in turn.
    """
    string = np.linspace(ENDS[0], ENDS[1], nodes)
    for _ in range(steps):
        downhill = -potential(string, 1.0)[1]
        string = string + 8e-5 * downhill / np.maximum(1.0, np.linalg.norm(downhill, axis=1, keepdims=True) / 300)
        even = np.linspace(0.0, (length := arc(string))[-1], nodes)
        string = np.stack([np.interp(even, length, column) for column in string.T], 1)
    return string


def along_path(model: Encoder, path: ndarray) -> tuple[int, float, ndarray]:
    """The latent most nearly linear in a path's arc length, its R^2, and the line's values (2,) at the ends."""
    length, z = arc(path), model.encode(torch.tensor(path, dtype=torch.float32)).detach().double().numpy()
    r2 = np.nan_to_num([np.corrcoef(length, column)[0, 1] ** 2 for column in z.T])
    best = int(np.argmax(r2))
    return best, float(r2[best]), np.polyval(np.polyfit(length, z[:, best], 1), length[[0, -1]])


def followed(model: Encoder, start: ndarray, latent: int, ends: ndarray) -> ndarray:
    """(125, 2): where a latent takes values from end to end, by damped Newton steps from start (1, 2) on (B.3)."""
    at, found, values = start, [start], np.linspace(ends[0], ends[1], 125)
    for value in values[1:]:
        for _ in range(8):
            with torch.enable_grad():
                point = torch.tensor(at, dtype=torch.float32, requires_grad=True)
                z = model.encode(point)[0, latent]
                g = torch.autograd.grad(z, point)[0][0].double().numpy()
            if abs(off := float(z.detach()) - value) <= 1e-2 * abs(values[1] - values[0]):
                break
            at = np.clip(at - 0.5 * off * g / (g @ g + 1e-12), *BOX.T)  # flat latents would throw it anywhere
        found.append(at)
    return np.concatenate(found)


def chamfer(found: ndarray, path: ndarray) -> float:
    """Mean distance of nodes of each of two paths to the other's nearest (Table 2)."""
    return 0.5 * float(cKDTree(found).query(path)[0].mean() + cKDTree(path).query(found)[0].mean())


@metric("mfep_distance", "Encoder", "1", "lower", within=(0.0, None))
def mfep_distance(model: Encoder, view: View, settings: Settings, generator: torch.Generator) -> MetricValue:
    """Chamfer distance of a latent's path (`followed`) from the minimum free-energy path."""
    if getattr(view.entry, "generate", None) != "mueller-brown" or bool((view.log_abs_det != 0).any()):
        raise UserError("no path is known", fix="dataset mueller-brown, without `preprocess`")
    best, r2, ends = along_path(model, path := minimum_energy_path())
    value = chamfer(followed(model, path[:1], best, ends), path)
    return MetricValue(value, None, None, {"r2": r2, "latent": float(best)})


def explained(inputs: Pair, targets: Pair) -> float:
    """R^2 over test rows of (training, test) targets by the ten nearest training inputs, standardised."""
    scale = inputs[0].std(0) + 1e-12
    fit = KNeighborsRegressor(10).fit(inputs[0] / scale, targets[0])
    rest = ((targets[1] - fit.predict(inputs[1] / scale)) ** 2).sum()
    return float(1.0 - rest / ((targets[1] - targets[0].mean(0)) ** 2).sum())


@metric("last_latent_gain", "Encoder", "1", "lower", collapse_helps=True)
def last_latent_gain(model: Encoder, view: View, settings: Settings, generator: torch.Generator) -> MetricValue:
    """R^2 of rows by all latents, less that by all but the last."""
    rows = (view.train.x, view.x)
    train, test = (model.encode(x).double().cpu().numpy() for x in rows)
    if train.shape[1] < 2:
        raise UserError("one latent cannot be in excess", fix="a model of two latents or more")
    x = rows[0].double().cpu().numpy(), rows[1].double().cpu().numpy()
    values = {"before": explained((train[:, :-1], test[:, :-1]), x), "after": explained((train, test), x)}
    return MetricValue(values["after"] - values["before"], None, len(view.x), values)
