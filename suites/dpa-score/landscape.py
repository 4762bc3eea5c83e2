"""Rows whose law or dimension is known, and what an encoder makes of them: paths, level sets, latents in excess.

The potential is that of Mueller and Brown (1979), U = scale * sum_i A_i exp(a_i u^2 + b_i u v + c_i v^2), with
u = x - X_i and v = y - Y_i; rows follow exp(-U / kT) on `BOX` (section 4.1).
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
from latentbench.declare import generator, metric, oracle
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


def grid(box: ndarray, n: int) -> ndarray:
    """(n * n, 2): centres of n by n equal cells of a box (2, 2) of low and high."""
    axes = [low + (high - low) * (np.arange(n) + 0.5) / n for low, high in box]
    return np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)


def arc(path: ndarray) -> ndarray:
    """(N,): length of a path (N, 2) up to each node."""
    return np.append(0.0, np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum())


def potential(x: ndarray, scale: float) -> Pair:
    """U (N,) and its gradient (N, 2) at x (N, 2)."""
    (a, b, c), u, v = QUADRATIC, x[:, :1] - X, x[:, 1:] - Y
    terms = scale * A * np.exp(a * u * u + b * u * v + c * v * v)
    return terms.sum(1), (terms[:, None] * np.stack([2 * a * u + b * v, b * u + 2 * c * v], 1)).sum(2)


@oracle("mueller-brown")
class MuellerBrown:
    """The Boltzmann law at `kt`, in units of U."""

    def __init__(self, scale: float, kt: float) -> None:
        self.scale, self.kt, self.log_z, self.entropy = scale, kt, 0.0, 0.0
        log_p, area = self.log_prob(points := grid(BOX, 350)), np.prod(np.diff(BOX)) / 122_500
        self.log_z = float(np.log(np.exp(log_p - log_p.max()).sum() * area) + log_p.max())
        self.entropy = -float(area * np.exp(log_p := self.log_prob(points)) @ log_p)

    def log_prob(self, x: ndarray) -> ndarray:
        inside = ((x >= BOX[:, 0]) & (x <= BOX[:, 1])).all(1)
        return np.where(inside, -potential(np.asarray(x, float), self.scale)[0] / self.kt - self.log_z, -np.inf)

    def score(self, x: ndarray) -> ndarray:
        """(N, 2): gradient of the log density."""
        return -potential(x, self.scale)[1] / self.kt


@lru_cache
def minimum_energy_path(nodes: int = 120, steps: int = 3000) -> ndarray:
    """(nodes, 2), evenly apart, from the lowest minimum to the farthest other one, along U's gradient throughout.

    The string method (E, Ren and Vanden-Eijnden 2007): nodes go downhill and are spaced evenly again, in turn. The free
    energy of both coordinates is U itself, so this is the minimum free-energy path.
    """
    string = np.linspace(ENDS[0], ENDS[1], nodes)
    for _ in range(steps):
        slope = potential(string, 1.0)[1]
        string = string - 8e-5 * slope / np.maximum(1.0, np.linalg.norm(slope, axis=1, keepdims=True) / 300)
        even = np.linspace(0.0, (length := arc(string))[-1], nodes)
        string = np.stack([np.interp(even, length, column) for column in string.T], 1)
    return string


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


def slopes(model: Encoder, x: ndarray) -> Pair:
    """Codes (N, K) of x (N, 2), and their gradients (N, K, 2), in float64."""
    with torch.enable_grad():
        points = torch.tensor(x, dtype=torch.float32, requires_grad=True)
        z = model.encode(points)
        each = [torch.autograd.grad(column.sum(), points, retain_graph=True)[0] for column in z.unbind(1)]
    return z.detach().double().numpy(), torch.stack(each, 1).double().numpy()


def along_path(model: Encoder, path: ndarray) -> tuple[int, float, ndarray]:
    """The latent most nearly linear in a path's arc length, its R^2, and the line's values (2,) at the ends."""
    length, z = arc(path), slopes(model, path)[0]
    r2 = np.nan_to_num([np.corrcoef(length, column)[0, 1] ** 2 for column in z.T])
    best = int(np.argmax(r2))
    return best, float(r2[best]), np.polyval(np.polyfit(length, z[:, best], 1), length[[0, -1]])


def followed(model: Encoder, start: ndarray, latent: int, ends: ndarray, steps: int = 125) -> ndarray:
    """(steps, 2): where a latent takes values from end to end, from start (1, 2) on (appendix B.3).

    Each point is sought from the last by damped Newton steps along the latent's gradient.
    """
    at, found, values = start, [start], np.linspace(ends[0], ends[1], steps)
    for value in values[1:]:
        for _ in range(12):
            z, gradients = slopes(model, at)
            off, g = z[0, latent] - value, gradients[0, latent]
            if abs(off) <= 1e-3 * abs(values[1] - values[0]):
                break
            at = np.clip(at - 0.5 * off * g / (g @ g + 1e-12), *BOX.T)  # flat latents would throw it anywhere
        found.append(at)
    return np.concatenate(found)


def path_distances(found: ndarray, path: ndarray) -> dict[str, float]:
    """Distances of Table 2 between the nodes of two paths."""
    to_found, to_path = cKDTree(found).query(path)[0], cKDTree(path).query(found)[0]
    out, back = float(to_found.mean()), float(to_path.mean())
    return {
        "chamfer": 0.5 * (out + back),
        "hausdorff": float(max(to_found.max(), to_path.max())),
        "out": out,
        "back": back,
    }


def known(view: View) -> MuellerBrown:
    """The rows' law, in whose coordinates they are stored."""
    if not isinstance(view.oracle, MuellerBrown) or bool((view.log_abs_det != 0).any()):
        raise UserError("neither path nor score is known", fix="dataset mueller-brown, without `preprocess`")
    return view.oracle


@metric("mfep_distance", "Encoder", "1", "lower", settings={"of": "chamfer"}, data=("oracle",), within=(0.0, None))
def mfep_distance(model: Encoder, view: View, settings: Settings, generator: torch.Generator) -> MetricValue:
    """Distance of a latent's path (`followed`) from the minimum free-energy path; or which ``latent`` it is."""
    known(view)
    best, r2, ends = along_path(model, path := minimum_energy_path())
    if settings["of"] == "latent":
        return MetricValue(float(best), None, None, {"r2": r2})
    distances = path_distances(followed(model, path[:1], best, ends), path)
    return MetricValue(distances[settings["of"]], None, None, {**distances, "r2": r2})


def level_sets(z: ndarray, x: ndarray, mass: ndarray, layers: int = 40) -> tuple[ndarray, ndarray, ndarray]:
    """c (N, 2), V / Z (N,) of the level set of z (N,) that each x (N, 2) lies on (eq. 8, 9), and c's direction (N, 2).

    Mean and variance of the law given z, by layers of equal mass, linear in z between their middles. (They weigh a
    level set by density over |gradient of z|, as the delta in eq. 4 does.)
    """
    place = np.unique(z, return_inverse=True)[1]  # points of one value are of one layer
    layer = np.minimum((np.bincount(place, mass).cumsum()[place] / mass.sum() * layers).astype(int), layers - 1)
    total = np.bincount(layer, mass, layers)

    def means(values: ndarray) -> ndarray:
        return np.bincount(layer, mass * values, layers)[total > 0] / total[total > 0]

    def everywhere(values: ndarray) -> ndarray:
        return np.stack([np.interp(z, means(z), v) for v in np.atleast_2d(values)], 1)

    centres = np.stack([means(column) for column in x.T])
    centre, along = everywhere(centres), everywhere(np.gradient(centres, axis=1))
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-12)
    return centre, everywhere(means(((x - centre) ** 2).sum(1)))[:, 0], along


def balance(model: Encoder, law: Any) -> dict[str, float]:
    """How far the first latent keeps what theorem 2.6 says, where the law has over 0.5 % of its highest density.

    With g the latent's gradient, eq. 7 is 2 (y - c)' g / (V / Z - |y - c|^2) = score' g. Of one latent it leaves two
    signs: ``signed`` is the mean of their product over the law (0 by chance), ``absolute`` that of Table 1's absolute
    cosine, between vectors that are both multiples of g. ``across``: the share of |y - c|^2 along c's direction, which
    is 0 where E |X - c(X)|^2 is stationary (as of principal curves); up to 0.01 of it is the layers'.
    """
    x = grid(BOX, 300)
    z, each = slopes(model, x)
    mass = np.exp(law.log_prob(x))
    centre, variance, along = level_sets(z[:, 0], x, mass)
    y, g, w = x - centre, each[:, 0], mass * (mass > 0.005 * mass.max())
    squared = (y * y).sum(1)
    signs = np.sign((y * g).sum(1) * (variance - squared)) * np.sign((law.score(x) * g).sum(1))
    across = mass @ (y * along).sum(1) ** 2 / (mass @ squared)
    return {"signed": float(w @ signs / w.sum()), "absolute": float(w @ abs(signs) / w.sum()), "across": float(across)}


@metric("level_balance", "Encoder", "1", "higher", data=("oracle",), within=(-1.0, 1.0))
def level_balance(model: Encoder, view: View, settings: Settings, generator: torch.Generator) -> MetricValue:
    """Agreement in sign of the two sides of theorem 2.6 along the first latent (`balance`)."""
    values = balance(model, known(view))
    return MetricValue(values["signed"], None, None, values)


def explained(inputs: Pair, targets: Pair) -> float:
    """R^2 over test rows of (training, test) targets by the ten nearest training inputs, standardised."""
    scale = inputs[0].std(0) + 1e-12
    fit = KNeighborsRegressor(10).fit(inputs[0] / scale, targets[0])
    rest = ((targets[1] - fit.predict(inputs[1] / scale)) ** 2).sum()
    return float(1.0 - rest / ((targets[1] - targets[0].mean(0)) ** 2).sum())


@metric("latent_gain", "Encoder", "1", "lower", settings={"latents": 1}, lowest={"latents": 1}, collapse_helps=True)
def latent_gain(model: Encoder, view: View, settings: Settings, generator: torch.Generator) -> MetricValue:
    """R^2 of rows by one latent more than the first `latents`, less that by these; details: of that latent by these."""
    k, rows = int(settings["latents"]), (view.train.x, view.x)
    codes = [model.encode(x).double().cpu().numpy() for x in rows]
    if k >= codes[0].shape[1]:
        raise UserError(f"{k} of {codes[0].shape[1]} latents", fix="one less than there are, or fewer")

    def latents(start: int, stop: int) -> Pair:
        return codes[0][:, start:stop], codes[1][:, start:stop]

    x = rows[0].double().cpu().numpy(), rows[1].double().cpu().numpy()
    values = {"before": explained(latents(0, k), x), "after": explained(latents(0, k + 1), x)}
    values["last"] = explained(latents(0, k), latents(k, k + 1))
    return MetricValue(values["after"] - values["before"], None, len(view.x), values)
