from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def grid() -> np.ndarray:
    """All combinations of three factors of 4, 5 and 6 values, each 10 times, shuffled: (1200, 3)."""
    axes = np.meshgrid(np.arange(4), np.arange(5), np.arange(6), indexing="ij")
    factors = np.tile(np.stack([a.ravel() for a in axes], axis=1), (10, 1))
    return np.random.default_rng(0).permutation(factors)


@pytest.fixture(scope="session")
def noise(grid) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(len(grid), 3))
