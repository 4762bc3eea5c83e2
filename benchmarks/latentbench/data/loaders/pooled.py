"""Images of IDX files and of Cars3D at a fraction of their size: means of blocks of pixels, in exact integers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data.columns import Chunk
from latentbench.data.loaders import factors, idx
from latentbench.declare import loader


def pool(images: np.ndarray, by: int) -> np.ndarray:
    """Means of blocks of `by` x `by` pixels, rounded, halves up.

    Args:
        images: (N, H, W) uint8; `by` divides H and W.

    Returns:
        (N, H / by, W / by) uint8.

    Raises:
        UserError: `by` does not divide both sides.
    """
    n, height, width = images.shape
    if by < 1 or height % by or width % by:
        raise UserError(f"blocks of {by} x {by} pixels do not fill images of {height} x {width}", where="params: by")
    blocks = images.reshape(n, height // by, by, width // by, by).astype(np.uint32)
    total = blocks.sum(axis=(2, 4), dtype=np.uint32)
    return ((2 * total + by * by) // (2 * by * by)).astype(np.uint8)


@loader("idx-pooled")
def load_pooled(files: Mapping[str, Path], by: int) -> Iterator[Chunk]:
    """As `idx`, with images pooled: x (N, 28 / by, 28 / by) uint8, y (N,) int64."""
    for chunk in idx.load(files):
        yield Chunk(chunk.split, {**chunk.columns, "x": pool(np.asarray(chunk.columns["x"]), by)})


@loader("cars3d-pooled")
def load_pooled_cars(files: Mapping[str, Path], by: int) -> Iterator[Chunk]:
    """As `cars3d`, with each colour pooled: x (N, 64 / by, 64 / by, 3) uint8, factors (N, 3) int64."""
    for chunk in factors.load_cars3d(files):
        colours = np.moveaxis(np.asarray(chunk.columns["x"]), 3, 1)
        small = pool(colours.reshape(-1, *colours.shape[2:]), by)
        x = np.moveaxis(small.reshape(*colours.shape[:2], *small.shape[1:]), 1, 3)
        yield Chunk(chunk.split, {**chunk.columns, "x": np.ascontiguousarray(x)})
