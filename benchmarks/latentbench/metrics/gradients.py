"""How far estimates of a gradient are from the gradient: bias, direction and spread."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.metrics.arrays import matrix


def _pair(estimates: ArrayLike | Any, exact: ArrayLike | Any) -> tuple[np.ndarray, np.ndarray]:
    e, g = matrix(estimates, "estimates", min_rows=2, flatten=True), matrix(exact, "exact", flatten=True).ravel()
    if e.shape[1] != g.size:
        raise UserError(f"estimates of {e.shape[1]} numbers, an exact gradient of {g.size}", where="gradients")
    if not np.any(g):
        raise UserError("is zero", where="exact", fix="measure where the gradient has not vanished")
    return e, g


def cosine(estimates: ArrayLike | Any, exact: ArrayLike | Any) -> MetricValue:
    """Cosine between the mean estimate and the exact gradient, in [-1, 1].

    Args:
        estimates: (draws, ...) independent estimates.
        exact: (...) the gradient.

    Returns:
        The cosine; details: `single_draw`, the mean cosine of one estimate with the gradient (0 where one vanishes).

    Raises:
        UserError: shapes that do not fit, fewer than two draws, or a gradient of zero.
    """
    e, g = _pair(estimates, exact)
    norm, mean = np.linalg.norm(g), e.mean(0)
    lengths = np.linalg.norm(e, axis=1)
    single = float(np.mean((e @ g) / np.maximum(lengths * norm, 1e-300)))
    value = float(mean @ g / max(float(np.linalg.norm(mean) * norm), 1e-300))
    return MetricValue(value, None, len(e), {"single_draw": single})


def relative_bias(estimates: ArrayLike | Any, exact: ArrayLike | Any) -> MetricValue:
    """||E[estimate] - exact|| / ||exact||, with the sampling noise of the mean taken off.

    The squared distance of the mean of D draws exceeds the squared bias by trace(covariance) / D on average; that much,
    estimated, is subtracted before the root, and what falls below zero is zero.

    Returns:
        The ratio; details: `raw` (nothing subtracted, the ratio of Liu et al. 2023), `relative_std`, the root of the
        trace of one estimate's covariance relative to ||exact||.
    """
    e, g = _pair(estimates, exact)
    norm = float(np.linalg.norm(g))
    spread = float(e.var(0, ddof=1).sum())
    squared = float(np.square(e.mean(0) - g).sum())
    value = math.sqrt(max(0.0, squared - spread / len(e))) / norm
    return MetricValue(
        value, None, len(e), {"raw": math.sqrt(squared) / norm, "relative_std": math.sqrt(spread) / norm}
    )
