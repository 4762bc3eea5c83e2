"""Spirals of two directions, seen with noise at some of their points: the series of Chen et al. 2018, section 5.1."""

from __future__ import annotations

import numpy as np
from latentbench.declare import generator

Made = dict[str, np.ndarray]


def _arms(points: int, turns: float, growth: float) -> np.ndarray:
    """(2, points, 2): one arm winds outwards clockwise around (-5, 0), ever faster, the other evenly around (5, 0)."""
    angle = 2 * np.pi * turns * np.linspace(0, 1, points)
    falling = angle[-1] + 1 - angle
    arms = ((falling, 50 * growth / falling, -5.0), (angle, growth * angle, 5.0))
    return np.stack([np.stack([r * np.cos(a) + shift, r * np.sin(a)], 1) for a, r, shift in arms])


@generator("two-way-spirals")
def two_way(
    n: int,
    rng: np.random.Generator,
    length: int,
    ahead: int,
    points: int,
    turns: float,
    growth: float,
    noise: float,
    kept: list[int],
) -> Made:
    """`length` consecutive points of an arm of `points`, from a random place on, and the `ahead` that follow.

    {"x": (n, length, 2) float32 noisy, "future": (n, ahead, 2) float32 without noise, "arm": (n,) int64,
    "observed<k>": (n, length) uint8 with k ones a row, for each k of `kept`}.
    """
    arm = rng.integers(2, size=n)
    start = rng.integers(length, points - length - ahead + 1, size=n)  # not in its first points, as in their example
    path = _arms(points, turns, growth)[arm[:, None], start[:, None] + np.arange(length + ahead)]
    seen = path[:, :length] + noise * rng.standard_normal((n, length, 2))
    made = {
        "x": seen.astype(np.float32),
        "future": path[:, length:].astype(np.float32),
        "arm": arm.astype(np.int64),
    }
    order = rng.random((n, length)).argsort(1).argsort(1)
    return made | {f"observed{k}": (order < k).astype(np.uint8) for k in kept}
