"""Metrics from nearest neighbours: improved precision and recall, density and coverage, memorisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, Ints, matrix, same_columns
from latentbench.metrics.fidelity.inputs import Values, check_features, exact_distances


@dataclass(frozen=True)
class PrecisionRecall:
    """Improved precision and recall, each 0 … 1, higher is better."""

    precision: float
    recall: float


@dataclass(frozen=True)
class DensityCoverage:
    """Density (>= 0, about 1 for equal distributions) and coverage (0 … 1), higher is better."""

    density: float
    coverage: float


@of_arrays("real fake", "0 … 1", "higher", "Kynkäänniemi et al. 2019")
def precision_recall(real: Values, fake: Values, *, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1-2).

    Precision: share of generated features inside some real feature's ball that reaches to its k-th nearest real
    neighbour; recall: the same with the roles exchanged. One pass over the real-to-generated distances in blocks of
    128 MB: 10,000 x 2,048 features need well under 2 GiB.

    Args:
        real, fake: (N, D), (M, D) features, each with more than k rows.
    """
    x, y = _checked(real, fake, k)
    radius_x, radius_y = _radii(x, k), _radii(y, k)
    inside_real, inside_fake = np.zeros(len(y), dtype=bool), np.zeros(len(x), dtype=bool)
    for rows, d2 in exact_distances(x, y):
        inside_real |= (d2 <= radius_x[rows, None]).any(axis=0)
        inside_fake[rows] = (d2 <= radius_y).any(axis=1)
    return PrecisionRecall(float(inside_real.mean()), float(inside_fake.mean()))


@of_arrays("real fake", "0 …", "higher", "Naeem et al. 2020")
def density_coverage(real: Values, fake: Values, *, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020).

    Density: number of real balls (to the k-th nearest real neighbour) that a generated feature lies in, over k, mean.
    Coverage: share of real balls that hold a generated feature; 1 - 2^-k is expected of equal distributions and sizes.
    """
    x, y = _checked(real, fake, k)
    radius = _radii(x, k)
    inside, covered = 0, np.zeros(len(x), dtype=bool)
    for rows, d2 in exact_distances(x, y):
        hits = d2 <= radius[rows, None]
        inside += int(np.count_nonzero(hits))
        covered[rows] = hits.any(axis=1)
    return DensityCoverage(inside / (k * len(y)), float(covered.mean()))


def _checked(real: Values, fake: Values, k: int) -> tuple[Floats, Floats]:
    x, y = check_features(real, fake)
    if not 1 <= k < min(len(x), len(y)):
        raise UserError(
            f"is {k}, with {len(x)} real and {len(y)} generated rows", where="k", fix="give fewer than rows"
        )
    return x, y


def _radii(x: Floats, k: int) -> Floats:
    """Squared distance of each row to its k-th nearest other row."""
    return np.concatenate([np.partition(d2, k, axis=1)[:, k] for _, d2 in exact_distances(x, x)])


def nearest(queries: Values, points: Values, *, exclude_self: bool = False) -> tuple[Floats, Ints]:
    """Distance to, and index of, the nearest of `points` for every row of `queries`, (N,), (N,).

    `exclude_self`: the two are the same array, and a row is not its own neighbour.
    """
    x, y = check_features(queries, points)
    if exclude_self and len(y) < 2:
        raise UserError("has one row, and no other to be near to", where="points")
    index = np.empty(len(x), dtype=np.int64)
    for rows, d2 in exact_distances(x, y):
        if exclude_self:
            own = np.arange(rows.start, rows.start + len(d2))
            d2[np.arange(len(d2)), own] = np.inf
        index[rows] = d2.argmin(axis=1)
    # the distance itself is taken from the difference: no cancellation
    return np.linalg.norm(x.astype(np.float64) - y[index], axis=1), index


@of_arrays("fake train test", "share", "none")
def nearest_training_ratio(fake: Values, train: Values, test: Values) -> MetricValue:
    """Share of generated samples nearer to the training set than the median test sample is, 0 … 1.

    0.5 for a model as good as new data; near 1 when samples copy the training set.

    Returns:
        The share; details `median_fake`, `median_test` (distances), `copies` (share with distance 0).
    """
    x, y = check_features(fake, train)
    distance, _ = nearest(x, y)
    reference = float(np.median(nearest(matrix(test, "test", flatten=True, keep=True), y)[0]))
    share = float((distance < reference).mean() + 0.5 * (distance == reference).mean())
    details = {
        "median_fake": float(np.median(distance)),
        "median_test": reference,
        "copies": float((distance == 0).mean()),
    }
    return MetricValue(share, float(np.sqrt(share * (1 - share) / len(x))), len(x), details)


@of_arrays("fake train", "share", "higher", "Alaa et al. 2022")
def authenticity(fake: Values, train: Values) -> MetricValue:
    """Share of generated samples that are not copies, 0 … 1, higher is better (Alaa et al. 2022).

    A sample is a copy when it is nearer to its nearest training sample than that one is to its own nearest.
    """
    x, y = check_features(fake, train, min_rows=1)
    distance, index = nearest(x, y)
    own, _ = nearest(y, y, exclude_self=True)
    value = float((distance >= own[index]).mean())
    return MetricValue(value, float(np.sqrt(value * (1 - value) / len(x))), len(x))


@of_arrays("fake train test", "Z score", "none", "Meehan et al. 2020")
def copying_statistic(
    fake: Values, train: Values, test: Values, *, cells: int = 3, smallest: int = 20, seed: int = 0
) -> MetricValue:
    """C_T, a test of data copying (Meehan et al. 2020): well below 0 for copying, 0 for none.

    In each cell of a k-means partition of the training set, a Mann-Whitney test (scipy's statistic, normal
    approximation, ties at half) of whether generated samples are nearer to the cell's training samples than test
    samples are, as a Z score; averaged with the share of test samples in a cell as weight. Cells with fewer than
    `smallest` generated or test samples are left out. The paper reads a value
    under -3 as copying and one over 5 as underfitting.

    Args:
        fake, train, test: features, (M, D), (N, D), (L, D).
        cells: cells of the partition; 1 gives the global test.
    """
    from sklearn.cluster import KMeans

    x, y = check_features(fake, train)
    held = matrix(test, "test", flatten=True, keep=True)
    same_columns(train=y, test=held)
    if not 1 <= cells <= len(y):
        raise UserError(f"is {cells}, with {len(y)} training rows", where="cells")
    model = KMeans(cells, n_init=10, random_state=seed).fit(y)
    of_train, of_fake, of_test = model.labels_, model.predict(x), model.predict(held.astype(y.dtype))
    scores, weights = [], []
    for c in range(cells):
        f, t = x[of_fake == c], held[of_test == c]
        if len(f) < smallest or len(t) < smallest:
            continue
        points = y[of_train == c]
        scores.append(_mann_whitney_z(nearest(f, points)[0], nearest(t, points)[0]))
        weights.append(len(t))
    if not scores:
        raise UserError(f"no cell has {smallest} generated and test samples", where="fake", fix="give more samples")
    return MetricValue(float(np.average(scores, weights=weights)), None, len(x), {"cells": scores})


def _mann_whitney_z(first: Floats, second: Floats) -> float:
    from scipy.stats import mannwhitneyu

    n, m = len(first), len(second)
    u = float(mannwhitneyu(first, second, method="asymptotic").statistic)
    return (u - n * m / 2) / float(np.sqrt(n * m * (n + m + 1) / 12))
