"""Data that come with a dependency: there without network and without mirror."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from latentbench.data.columns import Chunk
from latentbench.data.splits import partition
from latentbench.declare import loader


@loader("digits")
def load_digits(_files: Mapping[str, Path], sizes: Mapping[str, int], split_seed: int) -> Iterator[Chunk]:
    """scikit-learn's handwritten digits, x (N, 8, 8) uint8 in 0 .. 16, y (N,) int64, partitioned."""
    from sklearn.datasets import load_digits as bundled

    found = bundled()
    x, y = found.images.astype(np.uint8), found.target.astype(np.int64)
    for split, rows in partition(len(x), sizes, split_seed).items():
        yield Chunk(split, {"x": x[rows], "y": y[rows]})
