"""Small sprites on an uneven grid of factors: each image once, or drawn with two factors that depend on each other."""

from __future__ import annotations

import numpy as np
from latentbench.core.errors import UserError
from latentbench.data.generated.grid import Grid
from latentbench.data.generated.sprites import SHAPES, Sprites
from latentbench.declare import generator

#: Sizes; angles, of 16 a turn, within the quarter turn after which a square looks the same; places along x and y.
SCALES, ANGLES, ACROSS, DOWN = 3, 4, 8, 4


def uneven_grid() -> Grid:
    """Shape, scale, orientation, x over the middle half of the image, y over half of that: x and y are no twins, so it
    is no coin's flip along which axes a code lies."""
    return Grid((len(SHAPES), SCALES, ANGLES, ACROSS, DOWN))


def render(factors: np.ndarray, side: int) -> np.ndarray:
    """Images of factor values (N, 5) of the uneven grid: (N, side, side) uint8, 0 or 1; places are side / 16 apart."""
    step = side // (2 * ACROSS)
    places = factors * np.array([1, 1, 1, step, step]) + np.array([0, 0, 0, 0, side // 8])
    return Sprites(side, SCALES, 16, side // 2).render(places)


@generator("sprites-uneven")
def uneven(rows: int, rng: np.random.Generator, side: int) -> dict[str, np.ndarray]:
    """Images of the uneven grid in random order, each at most once: x (N, side, side) uint8, factors (N, 5) int64.

    Raises UserError for more rows than the grid has.
    """
    grid = uneven_grid()
    if rows > grid.size:
        raise UserError(f"{rows} rows of a grid of {grid.size}, each at most once", fix=f"take {grid.size} or fewer")
    factors = grid.factors(rng.permutation(grid.size)[:rows])
    return {"x": render(factors, side), "factors": factors}


@generator("sprites-correlated")
def correlated(rows: int, rng: np.random.Generator, side: int, width: float) -> dict[str, np.ndarray]:
    """Rows drawn with replacement from the uneven grid, the likelier the nearer scale and x, each in units of its
    range, are to each other: with the weight of a Gaussian of standard deviation `width` at their difference."""
    grid = uneven_grid()
    factors = grid.factors(np.arange(grid.size))
    apart = factors[:, 1] / (SCALES - 1) - factors[:, 3] / (ACROSS - 1)
    weight = np.exp(-0.5 * (apart / width) ** 2)
    drawn = factors[rng.choice(grid.size, rows, p=weight / weight.sum())]
    return {"x": render(drawn, side), "factors": drawn}
