"""Clusterings of MNIST-Nd without labels, and how they agree with the digits (Turishcheva et al. 2024, figure 2).

All but Leiden are told the number of classes. Settings are those of the authors' notebook, one start each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import metric
from latentbench.evaluation.view import View
from latentbench.metrics.representation import ari, kmeans, linear_probe
from latentbench.models import checks
from latentbench.models.mixtures import seed_from
from numpy import ndarray
from scipy.linalg import solve_triangular
from scipy.sparse import csr_matrix, triu
from scipy.special import digamma, gammaln, logsumexp
from torch import Generator

Settings = Mapping[str, Any]
BLOCK = 512


def bisect(rising: Callable[[ndarray], ndarray], low: ndarray, high: ndarray) -> ndarray:
    """Where an elementwise rising function is 0 between positive `low` and `high` (N,), or the end next to it."""
    for _ in range(60):
        middle = np.sqrt(low * high)
        above = rising(middle) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.sqrt(low * high)


def neighbour_graph(x: ndarray, neighbours: int = 15) -> csr_matrix:
    """UMAP's fuzzy graph of rows (N, D), symmetric (N, N) with weights in (0, 1] (McInnes et al. 2018, algorithm 2).

    Row i sees its neighbour j with a = exp(-(d_ij - r_i) / s_i), r_i the distance of the nearest and s_i such that
    they sum to log2(`neighbours`), itself being one of them and not counted; both views join as a + b - a b.
    """
    from sklearn.neighbors import kneighbors_graph

    a = kneighbors_graph(x, neighbours - 1, mode="distance")
    distances, target = a.data.reshape(len(x), -1), np.log2(neighbours)
    beyond, mean = distances - distances.min(1, keepdims=True), distances.mean(1) + 1e-12
    scale = bisect(lambda s: np.exp(-beyond / s[:, None]).sum(1) - target, 1e-3 * mean, 1e3 * mean)
    a.data = np.exp(-beyond / scale[:, None]).ravel()
    return (a + a.T - a.multiply(a.T)).tocsr()


def leiden(x: ndarray, seed: int, clusters: int | None = None, tries: int = 12) -> ndarray:
    """Communities (N,) of the neighbour graph: modularity, until nothing moves (Traag et al. 2019).

    Of resolution 1; or of the first of `tries` resolutions, by bisection from 1 within [1/64, 64], that gives
    `clusters` communities, and else of the one that comes nearest to so many.
    """
    try:
        import igraph
        import leidenalg
    except ImportError:
        raise UserError("Leiden needs leidenalg", fix="pip install 'latentbench[clustering]'") from None
    edges = triu(neighbour_graph(x)).tocoo()
    graph = igraph.Graph(len(x), np.stack([edges.row, edges.col], 1))
    kind, low, high, found = leidenalg.RBConfigurationVertexPartition, 1 / 64, 64.0, []
    for _ in range(tries if clusters else 1):
        settings = {"weights": edges.data, "resolution_parameter": (low * high) ** 0.5}
        found.append(leidenalg.find_partition(graph, kind, n_iterations=-1, seed=seed, **settings))
        if len(found[-1]) == clusters:
            break
        few = len(found[-1]) < (clusters or 0)
        low, high = ((low * high) ** 0.5, high) if few else (low, (low * high) ** 0.5)
    return np.array(min(found, key=lambda f: abs(len(f) - (clusters or 0))).membership)


def gaussian_mixture(x: ndarray, k: int, seed: int, covariance: str) -> ndarray:
    """Likeliest components (N,) of scikit-learn's mixture from k-means++ starts."""
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(k, covariance_type=covariance, init_params="k-means++", random_state=seed).fit_predict(x)


def degrees(constant: ndarray, least: float = 1.0, most: float = 1e4) -> ndarray:
    """The root v of constant - digamma(v / 2) + log(v / 2) = 0 within [least, most], (k,) as `constant`."""
    ends = np.full_like(constant, least), np.full_like(constant, most)
    return bisect(lambda v: digamma(v / 2) - np.log(v / 2) - constant, *ends)


def t_log_densities(apart: ndarray, scale: ndarray, v: ndarray) -> tuple[ndarray, ndarray]:
    """Log densities (k, N) of k multivariate t at distances (k, N, D) from their means; squared Mahalanobis ones."""
    d, root = apart.shape[-1], np.linalg.cholesky(scale)
    m = np.stack([np.square(solve_triangular(r, a.T, lower=True)).sum(0) for r, a in zip(root, apart, strict=True)])
    log_root = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
    norm = gammaln((v + d) / 2) - gammaln(v / 2) - d / 2 * np.log(v * np.pi) - log_root
    return norm[:, None] - (v + d)[:, None] / 2 * np.log1p(m / v[:, None]), m


def t_mixture(
    x: ndarray, k: int, seed: int, most: int = 1000, tolerance: float = 1e-5, floor: float = 1e-6
) -> tuple[ndarray, dict[str, ndarray]]:
    """Responsibilities (k, N) and parameters of a mixture of t distributions, by EM (Peel & McLachlan 2000, section 4).

    It begins at k-means++ rows with the covariance of all and 4 degrees of freedom, and ends where the mean
    log-likelihood, of which `bounds` is the course, changes by less than `tolerance`.
    """
    from sklearn.cluster import kmeans_plusplus

    d = x.shape[1]
    mean, ridge = kmeans_plusplus(x, k, random_state=seed)[0], floor * np.eye(d)
    scale = np.stack([np.atleast_2d(np.cov(x.T)) + ridge] * k)
    share, v, bounds = np.full(k, 1 / k), np.full(k, 4.0), [-np.inf]
    for _ in range(most):
        density, m = t_log_densities(x - mean[:, None], scale, v)
        joint = density + np.log(share)[:, None]
        total = logsumexp(joint, 0)
        bounds.append(total.mean())
        r = np.exp(joint - total)
        if abs(bounds[-1] - bounds[-2]) < tolerance:
            break
        u, size = (v + d)[:, None] / (v[:, None] + m), r.sum(1) + 1e-12
        ru, share = r * u, size / size.sum()
        mean = ru @ x / (ru.sum(1)[:, None] + 1e-12)
        scale = np.stack([(w * a.T) @ a / n + ridge for w, a, n in zip(ru, x - mean[:, None], size, strict=True)])
        half = (v + d) / 2
        v = degrees(1 + (r * (np.log(u) - u)).sum(1) / size + digamma(half) - np.log(half))
    return r, {"share": share, "mean": mean, "scale": scale, "degrees": v, "bounds": np.array(bounds[1:])}


TOLD: Mapping[str, Callable[[ndarray, int, int], ndarray]] = {
    "k-means": lambda x, k, seed: kmeans(x, k, seed=seed, restarts=1),
    "gmm-spherical": lambda x, k, seed: gaussian_mixture(x, k, seed, "spherical"),
    "gmm-full": lambda x, k, seed: gaussian_mixture(x, k, seed, "full"),
    "tmm": lambda x, k, seed: t_mixture(x, k, seed)[0].argmax(0),
}
CLUSTERINGS = {
    **TOLD,
    "leiden": lambda x, _, seed: leiden(x, seed),
    "leiden-told": lambda x, k, seed: leiden(x, seed, k),
}


@lru_cache(maxsize=8)
def clusters(by: str, codes: bytes, dims: int, k: int, seed: int) -> ndarray:
    """Clusters (N,) of float64 codes (N, dims); kept, since several metrics ask for the same."""
    return CLUSTERINGS[checks.one_of("by", by, CLUSTERINGS)](np.frombuffer(codes).reshape(-1, dims).copy(), k, seed)


def draws_of(model: Any, generator: Generator) -> Generator:
    """Draws of a model's own `start`, where it has one: every metric sees the same codes, clustered from one seed."""
    start = getattr(model, "start", None)
    return generator if start is None else torch.Generator(generator.device).manual_seed(int(start))


def codes_and_digits(model: Any, view: View, generator: Generator, most: int | None = None) -> tuple[ndarray, ndarray]:
    """Codes (N, D) of a split's first `most` rows, `row_codes` where the model has them, and their digits (N,)."""
    code = getattr(model, "row_codes", lambda x, _: model.encode(x))
    codes = torch.cat([code(x, generator).cpu() for x in view.x[:most].split(BLOCK)])
    return codes.double().numpy(), np.asarray(view.columns["y"])[:most]


def agreements(model: Any, view: View, generator: Generator, *by: str) -> dict[str, MetricValue]:
    """Adjusted Rand indices, with the digits, of clusterings of the codes; details: how many clusters."""
    draws = draws_of(model, generator)
    z, y = codes_and_digits(model, view, draws)
    k, seed = len(np.unique(y)), seed_from(draws)
    found = {name: clusters(name, z.tobytes(), z.shape[1], k, seed) for name in by}
    return {name: MetricValue(ari(c, y), None, len(y), {"clusters": len(np.unique(c))}) for name, c in found.items()}


@metric("code_clusters_ari", "Encoder", "1", "higher", settings={"by": "leiden"}, data=("labels",), within=(-1.0, 1.0))
def code_clusters_ari(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Adjusted Rand index of clusters of the codes and labels, by one of `CLUSTERINGS`; chance is 0."""
    return agreements(model, view, generator, settings["by"])[settings["by"]]


@metric("code_clusters_lead", "Encoder", "1", "higher", settings={"of": "leiden"}, data=("labels",), within=(-2.0, 2.0))
def code_clusters_lead(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """`code_clusters_ari` of one clustering less that of the best of `TOLD`, of the same codes; details: of each."""
    found = agreements(model, view, generator, settings["of"], *TOLD)
    each = {name: f.value for name, f in found.items()}
    lead = each[settings["of"]] - max(each[name] for name in TOLD if name != settings["of"])
    return MetricValue(lead, None, found[settings["of"]].n, each)


@metric(
    "code_line", "Encoder", "1", "higher", settings={"rows": 5000}, lowest={"rows": 2}, data=("labels",), within=(0, 1)
)
def code_line(model: Any, view: View, settings: Settings, generator: Generator) -> MetricValue:
    """Accuracy of a logistic regression on the codes that are clustered, learnt from those of `rows` training rows."""
    draws = draws_of(model, generator)
    z, y = codes_and_digits(model, view, draws)
    return linear_probe(*codes_and_digits(model, view.train, draws, int(settings["rows"])), z, y)
