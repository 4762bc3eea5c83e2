"""Hierarchical component analysis (Jin et al. 2025, arXiv 2506.10378) and analyses that see no hierarchy.

ICA in each domain gives unmixing matrices W_k of sources of variance one, with rows of unknown order, which for the
right orders are B_k H with B_k lower triangular. For given orders, H is found row by row: the first right singular
vector of the domains' residuals, which are the rows less their part in the rows of H that came before. Of all orders in
all domains those count for which the domain that fits worst, fits best. This follows the authors' code
(github.com/hlzhang109/causal-eval: main.ipynb, utils_full.py), in which rows stand in reverse.
"""

from __future__ import annotations

import warnings
from itertools import permutations, product
from math import factorial
from typing import Any, Literal

import numpy as np
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models.study import Arrays
from numpy import ndarray
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import FactorAnalysis, FastICA

from .domains import Domains

EXAMPLES = (Example("real-vector", {"problems": 2, "rows": [60, 40, 50]}),)
CANDIDATES = 50_000  # orders that a search may try


def unmixing_of(x: ndarray, d: int, rng: np.random.Generator) -> tuple[ndarray, bool]:
    """(d, p) unmixing matrix of x (n, p), which gives sources of variance one; whether FastICA converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ica = FastICA(d, max_iter=1000, whiten="unit-variance", random_state=int(rng.integers(2**31))).fit(x)
    deviations = ica.transform(x).std(0, ddof=1)
    return np.linalg.pinv(ica.mixing_ * deviations), ica.n_iter_ < ica.max_iter


def nested_rows(unmixing: ndarray) -> ndarray:
    """H (..., d, p), with orthonormal rows, of unmixing matrices (..., K, d, p) whose rows have causes first."""
    h = np.zeros((*unmixing.shape[:-3], *unmixing.shape[-2:]))
    for i in range(h.shape[-2]):
        rows = unmixing[..., i, :]
        residuals = rows - rows @ np.swapaxes(h, -1, -2) @ h
        h[..., i, :] = np.linalg.svd(residuals, full_matrices=False)[2][..., 0, :]
    return h


def inexactness_of(unmixing: ndarray, h: ndarray) -> ndarray:
    """(..., K): mean over sources of the share of B_k H x's row that is in other sources of the domain, 0 … 1.

    B_k is the lower triangle of W_k H', which is nearest to W_k = B_k H. The row is written in the sources by the
    pseudo-inverse of W_k, and a share is of squared weights.
    """
    transposed = np.swapaxes(unmixing, -1, -2)
    b = np.tril(unmixing @ np.swapaxes(h, -1, -2)[..., None, :, :])
    squares = (b @ h[..., None, :, :] @ transposed @ np.linalg.inv(unmixing @ transposed)) ** 2
    return 1.0 - (np.diagonal(squares, axis1=-2, axis2=-1) / squares.sum(-1)).mean(-1)


def hierarchical(unmixing: ndarray) -> tuple[ndarray, ndarray]:
    """H (d, p) and inexactness (K,) of unmixing matrices (K, d, p), for the orders of rows whose maximum is least."""
    k, d, _ = unmixing.shape
    orders = np.array(list(product(permutations(range(d)), repeat=k)))
    candidates = unmixing[np.arange(k)[:, None], orders]
    h = nested_rows(candidates)
    inexact = inexactness_of(candidates, h)
    best = int(inexact.max(-1).argmin())
    return h[best], inexact[best]


@model("hierarchical-components", "Iterative Study", "ICA by domain, nested rows", examples=EXAMPLES)
class HierarchicalComponents(Domains):
    """`hierarchical` of the domains' ICAs; answers hold the inexactness of each domain as well."""

    def components(self, x: list[ndarray], rng: np.random.Generator) -> Arrays:
        if factorial(self.latents) ** len(x) > CANDIDATES:
            raise UserError(f"{factorial(self.latents)}^{len(x)} orders to try", fix="give fewer domains or latents")
        found, converged = zip(*(unmixing_of(part, self.latents, rng) for part in x), strict=True)
        h, inexact = hierarchical(np.stack(found))
        return {"rows": h, "inexactness": inexact, "unconverged": len(x) - sum(converged)}


def by_variance(rows: ndarray, x: ndarray) -> ndarray:
    """Rows (d, p) in the order of the variance of x (n, p) that goes with them, least first.

    Effects add up along a causal order, so that this does better than most first, and for all of the analyses here.
    """
    explained = (x @ rows.T).var(0) * (np.linalg.pinv(rows) ** 2).sum(0)
    return rows[np.argsort(explained)]


@model("domain-ica", "Iterative Study", "ICA by domain, rows averaged", examples=EXAMPLES)
class DomainIca(Domains):
    """The same ICAs without a hierarchy: rows of length one are matched with the first domain's and averaged."""

    def components(self, x: list[ndarray], rng: np.random.Generator) -> Arrays:
        found = [unmixing_of(part, self.latents, rng)[0] for part in x]
        unit = [w / np.linalg.norm(w, axis=1, keepdims=True) for w in found]
        total = unit[0].copy()
        for w in unit[1:]:
            cosines = unit[0] @ w.T
            match = linear_sum_assignment(-np.abs(cosines))[1]
            total += np.sign(cosines[np.arange(len(w)), match])[:, None] * w[match]
        return {"rows": by_variance(total, np.concatenate([part - part.mean(0) for part in x]))}


@model("pooled-analysis", "Iterative Study", "PCA, factor analysis or ICA of all rows", examples=EXAMPLES)
class Pooled(Domains):
    """One analysis of all rows; rows are the pseudo-inverse of its mixing or loadings.

    Args:
        info: of the data.
        analysis: ``pca``; ``factors``, with varimax rotation; or ``ica``, as it is run in a domain.
        centred: whether each domain's mean is taken off first.
        **design: of `Domains`.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        analysis: Literal["pca", "factors", "ica"] = "pca",
        centred: bool = False,
        **design: Any,
    ) -> None:
        super().__init__(info, **design)
        self.analysis, self.centred = analysis, centred

    def components(self, x: list[ndarray], rng: np.random.Generator) -> Arrays:
        pooled = np.concatenate([part - part.mean(0) for part in x] if self.centred else x)
        if self.analysis == "ica":
            rows = unmixing_of(pooled, self.latents, rng)[0]
        elif self.analysis == "pca":
            rows = np.linalg.eigh(np.cov(pooled.T))[1][:, -self.latents :].T
        else:
            rows = np.linalg.pinv(FactorAnalysis(self.latents, rotation="varimax").fit(pooled).components_.T)
        return {"rows": by_variance(rows, pooled)}
