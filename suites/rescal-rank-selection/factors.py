"""Non-negative RESCAL over perturbed copies of a tensor, and how stable its features are.

X_i = A R_i A' for relations i, with A (entities, rank) and R_i (rank, rank) at least zero. Many fits run side by side.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray
from sklearn.metrics import silhouette_samples

EPS = np.finfo(float).eps


def perturbed(x: ndarray, copies: int, spread: float, rng: np.random.Generator) -> ndarray:
    """Copies (P, m, n, n) of x (m, n, n), each entry times a uniform number in (1 - spread, 1 + spread)."""
    return x * rng.uniform(1.0 - spread, 1.0 + spread, (copies, *x.shape))


def step(both: ndarray, a: ndarray, r: ndarray) -> tuple[ndarray, ndarray]:
    """A multiplicative update of R and then of A for the squared error.

    Args:
        both: X_1, .., X_m and their transposes of each of P tensors, (P, n, 2 m, n): entity, slice, entity.
        a: (P, n, k).
        r: (P, k, m, k): [p, :, i, :] is R_i.
    """
    p, n, slices, _ = both.shape
    k, m = a.shape[2], slices // 2
    gram = a.swapaxes(1, 2) @ a
    products = (both.reshape(p, n * slices, n) @ a).reshape(p, n, slices * k)  # X_i A, then X_i' A
    fitted = ((gram @ r.reshape(p, k, m * k)).reshape(p, k * m, k) @ gram).reshape(p, k, m, k)
    r = r * (a.swapaxes(1, 2) @ products[:, :, : m * k]).reshape(p, k, m, k) / (fitted + EPS)
    cores = np.concatenate([r.transpose(0, 2, 3, 1), r.transpose(0, 2, 1, 3)], axis=1)  # R_i', then R_i
    weighted = (gram @ cores.transpose(0, 2, 1, 3).reshape(p, k, slices * k)).reshape(p, k, slices, k)
    flat = cores.reshape(p, slices * k, k)
    within = flat.swapaxes(1, 2) @ weighted.swapaxes(1, 2).reshape(p, slices * k, k)
    return a * (products @ flat) / (a @ within + EPS), r


def factorise(x: ndarray, rank: int, iterations: int, rng: np.random.Generator) -> tuple[ndarray, ndarray]:
    """A (P, n, rank) and R (P, m, rank, rank) of tensors x (P, m, n, n), from uniform starts of their own."""
    p, m, n, _ = x.shape
    both = np.ascontiguousarray(np.concatenate([x, x.swapaxes(2, 3)], axis=1).swapaxes(1, 2))
    a, r = rng.random((p, n, rank)), rng.random((p, rank, m, rank))
    for i in range(iterations):
        a, r = step(both, a, r)
        if i % 10 == 0:
            a, r = np.maximum(a, EPS), np.maximum(r, EPS)
    return a, r.swapaxes(1, 2)


def relative_errors(x: ndarray, a: ndarray, r: ndarray) -> ndarray:
    """Norm of X - A R A' over that of X (m, n, n), for each of P fits."""
    fitted = a[:, None] @ r @ a[:, None].swapaxes(2, 3)
    return np.sqrt(((x - fitted) ** 2).sum((1, 2, 3)) / (x**2).sum())


def matched(centroids: ndarray, features: ndarray) -> ndarray:
    """For each centroid (n, k) a feature (n, k) of its own, by greatest cosine first; all of unit length."""
    cosines, order = centroids.T @ features, np.zeros(features.shape[1], dtype=int)
    for _ in order:
        row, column = np.unravel_index(np.argmax(cosines), cosines.shape)
        order[row] = column
        cosines[row, :], cosines[:, column] = -np.inf, -np.inf
    return order


def clustered(features: ndarray, rounds: int = 100) -> tuple[ndarray, ndarray]:
    """Clusters with one feature of each fit, about medians.

    Args:
        features: (P, n, k).

    Returns:
        Centroids (n, k) and the features in the order of their clusters (P, n, k), of unit length.
    """
    features = features / (np.linalg.norm(features, axis=1, keepdims=True) + EPS)
    centroids = features[0]
    for _ in range(rounds):
        orders = [matched(centroids, one) for one in features]
        features = np.stack([one[:, order] for one, order in zip(features, orders, strict=True)])
        centroids = np.median(features, axis=0)
        centroids = centroids / (np.linalg.norm(centroids, axis=0) + EPS)
        if all((order == np.arange(len(order))).all() for order in orders):
            break
    return centroids, features


def silhouettes(features: ndarray) -> ndarray:
    """Mean silhouette width of each cluster (k,), by angles of unit features (P, n, k); 1 of a single cluster."""
    copies, n, k = features.shape
    if k == 1:
        return np.ones(1)
    vectors = features.swapaxes(1, 2).reshape(copies * k, n)
    angles = np.arccos(np.clip(vectors @ vectors.T, -1.0, 1.0))
    np.fill_diagonal(angles, 0.0)
    widths = silhouette_samples(angles, np.tile(np.arange(k), copies), metric="precomputed")
    return widths.reshape(copies, k).mean(0)
