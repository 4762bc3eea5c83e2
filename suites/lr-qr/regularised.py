"""Likelihood-ratio regularised quantile regression (LR-QR; Joshi et al. 2025, arXiv 2502.13030, algorithm 1).

A threshold h = <gamma, phi> of scores and a scale beta minimise

    L = E1 pinball(h, S) + lam E3 (beta h)^2 - 2 lam beta E2 h,

with E1 over labelled source rows, E3 over source and E2 over target rows without labels: beta h is drawn towards the
likelihood ratio of target to source, and where it is that ratio, h covers 1 - alpha of the target (section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from scipy.linalg import cho_factor, cho_solve, solve_triangular


@dataclass(frozen=True)
class Sample:
    """What the objective is made of.

    Attributes:
        basis: phi of labelled source rows (N, D), also used without labels.
        scores: of these rows (N,).
        target: phi of target rows without labels (M, D).
    """

    basis: ndarray
    scores: ndarray
    target: ndarray

    def moments(self) -> tuple[ndarray, ndarray]:
        """E3 phi phi' (D, D) and E2 phi (D,)."""
        return self.basis.T @ self.basis / len(self.basis), self.target.mean(0)


def slope(gamma: ndarray, beta: float, sample: Sample, lam: float, alpha: float) -> ndarray:
    """Gradient of L in gamma (D,) and beta, (D + 1,)."""
    second, mean = sample.moments()
    above = (sample.scores <= sample.basis @ gamma) - (1 - alpha)
    pull = beta * second @ gamma - mean
    return np.append(sample.basis.T @ above / len(above) + 2 * lam * beta * pull, 2 * lam * gamma @ pull)


def longest(*pairs: tuple[ndarray, ndarray]) -> float:
    """The step, at most 1, at which the first x + t dx of `pairs` (x, dx) reaches 0."""
    return min(1.0, *(float((-x / np.minimum(dx, -1e-300)).min()) for x, dx in pairs))


def quantile_program(basis: ndarray, s: ndarray, weight: float, lean: ndarray, alpha: float) -> ndarray:
    """The gamma (D,) that minimises pinball(basis gamma, s) + weight |gamma|^2 / 2 - lean' gamma, weight >= 0.

    By Mehrotra's predictor and corrector on the residuals' positive and negative parts u and v and the multipliers a
    of u - v = s - basis gamma, which lie between -alpha / N and (1 - alpha) / N.
    """
    (n, d), scale = basis.shape, float(np.abs(s).mean())
    gamma, a, high, low = np.zeros(d), np.zeros(n), (1 - alpha) / n, alpha / n
    u = np.maximum(s, 0) + 0.1 * scale
    v = u - s
    for _ in range(60):
        up, down = high - a, low + a
        primal, dual = s - basis @ gamma - u + v, weight * gamma - lean - basis.T @ a
        gap = u @ up + v @ down
        if max(gap / scale, np.abs(primal).max() / scale, np.abs(dual).max() / (1 + np.abs(lean).max())) < 1e-7:
            break
        curve = 1 / (u / up + v / down)
        matrix = basis.T @ (curve[:, None] * basis)
        matrix[np.diag_indices(d)] += weight + 1e-13 * np.trace(matrix)
        factor = cho_factor(matrix, overwrite_a=True, check_finite=False)
        more_u = more_v = np.zeros(n)
        for last in (False, True):
            du, dv = more_u / up - u, more_v / down - v
            rest = primal - du + dv
            change = cho_solve(factor, basis.T @ (curve * rest) - dual, check_finite=False)
            da = curve * (rest - basis @ change)
            du, dv = du + u / up * da, dv - v / down * da
            t = longest((u, du), (v, dv), (up, -da), (down, da))
            if not last:
                centre = ((u + t * du) @ (up - t * da) + (v + t * dv) @ (down + t * da)) ** 3 / gap**2 / (2 * n)
                more_u, more_v = centre + du * da, centre - dv * da
        t *= 0.99
        gamma, a, u, v = gamma + t * change, a + t * da, u + t * du, v + t * dv
    return gamma


def best_scale(t: ndarray, s: ndarray, alpha: float) -> float:
    """The b that minimises pinball(b t, s): a quantile of s / t weighted by |t|."""
    t, s = t[t != 0], s[t != 0]
    order = np.argsort(s / t)
    rise = -np.where(t > 0, 1 - alpha, alpha) @ np.abs(t) + np.cumsum(np.abs(t[order]))
    return float((s / t)[order][min(np.searchsorted(rise, 0.0), len(t) - 1)])


def fit(sample: Sample, lam: float, alpha: float) -> tuple[ndarray, float]:
    """A stationary point (gamma, beta) of L, downhill from beta = 1 / mean score.

    In turn the best gamma at a beta, the best beta at that gamma, and the best scale of h at their product, until beta
    changes by less than a thousandth. With lam = 0, quantile regression, and beta 0.
    """
    second, mean = sample.moments()
    second[np.diag_indices(len(mean))] += 1e-10 * np.trace(second)
    root = np.linalg.cholesky(second)  # coordinates in which E3 phi phi' is the identity
    basis = solve_triangular(root, sample.basis.T, lower=True).T
    mean = solve_triangular(root, mean, lower=True)
    beta = 1 / float(np.abs(sample.scores).mean())
    for _ in range(20 if lam else 1):
        gamma = quantile_program(basis, sample.scores, 2 * lam * beta**2, 2 * lam * beta * mean, alpha)
        found = float(mean @ gamma / (gamma @ gamma)) if lam else 0.0
        b = best_scale(found * (basis @ gamma), sample.scores, alpha) if found > 0 else 0.0
        before, beta = beta, 1 / b if b > 0 else max(found, 1e-6) if lam else 0.0
        if abs(beta - before) < 1e-3 * before:
            break
    return solve_triangular(root, gamma, lower=True, trans="T"), beta


def strengths(labelled: int, target: int, factors: ndarray) -> ndarray:
    """`factors` of lam*, which is of order (n1 (1/n2 + 1/n3))^(-1/3), as n1 = n3 here (theorem 4.2)."""
    return factors * (labelled * (1 / target + 1 / labelled)) ** (-1 / 3)


def choose(sample: Sample, lams: ndarray, alpha: float, rng: np.random.Generator, folds: int = 3) -> float:
    """The lam with the shortest gradient of L in rows left out, on average over folds (section 5.1)."""
    parts = rng.permutation(len(sample.basis)) % folds, rng.permutation(len(sample.target)) % folds
    lengths = np.zeros(len(lams))
    for k in range(folds):
        kept, left = (
            Sample(sample.basis[i], sample.scores[i], sample.target[j])
            for i, j in ((parts[0] != k, parts[1] != k), (parts[0] == k, parts[1] == k))
        )
        lengths += [np.linalg.norm(slope(*fit(kept, lam, alpha), left, lam, alpha)) for lam in lams]
    return float(lams[np.argmin(lengths)])
