"""What ignores latents, what knows the graph, and overcomplete independent component analysis."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import numpy as np
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.papers.onelc_cumulants.designs import ConfoundedStudy
from pydantic import NonNegativeFloat, PositiveInt
from scipy.optimize import linear_sum_assignment, minimize

SMALL = (Example("real-vector", {"rows": 60, "problems": 2}),)


def from_parents(x: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    """Answer of direct effects b (p, p), b[i, j] of j on i, and no latents."""
    noises = np.linalg.inv(np.eye(len(b)) - b)
    return {"graph": (b != 0).T.astype(int), "effects": noises - np.eye(len(b)), "mixing": noises}


@model("ica-lingam", "Iterative Study StructureLearner", examples=SMALL)
class IcaLingam(ConfoundedStudy):
    """ICA-LiNGAM (Shimizu et al. 2006), which assumes no latents; effects by the adaptive lasso and BIC."""

    def answer(self, given: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
        import warnings

        from sklearn.decomposition import FastICA

        x = given["x"] - given["x"].mean(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ica = FastICA(max_iter=1000, whiten="unit-variance", random_state=int(rng.integers(2**31))).fit(x)
        return from_parents(x, pruned(x, causal_order(ica.components_)))


def causal_order(unmixing: np.ndarray) -> list[int]:
    """Variables, causes first, of an unmixing matrix (p, p) whose rows are of any order and scale."""
    p = len(unmixing)
    rows = linear_sum_assignment(1.0 / np.maximum(np.abs(unmixing.T), 1e-12))[1]
    w = unmixing[rows]
    b = np.eye(p) - w / np.diag(w)[:, None]
    return list(min(permutations(range(p)), key=lambda o: (np.triu(b[np.ix_(o, o)]) ** 2).sum()))  # type: ignore[call-overload]


def pruned(x: np.ndarray, order: list[int]) -> np.ndarray:
    """Direct effects (p, p) along an order: adaptive lasso, its weights by least squares, chosen by BIC."""
    from sklearn.linear_model import LassoLarsIC

    b = np.zeros((x.shape[1],) * 2)
    for k, i in enumerate(order[1:], 1):
        before = order[:k]
        weights = np.abs(np.linalg.lstsq(x[:, before], x[:, i], rcond=None)[0])
        b[i, before] = LassoLarsIC("bic").fit(x[:, before] * weights, x[:, i]).coef_ * weights
    return b


@model("known-graph", "Iterative Study StructureLearner", examples=SMALL)
class KnownGraph(ConfoundedStudy):
    """Least squares of each variable on its parents, which are known, and not on latents."""

    def answer(self, given: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
        x, b = given["x"] - given["x"].mean(0), np.zeros((given["x"].shape[1],) * 2)
        for i, parents in enumerate(given["graph"].T.astype(bool)):
            b[i, parents] = np.linalg.lstsq(x[:, parents], x[:, i], rcond=None)[0]
        return from_parents(x, b)


@model("reconstruction-ica", "Iterative Study", examples=SMALL)
class ReconstructionIca(ConfoundedStudy):
    """Overcomplete ICA by reconstruction (Le et al. 2011): as many components as there are, by gradients.

    Minimises sum_k mean log(2 cosh(w_k x)) + weight * mean |W' W x - x|^2 on whitened rows; columns of the mixing
    matrix are those of W', brought back. It is told how many latents there are.

    Args:
        info: not used.
        weight: of the reconstruction.
        starts: random ones, of which the lowest counts.
        **design: of `ConfoundedStudy`.
    """

    def __init__(
        self, info: DataInfo, *, weight: NonNegativeFloat = 1.0, starts: PositiveInt = 3, **design: Any
    ) -> None:
        super().__init__(info, **design)
        self.weight, self.starts = weight, starts

    def answer(self, given: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
        x = given["x"] - given["x"].mean(0)
        values, vectors = np.linalg.eigh(np.cov(x.T))
        white = (x @ vectors / values**0.5).T
        shape = (x.shape[1] + given["latents"], x.shape[1])
        found = [
            minimize(self.objective, w.ravel() / np.linalg.norm(w, axis=1).mean(), (white, shape), "L-BFGS-B", True)
            for w in rng.standard_normal((self.starts, *shape))
        ]
        w = min(found, key=lambda f: f.fun).x.reshape(shape)
        return {"mixing": vectors * values**0.5 @ w.T}

    def objective(self, flat: np.ndarray, white: np.ndarray, shape: tuple[int, int]) -> tuple[float, np.ndarray]:
        """Objective and its gradient (q * p,) at W (q, p), flat."""
        w, n = flat.reshape(shape), white.shape[1]
        s = w @ white
        residual = w.T @ s - white
        value = np.logaddexp(s, -s).sum() / n + self.weight * (residual**2).sum() / n
        back = np.tanh(s) @ white.T / n + 2.0 * self.weight * (w @ residual @ white.T + s @ residual.T) / n
        return float(value), back.ravel()
