"""Two-sample distances from kernels and pairwise distances: KID, MMD, energy distance, Vendi score."""

from __future__ import annotations

from typing import Literal

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, matrix
from latentbench.metrics.fidelity.inputs import Values, check_features, squared_distances


@of_arrays("real fake", "squared MMD", "lower", "Bińkowski et al. 2018")
def kid(
    real: Values,
    fake: Values,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    rng: np.random.Generator | np.random.RandomState | None = None,
) -> MetricValue:
    """Kernel distance (Bińkowski et al. 2018), lower is better, 0 for equal distributions (may be negative).

    Unbiased squared MMD with the kernel (x·y / D + 1)³, averaged over random subsets. With a
    `numpy.random.RandomState(2020)` the subsets are torch-fidelity's, and so is the value. Both sets smaller than
    `subset_size` make one subset of all rows each.

    Returns:
        Mean; standard error over the subsets (which share rows, so that it is somewhat too small); details `std`, the
        spread over subsets that papers print.
    """
    x, y = check_features(real, fake, min_rows=2)
    x, y = x.astype(np.float64), y.astype(np.float64)
    if subsets < 1 or subset_size < 2:
        raise UserError(f"{subsets} subsets of {subset_size}", where="subset_size", fix="give at least 1 of 2")
    if max(len(x), len(y)) <= subset_size:
        return MetricValue(polynomial_mmd(x, y), None, len(y), {"subsets": 1})
    if min(len(x), len(y)) < subset_size:
        raise UserError(f"{subset_size} is more than {min(len(x), len(y))} rows", where="subset_size", fix="lower it")
    draw = rng if rng is not None else np.random.default_rng(0)
    values = np.array(
        [
            polynomial_mmd(
                x[draw.choice(len(x), subset_size, replace=False)], y[draw.choice(len(y), subset_size, replace=False)]
            )
            for _ in range(subsets)
        ]
    )
    se = float(values.std(ddof=1) / np.sqrt(subsets)) if subsets > 1 else None
    return MetricValue(float(values.mean()), se, len(y), {"std": float(values.std()), "subsets": subsets})


def polynomial_mmd(x: Floats, y: Floats, *, degree: int = 3) -> float:
    """Unbiased squared MMD of (N, D) and (M, D) with the kernel (x·y / D + 1)^degree (Gretton et al. 2012, eq. 3)."""

    def kernel(a: Floats, b: Floats) -> Floats:
        k = a @ b.T
        k /= a.shape[1]
        k += 1
        return k**degree if degree != 3 else k * k * k

    def within(a: Floats) -> float:
        k = kernel(a, a)
        return float((k.sum() - np.trace(k)) / (len(a) * (len(a) - 1)))

    return within(x) + within(y) - 2 * float(kernel(x, y).mean())


@of_arrays("real fake", "squared MMD", "lower", "Gretton et al. 2012", name="mmd", version=2)
def gaussian_mmd(real: Values, fake: Values, *, bandwidth: float | None = None) -> MetricValue:
    """`mmd`, whose bandwidth where none is given is the median distance of rows drawn from all of both samples."""
    x, y = check_features(real, fake, min_rows=2)
    if bandwidth is None:
        x, y = x.astype(np.float64), y.astype(np.float64)
        drawn = [_some(part, 2000) for part in (x, y)]
        bandwidth = _median_distance(np.concatenate(drawn))
    return mmd(x, y, bandwidth=bandwidth)


def _some(rows: Floats, most: int) -> Floats:
    """All rows, or `most` of them drawn without replacement: the first ones may be of one kind."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))]


def mmd(real: Values, fake: Values, *, bandwidth: float | None = None) -> MetricValue:
    """Unbiased squared MMD with the Gaussian kernel exp(-‖x-y‖² / (2 σ²)) (Gretton et al. 2012, eq. 3).

    Lower is better; 0 expected for equal distributions, and may be negative. In blocks, O(N M) time.

    Args:
        bandwidth: σ; default the median distance between different points of the pooled sample (at most 2,000 rows of
            each), the usual heuristic.

    Returns:
        The value; a first-order (Hoeffding) standard error, too small where the distributions are nearly equal;
        details `bandwidth`.
    """
    x, y = check_features(real, fake, min_rows=2)
    x, y = x.astype(np.float64), y.astype(np.float64)
    sigma = bandwidth if bandwidth is not None else _median_distance(np.concatenate([x[:2000], y[:2000]]))
    if not sigma > 0:
        raise UserError(f"is {sigma}", where="bandwidth", fix="give a positive one (all points may be equal)")
    xx, xy = _mean_kernels(x, x, sigma, own=True), _mean_kernels(x, y, sigma)
    yy, yx = _mean_kernels(y, y, sigma, own=True), _mean_kernels(y, x, sigma)
    value = float(xx.mean() + yy.mean() - 2 * xy.mean())
    variance = 4 * (np.var(xx - xy, ddof=1) / len(x) + np.var(yy - yx, ddof=1) / len(y))
    return MetricValue(value, float(np.sqrt(variance)), len(y), {"bandwidth": float(sigma)})


def _mean_kernels(a: Floats, b: Floats, sigma: float, *, own: bool = False) -> Floats:
    """Mean kernel of each row of `a` with the rows of `b` (the row itself left out if they are the same set)."""
    sums = np.concatenate([np.exp(d2 / (-2 * sigma**2)).sum(axis=1) for _, d2 in squared_distances(a, b)])
    return (sums - 1) / (len(b) - 1) if own else sums / len(b)


def _median_distance(points: Floats) -> float:
    columns = np.arange(len(points))
    upper = [d2[columns > columns[rows, None]] for rows, d2 in squared_distances(points, points)]
    return float(np.sqrt(np.median(np.concatenate(upper))))


@of_arrays("real fake", "root feature unit", "lower", "Székely & Rizzo 2013")
def energy_distance(real: Values, fake: Values) -> float:
    """Energy distance (2 E‖X-Y‖ - E‖X-X'‖ - E‖Y-Y'‖)^½ of the two samples (Székely & Rizzo 2013), >= 0, lower better.

    The distance between the empirical distributions (means over all pairs, a point with itself included), as scipy has
    it in one dimension; 0 only for equal samples. O(N M) time, in blocks.
    """
    x, y = check_features(real, fake)
    x, y = x.astype(np.float64), y.astype(np.float64)

    def mean_distance(a: Floats, b: Floats) -> float:
        return sum(float(np.sqrt(d2).sum()) for _, d2 in squared_distances(a, b)) / (len(a) * len(b))

    return float(np.sqrt(max(2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y), 0.0)))


@of_arrays("samples", "1 … N", "higher", "Friedman & Dieng 2023")
def vendi_score(samples: Values, *, kernel: Literal["cosine", "linear"] = "cosine", order: float = 1.0) -> float:
    """Vendi score, the effective number of different samples, 1 … N (Friedman & Dieng 2023, definition 3.1).

    The exponential of the Rényi entropy, of the given `order` (1: Shannon), of the eigenvalues of K/N. Higher is more
    diverse; says nothing of fidelity. The eigenvalues come from the smaller of the N x N and D x D products.

    Args:
        samples: (N, D) features.
        kernel: `cosine` (rows scaled to length 1; a row of zeros has no direction: `UserError`), or `linear` for rows
            that have length 1 already.
    """
    x = matrix(samples, "samples", flatten=True)
    lengths = np.linalg.norm(x, axis=1)
    if kernel == "cosine":
        if (lengths == 0).any():
            raise UserError("a row of zeros has no direction", where="samples", fix="drop it")
        x = x / lengths[:, None]
    elif kernel != "linear":
        raise UserError(f"unknown kernel {kernel!r}", where="kernel", fix="cosine or linear")
    elif not np.allclose(lengths, 1):
        raise UserError("rows must have length 1 under the linear kernel", where="samples")
    gram = (x @ x.T if len(x) <= x.shape[1] else x.T @ x) / len(x)
    p = np.linalg.eigvalsh(gram)
    p = p[p > 1e-15]
    p /= p.sum()
    if order == 1:
        return float(np.exp(-(p * np.log(p)).sum()))
    if order <= 0:
        raise UserError(f"is {order}", where="order", fix="give a positive one")
    return float(1 / p.max()) if np.isinf(order) else float(np.exp(np.log((p**order).sum()) / (1 - order)))
