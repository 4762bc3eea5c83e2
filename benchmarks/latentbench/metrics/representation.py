"""How good a representation is: probes, clusters, and similarity between representations.

Classifiers, clustering indices and k-means are scikit-learn's; similarity of representations is own code (matrix
products, no library holds the standard).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, Ints, integers, matrix, ranks_of_values, same_columns, same_rows
from latentbench.metrics.correlation import centred_pair, orthonormal_basis

Values = Any  # array, list or tensor


def _labelled(codes: Values, labels: Values, name: str = "") -> tuple[Floats, Ints]:
    z, y = matrix(codes, f"codes{name}"), integers(labels, f"labels{name}")
    same_rows(**{f"codes{name}": z, f"labels{name}": y})
    return z, y


def _accuracy(correct: np.ndarray) -> MetricValue:
    n = len(correct)
    value = float(correct.mean())
    return MetricValue(value, float(np.sqrt(value * (1 - value) / n)), n)


@of_arrays("codes labels codes_test labels_test", "0 … 1", "higher", "Alain & Bengio 2016")
def linear_probe(
    codes: Values, labels: Values, codes_test: Values, labels_test: Values, *, c: float = 1.0, steps: int = 1000
) -> MetricValue:
    """Test accuracy of a logistic regression on standardised codes, 0 … 1, higher is better (Alain & Bengio 2016).

    Args:
        codes, labels: (N, D), (N,) int: training rows; `codes_test`, `labels_test` likewise.
        c: inverse L2 penalty.
        steps: limit of L-BFGS steps.
    """
    from sklearn.linear_model import LogisticRegression

    train, test, y, y_test = _probe_arrays(codes, labels, codes_test, labels_test)
    if (y == y[0]).all():
        return _accuracy(y_test == y[0])
    return _accuracy(LogisticRegression(C=c, max_iter=steps).fit(train, y).predict(test) == y_test)


@of_arrays("codes labels codes_test labels_test", "0 … 1", "higher", "Wu et al. 2018")
def knn_probe(
    codes: Values, labels: Values, codes_test: Values, labels_test: Values, *, k: int = 5, standardise: bool = False
) -> MetricValue:
    """Test accuracy of a majority vote among the k nearest training codes (Euclidean), 0 … 1, higher is better."""
    from sklearn.neighbors import KNeighborsClassifier

    train, test, y, y_test = _probe_arrays(codes, labels, codes_test, labels_test, standardise)
    if k < 1 or k > len(train):
        raise UserError(f"is {k}, with {len(train)} training rows", where="k")
    return _accuracy(KNeighborsClassifier(n_neighbors=k).fit(train, y).predict(test) == y_test)


def _probe_arrays(
    codes: Values, labels: Values, codes_test: Values, labels_test: Values, standardise: bool = True
) -> tuple[Floats, Floats, Ints, Ints]:
    (z, y), (z_test, y_test) = _labelled(codes, labels), _labelled(codes_test, labels_test, "_test")
    same_columns(codes=z, codes_test=z_test)
    if standardise:
        mean, std = z.mean(axis=0), z.std(axis=0)
        std = np.where(std > 0, std, 1.0)
        z, z_test = (z - mean) / std, (z_test - mean) / std
    return z, z_test, y, y_test


def kmeans(codes: Values, n_clusters: int, *, seed: int = 0, restarts: int = 10) -> Ints:
    """Cluster labels (N,) of scikit-learn's k-means (k-means++ starts, best of `restarts`)."""
    from sklearn.cluster import KMeans

    z = matrix(codes, "codes")
    if not 1 <= n_clusters <= len(z):
        raise UserError(f"is {n_clusters}, with {len(z)} rows", where="n_clusters")
    return KMeans(n_clusters, n_init=restarts, random_state=seed).fit(z).labels_.astype(np.int64)


def _two_labellings(predicted: Values, labels: Values) -> tuple[Ints, Ints]:
    p, y = integers(predicted, "predicted"), integers(labels, "labels")
    same_rows(predicted=p, labels=y)
    return p, y


@of_arrays("predicted labels", "0 … 1", "higher", "Yang et al. 2010")
def clustering_accuracy(predicted: Values, labels: Values) -> MetricValue:
    """Share of samples whose cluster is matched to their class, under the best one-to-one match, 0 … 1.

    Hungarian algorithm on the contingency table (Yang et al. 2010); clusters beyond the number of classes match none.
    """
    from scipy.optimize import linear_sum_assignment

    p, y = _two_labellings(predicted, labels)
    (p, n_p), (y, n_y) = ranks_of_values(p), ranks_of_values(y)
    table = np.bincount(p * n_y + y, minlength=n_p * n_y).reshape(n_p, n_y)
    rows, columns = linear_sum_assignment(-table)
    matched = np.full(n_p, -1)
    matched[rows] = columns
    return _accuracy(matched[p] == y)


@of_arrays("predicted labels", "0 … 1", "higher", "Vinh et al. 2010")
def nmi(predicted: Values, labels: Values) -> float:
    """Normalised mutual information (arithmetic mean of the entropies), 0 … 1, higher is better; scikit-learn's."""
    from sklearn.metrics import normalized_mutual_info_score

    p, y = _two_labellings(predicted, labels)
    return float(normalized_mutual_info_score(y, p))


@of_arrays("predicted labels", "… 1", "higher", "Hubert & Arabie 1985")
def ari(predicted: Values, labels: Values) -> float:
    """Adjusted Rand index, at most 1, 0 expected by chance, higher is better; scikit-learn's (Hubert & Arabie 1985)."""
    from sklearn.metrics import adjusted_rand_score

    p, y = _two_labellings(predicted, labels)
    return float(adjusted_rand_score(y, p))


@of_arrays("codes labels", "-1 … 1", "higher", "Rousseeuw 1987")
def silhouette(codes: Values, labels: Values) -> float:
    """Mean silhouette coefficient, -1 … 1, higher is better; scikit-learn's (Rousseeuw 1987). O(N²) time."""
    from sklearn.metrics import silhouette_score

    z, y = _labelled(codes, labels)
    n_values = ranks_of_values(y)[1]
    if not 2 <= n_values <= len(z) - 1:
        raise UserError(f"has {n_values} values for {len(z)} rows", where="labels", fix="give 2 to N-1 clusters")
    return float(silhouette_score(z, y))


@of_arrays("first second", "0 … 1", "higher", "Kornblith et al. 2019")
def cka(first: Values, second: Values, *, debiased: bool = False) -> float:
    """Linear centred kernel alignment of two representations of the same samples, higher is more alike.

    ‖X'Y‖² / (‖X'X‖ ‖Y'Y‖) of centred X (N, D1), Y (N, D2) (Kornblith et al. 2019): 0 … 1, invariant to rotation
    and scale. `debiased` uses the unbiased HSIC of Song et al. 2012 (needs N > 3): about 0 for unrelated
    representations however wide they are, and may be negative. N x N products are avoided where D is smaller.
    """
    x, y = centred_pair(first, second)
    if debiased:
        n = len(x)
        if n < 4:
            raise UserError(f"has {n} rows", where="first", fix="the unbiased estimate needs at least 4")
        cross, own_x, own_y = _hsic(x, y), _hsic(x, x), _hsic(y, y)
        if own_x <= 0 or own_y <= 0:
            raise UserError("too few rows for an unbiased estimate of a variance", where="first")
        return float(cross / np.sqrt(own_x * own_y))
    return float(np.square(x.T @ y).sum() / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def _hsic(x: Floats, y: Floats) -> float:
    """Unbiased HSIC of linear kernels times n(n-3), from products of D columns (Song et al. 2012)."""
    n = len(x)
    norms_x, norms_y = np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    trace = np.square(x.T @ y).sum() - norms_x @ norms_y
    sums_x, sums_y = x @ x.sum(axis=0) - norms_x, y @ y.sum(axis=0) - norms_y
    return float(trace + sums_x.sum() * sums_y.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (sums_x @ sums_y))


@of_arrays("first second", "0 … 1", "higher", "Raghu et al. 2017")
def svcca(first: Values, second: Values, *, variance: float = 0.99) -> float:
    """Mean canonical correlation after keeping the leading directions with `variance` of each side, 0 … 1.

    Raghu et al. 2017.
    """
    if not 0 < variance <= 1:
        raise UserError(f"is {variance}", where="variance", fix="give a share in (0, 1]")
    x, y = centred_pair(first, second)
    correlations = np.linalg.svd(orthonormal_basis(x, variance).T @ orthonormal_basis(y, variance), compute_uv=False)
    return float(np.clip(correlations, 0, 1).mean())


@of_arrays("first second", "0 … 1", "higher", "Hyvärinen & Morioka 2016")
def mean_correlation(
    first: Values,
    second: Values,
    *,
    up_to: Literal["permutation", "affine"] = "permutation",
    correlation: Literal["pearson", "spearman"] = "pearson",
) -> float:
    """Mean correlation of two representations of equal samples up to a permutation and signs, or an affine map, 0 … 1.

    The same figures as `disentanglement.mcc` and `mcc_affine`, between the codes of two models.
    """
    from latentbench.metrics.codes.matching import mcc, mcc_affine

    if up_to == "affine":
        return mcc_affine(first, second)
    if up_to != "permutation":
        raise UserError(f"unknown map {up_to!r}", where="up_to", fix="permutation or affine")
    return mcc(first, second, correlation=correlation)
