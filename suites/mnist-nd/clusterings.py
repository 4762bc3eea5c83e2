"""Clusterings of MNIST-Nd without labels, and how they agree with the digits (Turishcheva et al. 2024, figure 2).

All but Leiden are told the number of classes. Settings are those of the authors' notebook, one start each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics.representation import ari, kmeans
from latentbench.models import checks
from latentbench.models.mixtures import seed_from
from numpy import ndarray
from scipy.linalg import solve_triangular
from scipy.sparse import csr_matrix, triu
from scipy.special import digamma, gammaln, logsumexp
from torch import Generator

Settings = Mapping[str, Any]
BLOCK = 512


def neighbour_graph(x: ndarray, neighbours: int = 15) -> csr_matrix:
    """UMAP's fuzzy graph of rows (N, D), symmetric (N, N) with weights in (0, 1] (McInnes et al. 2018, algorithm 2).

    Row i sees its neighbour j with a = exp(-max(0, d_ij - r_i) / s_i), r_i the distance of the nearest and s_i such
    that they sum to log2(`neighbours`), itself being one of them and not counted; both views join as a + b - a b.
    """
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=neighbours).fit(x).kneighbors()
    distances, indices = distances[:, :-1], indices[:, :-1]
    beyond = np.maximum(distances - distances[:, :1], 0.0)
    low, high = np.zeros(len(x)), np.full(len(x), 1e3 * distances.mean())
    for _ in range(64):
        scale = (low + high) / 2
        small = np.exp(-beyond / scale[:, None]).sum(1) < np.log2(neighbours)
        low, high = np.where(small, scale, low), np.where(small, high, scale)
    scale = np.maximum(scale, 1e-3 * distances.mean(1))  # a floor of umap-learn's
    seen = np.exp(-beyond / scale[:, None])
    rows = np.repeat(np.arange(len(x)), indices.shape[1])
    a = csr_matrix((seen.ravel(), (rows, indices.ravel())), shape=(len(x), len(x)))
    return (a + a.T - a.multiply(a.T)).tocsr()


def leiden(x: ndarray, seed: int) -> ndarray:
    """Communities (N,) of the neighbour graph: modularity of resolution 1, until nothing moves (Traag et al. 2019)."""
    try:
        import igraph
        import leidenalg
    except ImportError:
        raise UserError("Leiden needs leidenalg", fix="pip install 'latentbench[clustering]'") from None
    edges = triu(neighbour_graph(x)).tocoo()
    graph = igraph.Graph(len(x), np.stack([edges.row, edges.col], 1))
    kind = leidenalg.RBConfigurationVertexPartition
    found = leidenalg.find_partition(graph, kind, weights=edges.data, n_iterations=-1, seed=seed)
    return np.array(found.membership)


def gaussian_mixture(x: ndarray, k: int, seed: int, covariance: str) -> ndarray:
    """Likeliest components (N,) of scikit-learn's mixture from k-means++ starts."""
    from sklearn.mixture import GaussianMixture

    fit = GaussianMixture(k, covariance_type=covariance, init_params="k-means++", random_state=seed)
    return fit.fit_predict(x)


def degrees(constant: ndarray, least: float = 1.0, most: float = 1e4) -> ndarray:
    """The root v of constant - digamma(v / 2) + log(v / 2) = 0, by bisection, within [least, most]."""
    low, high = np.full_like(constant, least), np.full_like(constant, most)
    for _ in range(50):
        v = np.sqrt(low * high)
        below = constant - digamma(v / 2) + np.log(v / 2) > 0
        low, high = np.where(below, v, low), np.where(below, high, v)
    return np.sqrt(low * high)


def t_log_density(x: ndarray, mean: ndarray, scale: ndarray, v: float) -> tuple[ndarray, ndarray]:
    """Log density of a multivariate t with `v` degrees of freedom at x (N, D), and squared Mahalanobis distances."""
    d = x.shape[1]
    root = np.linalg.cholesky(scale)
    m = np.square(solve_triangular(root, (x - mean).T, lower=True)).sum(0)
    norm = gammaln((v + d) / 2) - gammaln(v / 2) - d / 2 * np.log(v * np.pi) - np.log(np.diag(root)).sum()
    return norm - (v + d) / 2 * np.log1p(m / v), m


def t_mixture(
    x: ndarray, k: int, seed: int, most: int = 1000, tolerance: float = 1e-5, floor: float = 1e-6
) -> tuple[ndarray, dict[str, ndarray]]:
    """Responsibilities (N, k) and parameters of a mixture of t distributions, by EM (Peel & McLachlan 2000, section 4).

    It begins at k-means++ rows with the covariance of all and 4 degrees of freedom, and ends where the mean
    log-likelihood, detail `bound`, changes by less than `tolerance`.
    """
    from sklearn.cluster import kmeans_plusplus

    d = x.shape[1]
    mean = kmeans_plusplus(x, k, random_state=seed)[0]
    scale = np.stack([np.atleast_2d(np.cov(x.T)) + floor * np.eye(d)] * k)
    share, v, bounds = np.full(k, 1 / k), np.full(k, 4.0), [-np.inf]
    for _ in range(most):
        each = [t_log_density(x, mean[j], scale[j], v[j]) for j in range(k)]
        joint = np.stack([e[0] for e in each], 1) + np.log(share)
        total = logsumexp(joint, 1)
        r = np.exp(joint - total[:, None])
        u = (v + d) / (v + np.stack([e[1] for e in each], 1))
        bounds.append(total.mean())
        if abs(bounds[-1] - bounds[-2]) < tolerance:
            break
        size, ru = r.sum(0) + 1e-12, r * u
        share, weight = size / size.sum(), ru.sum(0) + 1e-12
        mean = ru.T @ x / weight[:, None]
        for j in range(k):
            apart = x - mean[j]
            scale[j] = (ru[:, j, None] * apart).T @ apart / size[j] + floor * np.eye(d)
        half = (v + d) / 2
        v = degrees(1 + (r * (np.log(u) - u)).sum(0) / size + digamma(half) - np.log(half))
    return r, {"share": share, "mean": mean, "scale": scale, "degrees": v, "bounds": np.array(bounds[1:])}


CLUSTERINGS: Mapping[str, Callable[[ndarray, int, int], ndarray]] = {
    "k-means": lambda x, k, seed: kmeans(x, k, seed=seed, restarts=1),
    "gmm-spherical": lambda x, k, seed: gaussian_mixture(x, k, seed, "spherical"),
    "gmm-full": lambda x, k, seed: gaussian_mixture(x, k, seed, "full"),
    "tmm": lambda x, k, seed: t_mixture(x, k, seed)[0].argmax(1),
    "leiden": lambda x, _, seed: leiden(x, seed),
}


def codes_and_digits(model: Any, view: View, generator: Generator) -> tuple[ndarray, ndarray]:
    """Codes (N, D) of the split's rows, `row_codes` where the model has them, and their digits (N,)."""
    code = getattr(model, "row_codes", lambda x, _: model.encode(x))
    codes = torch.cat([code(view.x[rows], generator).cpu() for rows in view.blocks(BLOCK)])
    return codes.double().numpy(), np.asarray(view.columns["y"])


def agreement(by: str, z: ndarray, y: ndarray, generator: Generator) -> tuple[float, int]:
    """Adjusted Rand index with the digits y (N,) of a clustering of z (N, D), and how many clusters it has."""
    checks.one_of("by", by, CLUSTERINGS)
    found = CLUSTERINGS[by](z, len(np.unique(y)), seed_from(generator))
    return ari(found, y), len(np.unique(found))


@metric("code_clusters_ari", "Encoder", "1", "higher", settings={"by": "leiden"}, data=("labels",), within=(-1.0, 1.0))
def code_clusters_ari(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Adjusted Rand index of clusters of the codes and labels, by one of `CLUSTERINGS`; chance is 0."""
    z, y = codes_and_digits(model, view, generator)
    value, clusters = agreement(settings["by"], z, y, generator)
    return MetricValue(value, None, len(y), {"clusters": clusters})


@metric("code_clusters_lead", "Encoder", "1", "higher", settings={"of": "leiden"}, data=("labels",), within=(-2.0, 2.0))
def code_clusters_lead(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """`code_clusters_ari` of one clustering less that of the best of the others on the same codes; details: of each."""
    z, y = codes_and_digits(model, view, generator)
    each = {by: agreement(by, z, y, generator)[0] for by in CLUSTERINGS}
    lead = each[settings["of"]] - max(value for by, value in each.items() if by != settings["of"])
    return MetricValue(lead, None, len(y), each)
