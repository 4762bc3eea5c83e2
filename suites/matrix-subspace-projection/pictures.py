"""Small pictures with four binary attributes and three factors without labels; attributes may agree in pairs."""

from __future__ import annotations

import numpy as np
from latentbench.data.generated.grid import Grid
from latentbench.declare import generator

#: Shape (square, plus), brightness, size, side of the picture; then place across and down, and that of a mark.
GRID = Grid((2, 2, 2, 2, 3, 7, 5))
ATTRIBUTES = 4
HEIGHT, WIDTH, FLOOR = 16, 20, 14  # pixels; the mark lies below the floor
LEVELS, HALVES = np.array([128, 255], np.uint8), np.array([3, 4])  # grey values; half of a shape's side, pixels


def render(values: np.ndarray) -> np.ndarray:
    """Pictures of factor values (N, 7): (N, 16, 20) uint8, one shape and one mark on black."""
    shape, bright, size, side, across, down, mark = values.T[..., None, None]
    column, row = np.arange(WIDTH) + 0.5, np.arange(HEIGHT)[:, None] + 0.5
    half = HALVES[size]
    u, v = np.abs(column - 4 - 10 * side - across), np.abs(row - 4 - down)
    inside = (np.maximum(u, v) < half) & ((shape == 0) | (np.minimum(u, v) < half // 2))
    marked = (row > FLOOR) & (np.abs(column - 2 - 4 * mark) < 2)
    return np.where(marked, LEVELS[1], np.where(inside, LEVELS[bright], np.uint8(0)))


@generator("sprites-attributes")
def sprites(rows: int, rng: np.random.Generator, agree: float) -> dict[str, np.ndarray]:
    """Rows drawn with replacement: x (N, 16, 20) uint8, factors (N, 7) int64.

    Brightness is the shape's number, and side the size's, with probability `agree` each; the rest is uniform.
    """
    values = GRID.factors(rng.integers(GRID.size, size=rows))
    for of, like in ((1, 0), (3, 2)):
        values[:, of] = values[:, like] ^ (rng.random(rows) >= agree)
    return {"x": render(values), "factors": values}
