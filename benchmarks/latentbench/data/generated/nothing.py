"""What a study has for data, since it simulates its problems itself."""

from __future__ import annotations

import numpy as np

from latentbench.declare import generator


@generator("nothing")
def nothing(n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:  # noqa: ARG001
    """{"x": (n, 1) float32 zeros}."""
    return {"x": np.zeros((n, 1), np.float32)}
