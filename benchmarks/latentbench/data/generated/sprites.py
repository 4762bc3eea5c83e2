"""Sprites with known factors on a dark ground, after the factors of dSprites (Matthey et al. 2017), drawn by our own
code: shape (square, ellipse, heart), scale, orientation, x, y. The pixels are not those of dSprites.

A sprite moves by whole pixels, so each (shape, scale, orientation) is drawn once, anti-aliased by supersampling and
thresholded at half coverage; an image is a window cut from that drawing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from latentbench.data.generated.grid import Grid, rendered_columns, stored_columns
from latentbench.declare import generator

SHAPES = ("square", "ellipse", "heart")
_FINE = 4  # samples a pixel and axis


@dataclass(frozen=True)
class Sprites:
    """The grid of images.

    Attributes:
        side: image height and width in pixels; positions cover the middle half, one pixel apart.
        scales: number of sizes, from half to full (the full square is 11/32 of `side`).
        orientations: number of angles, evenly over a turn.
        positions: number of places along x and along y, at most ``side / 2``.
    """

    side: int = 64
    scales: int = 6
    orientations: int = 40
    positions: int = 32
    grid: Grid = field(init=False)

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (self.side, self.side)

    def __post_init__(self) -> None:
        if not 1 <= self.positions <= self.side // 2:
            raise ValueError("positions must lie in 1 .. side / 2")
        sizes = (len(SHAPES), self.scales, self.orientations, self.positions, self.positions)
        object.__setattr__(self, "grid", Grid(sizes))

    def render(self, factors: np.ndarray) -> np.ndarray:
        """Images of factor values (N, 5) int64 (shape, scale, orientation, x, y): (N, side, side) uint8, 0 or 1."""
        windows = np.lib.stride_tricks.sliding_window_view(_drawings(self), (self.side, self.side), (1, 2))
        k = (factors[:, 0] * self.scales + factors[:, 1]) * self.orientations + factors[:, 2]
        last = self.positions - 1
        return np.ascontiguousarray(windows[k, last - factors[:, 4], last - factors[:, 3]])


@lru_cache(maxsize=4)
def _drawings(sprites: Sprites) -> np.ndarray:
    """One drawing of each (shape, scale, orientation): (K, side + positions - 1, ...) uint8, its place such that the
    window at offset ``positions - 1 - p`` shows the sprite at position p."""
    half = sprites.side // 4  # no sprite reaches further from its centre
    fine = (np.arange(2 * half * _FINE) + 0.5) / _FINE - half
    scale = np.linspace(0.5, 1.0, sprites.scales) if sprites.scales > 1 else np.ones(1)
    angles = 2 * np.pi * np.arange(sprites.orientations) / sprites.orientations
    canvas = sprites.side + sprites.positions - 1
    out = np.zeros((len(SHAPES), sprites.scales, sprites.orientations, canvas, canvas), np.uint8)
    # at position p the sprite's centre lies on the corner of pixels (side - positions) / 2 + p
    corner = (sprites.side - sprites.positions) // 2 + sprites.positions - 1
    for o, angle in enumerate(angles):
        cos, sin = np.cos(angle), np.sin(angle)
        u = (fine[None, :] * cos + fine[:, None] * sin).astype(np.float32)
        v = (fine[:, None] * cos - fine[None, :] * sin).astype(np.float32)
        for s, factor in enumerate(scale):
            unit = np.float32(sprites.side * 11 / 64 * factor)  # half the side of the square
            for k in range(len(SHAPES)):
                inside = _inside(k, u / unit, v / unit)
                coverage = inside.reshape(2 * half, _FINE, 2 * half, _FINE).sum((1, 3))
                place = slice(corner - half, corner + half)
                out[k, s, o, place, place] = 2 * coverage >= _FINE**2
    return out.reshape(-1, canvas, canvas)


def _inside(shape: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether points lie in the shape; in units of half the square's side, v pointing down."""
    if SHAPES[shape] == "square":
        return np.maximum(np.abs(u), np.abs(v)) <= 1
    if SHAPES[shape] == "ellipse":
        return (u / 1.3) ** 2 + (v / 0.75) ** 2 <= 1
    a, b = u * u, -v * 1.1 + 0.15
    c = a + b * b - 1
    return c * c * c <= a * b * b * b


@generator("sprites")
def rendered(rows: int, side: int, scales: int, orientations: int, positions: int) -> dict[str, Any]:
    """All images of the grid, made when they are asked for."""
    return rendered_columns(Sprites(side, scales, orientations, positions), rows)


@generator("sprites-subset")
def subset(
    rows: int,
    _rng: np.random.Generator,
    side: int,
    scales: int,
    orientations: int,
    positions: int,
    first: int,
) -> dict[str, np.ndarray]:
    """`rows` images of the grid, from place `first` of its shuffling on."""
    return stored_columns(Sprites(side, scales, orientations, positions), rows, first)


def forget() -> None:
    """Drop the drawings kept so far, as in a fresh process."""
    _drawings.cache_clear()
