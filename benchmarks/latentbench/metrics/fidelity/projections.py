"""Sliced Wasserstein distance."""

from __future__ import annotations

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, matrix
from latentbench.metrics.fidelity.inputs import Values, check_features

CELLS = 8_000_000  # projected values held at once


@of_arrays("real fake directions?", "feature unit", "lower", "Bonneel et al. 2015")
def sliced_wasserstein(
    real: Values,
    fake: Values,
    *,
    projections: int = 500,
    p: float = 2.0,
    directions: Values | None = None,
    rng: np.random.Generator | None = None,
) -> MetricValue:
    """Sliced p-Wasserstein distance (mean over directions of W_p^p)^(1/p) of two samples (Bonneel et al. 2015), >= 0.

    Lower is better, in the unit of the features. Exact in each direction for samples of any two sizes. Own code: the
    same values as POT's, with one quantile table for all directions and in blocks of them.

    Args:
        projections: random directions, uniform on the sphere.
        directions: (L, D) directions to use instead; scaled to length 1.
        rng: default `numpy.random.default_rng(0)`.

    Returns:
        The distance; standard error over the random directions (delta method).
    """
    x, y = check_features(real, fake)
    x, y = x.astype(np.float64), y.astype(np.float64)
    if directions is None:
        if projections < 1:
            raise UserError(f"is {projections}", where="projections", fix="give at least 1")
        theta = (rng or np.random.default_rng(0)).normal(size=(projections, x.shape[1]))
    else:
        theta = matrix(directions, "directions")
    if theta.shape[1] != x.shape[1] or not np.linalg.norm(theta, axis=1).all():
        raise UserError(f"has shape {theta.shape}", where="directions", fix=f"give (L, {x.shape[1]}), none of length 0")
    if not p >= 1:
        raise UserError(f"is {p}", where="p", fix="give at least 1")
    theta = theta / np.linalg.norm(theta, axis=1, keepdims=True)
    step = max(1, CELLS // (len(x) + len(y)))
    costs = np.concatenate([_costs(x @ t.T, y @ t.T, p) for t in np.split(theta, range(step, len(theta), step))])
    mean = float(costs.mean())
    se = None
    if len(costs) > 1:
        error = float(costs.std(ddof=1) / np.sqrt(len(costs)))
        se = error * mean ** (1 / p - 1) / p if mean > 0 else 0.0
    return MetricValue(mean ** (1 / p), se, len(y), {"projections": len(costs)})


def _costs(a: Floats, b: Floats, p: float) -> Floats:
    """W_p^p between the columns of (N, L) and (M, L), (L,)."""
    a, b = np.sort(a, axis=0), np.sort(b, axis=0)
    if len(a) == len(b):
        return (np.abs(a - b) ** p).mean(axis=0)
    # steps of the two quantile functions, as integers in units of 1/(N M): the same for every direction
    n, m = len(a), len(b)
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    weights = np.diff(ends, prepend=0) / (n * m)
    return weights @ np.abs(a[(ends - 1) // m] - b[(ends - 1) // n]) ** p
