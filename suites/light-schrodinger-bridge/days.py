"""Snapshots of a population on several days, as rows of two points for models of transport."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from latentbench.data.columns import Chunk
from latentbench.data.loaders.common import npy
from latentbench.declare import loader


@loader("days-between")
def load_between(files: Mapping[str, Path], start: int, middle: int, end: int) -> Iterator[Chunk]:
    """CITE-seq cells (files ``…_day_<n>.npy``): train holds a cell of day `start` and one of day `end`, test a cell of
    day `start` and one of day `middle`, which belong together by chance alone (fixed seed).

    Each split has as many rows as the longer of its days; the other one goes round again.
    """
    cells = {int(name.removesuffix(".npy").rsplit("_", 1)[1]): npy(path) for name, path in files.items()}
    for split, other in (("train", end), ("test", middle)):
        rng = np.random.default_rng([start, other])
        sides = [rng.permutation(cells[day]) for day in (start, other)]
        rows = np.arange(max(map(len, sides)))
        yield Chunk(split, {"x": np.stack([side[rows % len(side)] for side in sides], 1)})
