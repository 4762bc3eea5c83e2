"""Semidefinite relaxations of clustering by likelihood (Zhuang, Chen & Yang 2023, arXiv 2209.15097).

A partition into K groups is lifted to Z_k = 1_k 1_k' / n_k, (n, n). For Gaussian groups with covariances S_k the log
likelihood of rows x, with the best means, is linear in them:

    sum_k <A_k, Z_k>,   A_k[i, j] = -(log det S_k) / 2 - (x_i - x_j)' S_k^-1 (x_i - x_j) / 4,

up to the constant -n d log(2 pi) / 2. What is kept of a partition is Z_k psd, Z_k >= 0, tr Z_k = 1, sum_k Z_k 1 = 1.
With one S for all groups the sum of the Z_k solves the relaxation of k-means (Peng & Wei 2007).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray


def affinities(x: ndarray, covariances: ndarray) -> ndarray:
    """A_k (K, n, n) of rows x (n, d) under covariances (K, d, d)."""
    found = np.empty((len(covariances), len(x), len(x)))
    for k, s in enumerate(covariances):
        root = np.linalg.cholesky(s)
        z = np.linalg.solve(root, x.T)
        squares = (z**2).sum(0)
        distances = squares[:, None] + squares - 2 * z.T @ z
        found[k] = -np.log(np.diag(root)).sum() - distances / 4
    return found


def lifted(labels: ndarray, groups: int) -> ndarray:
    """Z_k (K, n, n) of a partition (n,) with no empty group."""
    members = (labels == np.arange(groups)[:, None]).astype(float)
    return members[:, :, None] * members[:, None, :] / members.sum(1)[:, None, None]


def within(z: ndarray, traces: ndarray) -> ndarray:
    """The nearest symmetric matrices with tr Z_k = traces[k] and sum_k Z_k 1 = 1, to symmetric ones (K, n, n)."""
    groups, n, _ = z.shape
    trace = np.trace(z, axis1=1, axis2=2) - traces
    rows = z.sum((0, 2)) - 1.0
    total = (rows.sum() - trace.sum()) / (groups * (n - 1))  # 1' of the multipliers of the rows
    shift = (trace - total) / n
    multipliers = (2 * (rows - shift.sum()) / groups - total) / n
    return z - shift[:, None, None] * np.eye(n) - (multipliers[:, None] + multipliers) / 2


def semidefinite(z: ndarray) -> ndarray:
    """The nearest positive semidefinite matrices to symmetric ones (K, n, n)."""
    values, vectors = np.linalg.eigh(z)
    return (vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.swapaxes(1, 2)


class Solution(NamedTuple):
    """What `solve` ends with.

    Attributes:
        z: (K, n, n), with the rows' sums and traces of the program.
        psd, positive: copies of it (K, n, n) that are psd and at least zero.
        psd_dual, positive_dual: their multipliers (K, n, n), of the affinities over `scale` and over the penalty.
        penalty: at the end.
        scale: the affinities' largest distance from their mean.
        iterations: how many.
    """

    z: ndarray
    psd: ndarray
    positive: ndarray
    psd_dual: ndarray
    positive_dual: ndarray
    penalty: float
    scale: float
    iterations: int


def solve(
    a: ndarray, traces: ndarray, start: Solution | None = None, tolerance: float = 1e-3, most: int = 2000
) -> Solution:
    """The most of sum_k <A_k, Z_k> over Z_k psd, Z_k >= 0, tr Z_k = traces[k], sum_k Z_k 1 = 1, by ADMM.

    The affine part with the objective alternates with the two cones, each on a copy of its own; steps are over-relaxed
    by 1.6 and the penalty follows the residuals, for 500 iterations, after which convergence is known.

    Args:
        a: affinities (K, n, n), symmetric.
        traces: (K,), which sum to the number of groups.
        start: the solution of a program like this one.
        tolerance: of both residuals (Frobenius norms); and, a row, of the objective at the three copies and ten
            iterations ago.
        most: iterations.
    """
    scale = float(np.abs(a - a.mean()).max()) or 1.0
    if start is None:
        y = np.eye(a.shape[1]) / a.shape[1] * traces[:, None, None]
        w, u, v, penalty = y, np.zeros_like(y), np.zeros_like(y), 1.0
    else:
        y, w, u, v, penalty = start.psd, start.positive, start.psd_dual, start.positive_dual, start.penalty
    z, i, last = y, 0, np.inf
    for i in range(1, most + 1):
        z = within((y - u + w - v + a / (scale * penalty)) / 2, traces)
        before = y + w
        u, v = u + 1.6 * z - 0.6 * y, v + 1.6 * z - 0.6 * w
        y, w = semidefinite(u), np.maximum(v, 0.0)
        u, v = u - y, v - w
        if i % 10:
            continue
        primal = float(np.sqrt(((z - y) ** 2).sum() + ((z - w) ** 2).sum()))
        dual = penalty * float(np.linalg.norm(y + w - before))
        reached = np.array([last, *((a * copy).sum() for copy in (z, y, w))])
        if max(primal, dual) < tolerance and np.ptp(reached) < tolerance * a.shape[1]:
            break
        last = reached[1]
        if i % 20 == 0 and i <= 500 and max(primal, dual) > 2 * min(primal, dual):
            factor = 2.0 if primal > dual else 0.5
            penalty, u, v = penalty * factor, u / factor, v / factor
    return Solution(z, y, w, u, v, penalty, scale, i)


def covariances(x: ndarray, z: ndarray, floor: float) -> ndarray:
    """S_k (K, d, d) of the greatest likelihood, given Z_k (K, n, n), among those with no eigenvalue below `floor`.

    Without the floor S_k = X' (diag(Z_k 1) - Z_k) X / 1' Z_k 1: of a partition, the covariances of its groups.
    """
    weights = z.sum(2)
    scatter = np.einsum("ki,id,ie->kde", weights, x, x) - x.T @ z @ x
    values, vectors = np.linalg.eigh(scatter / np.maximum(weights.sum(1), 1e-9)[:, None, None])
    return (vectors * np.maximum(values, floor)[:, None, :]) @ vectors.swapaxes(1, 2)


def ascend(
    x: ndarray, labels: ndarray, groups: int, floor: float, rounds: int, least: float = 0.005
) -> tuple[ndarray, list[float]]:
    """iLA-SDP: turns of Z given S and of S given Z, from the covariances of a partition.

    Each turn maximises the relaxed likelihood in one of them, so that it rises until a turn adds less than `least` a
    row, or for `rounds` turns.

    Returns:
        Z_k (K, n, n) and the relaxed log likelihood after each turn.
    """
    z, solution, reached = lifted(labels, groups), None, []
    for _ in range(rounds):
        a = affinities(x, covariances(x, z, floor))
        solution = solve(a, np.ones(groups), solution)
        z = solution.z
        reached.append(float((a * z).sum()))
        if len(reached) > 1 and reached[-1] - reached[-2] < least * len(x):
            break
    return z, reached


def exact_likelihood(x: ndarray, labels: ndarray, floor: float) -> float:
    """Log likelihood of rows and partition with the best means and covariances, without -n d log(2 pi) / 2."""
    z = lifted(np.unique(labels, return_inverse=True)[1], len(np.unique(labels)))
    return float((affinities(x, covariances(x, z, floor)) * z).sum())
