"""Small pictures most of whose pixels are those of a shape: five shapes of three sizes, moved by a few pixels."""

from __future__ import annotations

import numpy as np
from latentbench.data.generated.grid import Grid
from latentbench.declare import generator

SHAPES = ("square", "frame", "row", "column", "quarters")
SIZES, ACROSS, DOWN = 3, 4, 3
#: From one place to the next, pixels; and half a side of the smallest and the largest shape.
STEP, HALVES = 1, (4.2, 6.2)


def inside(shape: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether points lie in a shape, in units of half its side, v pointing down."""
    box = np.maximum(np.abs(u), np.abs(v))
    marks = {"square": box <= 1, "frame": box >= 0.55, "row": np.abs(v) <= 0.4, "column": np.abs(u) <= 0.4}
    marks["quarters"] = u * v >= 0
    return marks[SHAPES[shape]] & (box <= 1)


def render(values: np.ndarray, side: int) -> np.ndarray:
    """Images of factor values (N, 4), shape, size, x and y: (N, side, side) uint8, 0 or 1, centred at middle values."""
    pixel = np.arange(side) + 0.5 - side / 2
    half = np.linspace(*HALVES, SIZES)[values[:, 1], None, None]
    u = (pixel[None, None, :] - STEP * (values[:, 2] - (ACROSS - 1) / 2)[:, None, None]) / half
    v = (pixel[None, :, None] - STEP * (values[:, 3] - (DOWN - 1) / 2)[:, None, None]) / half
    out = np.zeros((len(values), side, side), np.uint8)
    for shape in range(len(SHAPES)):
        rows = values[:, 0] == shape
        out[rows] = inside(shape, *np.broadcast_arrays(u[rows], v[rows]))
    return out


@generator("shapes-prominent")
def shapes(rows: int, rng: np.random.Generator, side: int) -> dict[str, np.ndarray]:
    """The grid's images in random order, again from the start where `rows` are more: x (N, side, side) uint8, factors
    (N, 4) int64."""
    grid = Grid((len(SHAPES), SIZES, ACROSS, DOWN))
    values = grid.factors(rng.permutation(grid.size)[np.arange(rows) % grid.size])
    return {"x": render(values, side), "factors": values}
