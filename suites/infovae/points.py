"""Data of a few points, each drawn again and again: what shows how a model treats a datum rather than a density."""

from __future__ import annotations

import numpy as np
from latentbench.declare import generator

Made = dict[str, np.ndarray]


@generator("two-points")
def two_points(n: int, rng: np.random.Generator, distance: float) -> Made:
    """Two points on a line, `distance` apart around 0, equally likely: x (n, 1) float32, y (n,) which of them."""
    y = rng.integers(0, 2, n)
    return {"x": ((y - 0.5) * distance).astype(np.float32)[:, None], "y": y.astype(np.int64)}
