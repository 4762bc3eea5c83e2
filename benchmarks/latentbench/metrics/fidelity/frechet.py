"""Fréchet distance between Gaussians fitted to features, streamed, and extrapolated to infinitely many samples."""

from __future__ import annotations

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, matrix, vector
from latentbench.metrics.fidelity.inputs import Values, check_features


class FeatureMoments:
    """Mean and covariance of features, fed in batches, in memory of D² numbers; parts made apart can be merged.

    Deviations from the running mean are summed in float64 (Chan, Golub & LeVeque 1983), so that a large mean
    does not swallow a small variance.
    """

    def __init__(self, dims: int) -> None:
        self.n = 0
        self.mean = np.zeros(dims)
        self._scatter = np.zeros((dims, dims))

    @classmethod
    def of(cls, features: Values, batch: int = 4096) -> FeatureMoments:
        """Moments of a whole array (N, D)."""
        x = matrix(features, "features", flatten=True, keep=True)
        moments = cls(x.shape[1])
        for start in range(0, len(x), batch):
            moments.update(x[start : start + batch])
        return moments

    def update(self, features: Values) -> None:
        """Add rows (n, D)."""
        x = matrix(features, "features", flatten=True)
        if x.shape[1] != len(self.mean):
            raise UserError(f"has {x.shape[1]} columns where {len(self.mean)} are expected", where="features")
        mean = x.mean(axis=0)
        centred = x - mean
        self._add(len(x), mean, centred.T @ centred)

    def merge(self, other: FeatureMoments) -> None:
        """Add the rows that another has seen."""
        if len(other.mean) != len(self.mean):
            raise UserError(f"has {len(other.mean)} dimensions where {len(self.mean)} are expected", where="other")
        if other.n:
            self._add(other.n, other.mean, other._scatter)

    def _add(self, n: int, mean: Floats, scatter: Floats) -> None:
        total = self.n + n
        shift = mean - self.mean
        self._scatter += scatter
        if self.n:
            self._scatter += np.outer(shift, shift) * (self.n * n / total)
        self.mean = self.mean + shift * (n / total)
        self.n = total

    @property
    def covariance(self) -> Floats:
        """Unbiased (D, D) covariance; `UserError` with fewer than two rows."""
        if self.n < 2:
            raise UserError(f"has {self.n} rows", where="features", fix="a covariance needs at least 2")
        return self._scatter / (self.n - 1)


def frechet_distance_from_moments(mean1: Values, cov1: Values, mean2: Values, cov2: Values) -> float:
    """‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½) (Dowson & Landau 1982), at least 0. Means (D,), covariances (D, D).

    tr (Σ₁ Σ₂)^½ is the sum of the roots of the eigenvalues of A'Σ₂A with A A' = Σ₁, a symmetric matrix: faster than the
    eigenvalues of the product or a matrix square root, and never complex. A is a Cholesky factor or, where Σ₁ is
    singular, its square root on its range.
    """
    c1, c2 = np.array(matrix(cov1, "cov1"), order="C"), np.array(matrix(cov2, "cov2"), order="C")
    m1, m2 = vector(mean1, "mean1"), vector(mean2, "mean2")
    if c1.shape != (len(m1), len(m1)) or c2.shape != c1.shape or m2.shape != m1.shape:
        raise UserError(f"means {m1.shape}, {m2.shape}; covariances {c1.shape}, {c2.shape}", where="moments")
    return _distance(m1 - m2, np.trace(c1) + np.trace(c2), _root_trace(_factor(c1), c2))


def _root_trace(factor: Floats, covariance: Floats) -> float:
    """tr (Σ₁ Σ₂)^½ from a factor A of Σ₁ = A A' and Σ₂."""
    import torch

    if not factor.size:
        return 0.0
    a, c = torch.from_numpy(factor), torch.from_numpy(covariance)
    return float(torch.linalg.eigvalsh(a.T @ c @ a).clamp_min(0).sqrt().sum())


def _factor(covariance: Floats) -> Floats:
    """A with A A' = Σ. torch's LAPACK is twice as fast as numpy's where its packages are built with MKL."""
    import torch

    c = torch.from_numpy(covariance)
    factor, failed = torch.linalg.cholesky_ex(c)
    if not int(failed):
        return factor.numpy()
    values, vectors = torch.linalg.eigh(c)
    keep = values > values[-1].clamp_min(0) * len(values) * torch.finfo(c.dtype).eps
    return (vectors[:, keep] * values[keep].sqrt()).numpy()


def _distance(shift: Floats, traces: float, roots: float) -> float:
    return max(float(shift @ shift + traces - 2 * roots), 0.0)


@of_arrays("real fake", "squared feature unit", "lower", "Heusel et al. 2017")
def frechet_distance(real: Values, fake: Values) -> float:
    """Fréchet distance of Gaussians fitted to features (N, D), (M, D) (Heusel et al. 2017), lower is better, >= 0.

    Unbiased covariances, float64 throughout. The estimate is biased upwards by an amount that falls with N and differs
    between models: compare at equal N, or use `frechet_distance_infinite`. The extractor is part of the metric's name
    (`fid_inception` …): with other features it is another metric.

    With fewer rows than dimensions, where a covariance is singular, the centred features take the place of its factor
    (both sides: the trace is the sum of the singular values of their product), which is faster and loses no precision.

    Raises:
        UserError: NaN, fewer than two rows, unequal dimensions.
    """
    x, y = check_features(real, fake, min_rows=2)
    dims = x.shape[1]
    if min(len(x), len(y)) > dims:
        return frechet_distance_streamed(FeatureMoments.of(x), FeatureMoments.of(y))
    few, many = (x, y) if len(x) <= len(y) else (y, x)
    mean, factor = _rows_as_factor(few)
    if len(many) > dims:
        moments = FeatureMoments.of(many)
        covariance = moments.covariance
        roots = _root_trace(factor.T, covariance)
        return _distance(mean - moments.mean, np.square(factor).sum() + np.trace(covariance), roots)
    other_mean, other = _rows_as_factor(many)
    roots = float(np.linalg.svd(factor @ other.T, compute_uv=False).sum())
    return _distance(mean - other_mean, np.square(factor).sum() + np.square(other).sum(), roots)


def _rows_as_factor(features: Floats) -> tuple[Floats, Floats]:
    x = features.astype(np.float64)
    mean = x.mean(axis=0)
    return mean, (x - mean) / np.sqrt(len(x) - 1)


@of_arrays("real fake", "squared feature unit", "lower", "Chong & Forsyth 2020")
def frechet_distance_infinite(
    real: Values,
    fake: Values,
    *,
    smallest: int | None = None,
    points: int = 15,
    rng: np.random.Generator | None = None,
) -> MetricValue:
    """Fréchet distance extrapolated to infinitely many generated samples (Chong & Forsyth 2020).

    The distance at `points` subset sizes from `smallest` to M is regressed on 1/size; the intercept is the estimate.
    Subsets are drawn at random (the paper's Sobol sequences need the generator). The bias that the finite real set
    leaves is the same for all models.

    Args:
        smallest: default M/10, but more than D rows.
        rng: default `numpy.random.default_rng(0)`.

    Returns:
        The intercept, with the regression's standard error; details `slope`, `at_n` (the plain distance at M).
    """
    x, y = check_features(real, fake, min_rows=2)
    rng = rng or np.random.default_rng(0)
    low = smallest if smallest is not None else max(len(y) // 10, x.shape[1] + 1)
    if points < 3 or not 2 <= low < len(y):
        raise UserError(
            f"{points} sizes from {low} to {len(y)} cannot be extrapolated",
            where="fake",
            fix="give more samples than feature dimensions, or `smallest`",
        )
    sizes = np.unique(np.linspace(low, len(y), points).astype(int))
    if len(sizes) < 3:
        raise UserError(
            f"has {len(y)} rows: from {low} on that is {len(sizes)} sizes, and a line with an error needs 3",
            where="fake",
            fix=f"give {low + 2} rows or more, or `smallest`",
        )
    moments = FeatureMoments.of(x)
    covariance = moments.covariance
    distances = []
    for size in sizes:
        part = FeatureMoments.of(y[rng.permutation(len(y))[:size]])
        distances.append(frechet_distance_from_moments(moments.mean, covariance, part.mean, part.covariance))
    fit, error = np.polyfit(1 / sizes, distances, 1, cov=True)
    details = {"slope": float(fit[0]), "at_n": float(distances[-1]), "sizes": len(sizes)}
    return MetricValue(float(fit[1]), float(np.sqrt(error[1, 1])), len(y), details)


def frechet_distance_streamed(first: FeatureMoments, second: FeatureMoments) -> float:
    """Fréchet distance of two streamed sets of moments."""
    return frechet_distance_from_moments(first.mean, first.covariance, second.mean, second.covariance)
