"""Optimal transport: Bures-Wasserstein unexplained variance, entropic costs and Sinkhorn divergences.

Costs are c(x, y) = ‖x - y‖² / 2 throughout, the convention of the entropic-transport benchmarks; entropic transport is
min_π E_π c + ε KL(π ‖ μ ⊗ ν).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, matrix, to_numpy, vector
from latentbench.metrics.fidelity.frechet import FeatureMoments, frechet_distance_from_moments
from latentbench.metrics.fidelity.inputs import check_features, exact_distances

Values = Any  # array, list or tensor


@of_arrays("samples mean covariance", "per cent", "lower", "Korotin et al. 2021")
def bw2_uvp(samples: Values, mean: Values, covariance: Values) -> float:
    """Bures-Wasserstein unexplained variance percentage, lower is better, 0 at equal first two moments.

    100 BW₂²(P̂, Q) / (½ Var Q) with BW₂² half the squared 2-Wasserstein distance of Gaussians with the moments of the
    samples and of the target (Korotin et al. 2021; Gushchin et al. 2023); Var Q is the
    trace of the covariance.

    Args:
        samples: (N, D) from the model.
        mean, covariance: (D,), (D, D) of the target, exact or from many samples.
    """
    moments = FeatureMoments.of(samples)
    target = matrix(covariance, "covariance")
    return _uvp(frechet_distance_from_moments(moments.mean, moments.covariance, mean, target), np.trace(target))


@of_arrays("samples means covariances", "per cent", "lower", "Gushchin et al. 2023")
def conditional_bw2_uvp(samples: Values, means: Values, covariances: Values, variance: float) -> float:
    """Mean over conditions of the plans' BW₂²-UVP (cBW₂²-UVP of Gushchin et al. 2023), per cent, lower is better.

    Args:
        samples: (B, S, D): S draws of the model's plan π(y | x_b) for each of B conditions.
        means, covariances: (B, D), (B, D, D) of the true conditional plans.
        variance: Var Q of the whole target, the trace of its covariance.
    """
    x, mu, cov = to_numpy(samples), matrix(means, "means"), to_numpy(covariances)
    if x.ndim != 3 or mu.shape != (x.shape[0], x.shape[2]) or cov.shape != (*mu.shape, x.shape[2]):
        raise UserError(f"samples {x.shape}, means {mu.shape}, covariances {cov.shape}", where="samples")
    distances = []
    for draws, m, c in zip(x, mu, cov):
        moments = FeatureMoments.of(draws)
        distances.append(frechet_distance_from_moments(moments.mean, moments.covariance, m, c))
    return _uvp(float(np.mean(distances)), variance)


def _uvp(distance: float, variance: float) -> float:
    if not variance > 0:
        raise UserError(f"is {variance}", where="variance", fix="the target must vary")
    return float(100 * distance / variance)


@of_arrays("mean1 cov1 mean2 cov2", "cost", "none", "Janati et al. 2020")
def gaussian_entropic_cost(mean1: Values, cov1: Values, mean2: Values, cov2: Values, epsilon: float) -> float:
    """Entropic transport cost between two Gaussians in closed form (Janati et al. 2020, theorem 1, for c = ‖·‖²/2).

    Means (D,), covariances (D, D).

    ½ (‖m₁ - m₂‖² + tr A + tr B - Σ (d - ε) + ε Σ log((d + ε) / 2ε)) with d = (4 λ + ε²)^½ for each eigenvalue λ of
    A^½ B A^½: each term stays accurate as ε goes to 0, where the cost becomes half the squared Bures distance.
    """
    a, b = matrix(cov1, "cov1"), matrix(cov2, "cov2")
    m1, m2 = vector(mean1, "mean1"), vector(mean2, "mean2")
    if m1.shape != m2.shape or a.shape != (len(m1), len(m1)) or b.shape != a.shape:
        raise UserError(f"means {m1.shape}, {m2.shape}; covariances {a.shape}, {b.shape}", where="moments")
    shift = m1 - m2
    if not epsilon > 0:
        raise UserError(f"is {epsilon}", where="epsilon", fix="give a positive one")
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    lam = np.linalg.eigvalsh(root @ b @ root).clip(min=0)
    d = np.sqrt(4 * lam + epsilon**2)
    terms = -(d - epsilon) + epsilon * np.log((d + epsilon) / (2 * epsilon))
    return float(0.5 * (shift @ shift + np.trace(a) + np.trace(b) + terms.sum()))


@of_arrays("mean1 cov1 mean2 cov2", "cost", "lower", "Janati et al. 2020")
def gaussian_sinkhorn_divergence(mean1: Values, cov1: Values, mean2: Values, cov2: Values, epsilon: float) -> float:
    """Debiased entropic cost between two Gaussians, at least 0, 0 for equal ones (Janati et al. 2020)."""
    cross = gaussian_entropic_cost(mean1, cov1, mean2, cov2, epsilon)
    own = gaussian_entropic_cost(mean1, cov1, mean1, cov1, epsilon)
    other = gaussian_entropic_cost(mean2, cov2, mean2, cov2, epsilon)
    return max(cross - 0.5 * (own + other), 0.0)


@of_arrays("real fake", "cost", "lower", "Feydy et al. 2019")
def sinkhorn_divergence(
    real: Values, fake: Values, *, epsilon: float, steps: int = 10_000, tolerance: float = 1e-6
) -> float:
    """Sinkhorn divergence OT_ε(x, y) - ½ OT_ε(x, x) - ½ OT_ε(y, y) of two samples, at least 0 (Feydy et al. 2019).

    Lower is better. Log-domain iterations until the potentials move by less than `tolerance` times ε.

    Args:
        real, fake: (N, D), (M, D), equal weights. O(N M) memory.
        epsilon: regularisation, in the unit of the cost (half squared distance).

    Raises:
        UserError: no convergence within `steps`; raise ε or `steps`.
    """
    x, y = check_features(real, fake)
    if not epsilon > 0:
        raise UserError(f"is {epsilon}", where="epsilon", fix="give a positive one")
    costs = [_entropic_cost(a, b, epsilon, steps, tolerance) for a, b in ((x, y), (x, x), (y, y))]
    return max(costs[0] - 0.5 * (costs[1] + costs[2]), 0.0)


def _entropic_cost(x: Floats, y: Floats, epsilon: float, steps: int, tolerance: float) -> float:
    """OT_ε by Sinkhorn's iterations in the log domain; the dual value, which is the cost at convergence."""
    from scipy.special import logsumexp

    blocks = [d2 for _, d2 in exact_distances(x.astype(np.float64), y.astype(np.float64))]
    kernel = -np.concatenate(blocks) / (2 * epsilon)
    n, m = kernel.shape
    f, g = np.zeros(n), np.zeros(m)  # potentials over ε
    symmetric = x is y
    for _ in range(steps):
        new = -(logsumexp(kernel + g, axis=1) - np.log(m))
        if symmetric:  # the two potentials are one; averaging makes the iteration converge fast
            new = (f + new) / 2
            change, f, g = np.abs(new - f).max(), new, new
        else:
            change, f = np.abs(new - f).max(), new
            g = -(logsumexp(kernel + f[:, None], axis=0) - np.log(n))
        if change < tolerance:
            return float(epsilon * (f.mean() + g.mean()))
    raise UserError(f"no convergence in {steps} steps at epsilon {epsilon:g}", where="epsilon", fix="raise either")
