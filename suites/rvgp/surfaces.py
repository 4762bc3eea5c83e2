"""Points spread evenly over a surface in space, and unit tangent fields on them (section 5.1)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from .bundle import Bundle

Surface = Literal["sphere", "torus"]


def surface(kind: Surface, rng: Generator, n: int) -> tuple[ndarray, ndarray]:
    """Points (n, 3) uniform by area on a sphere of radius 1 or a torus of radii 1 and 0.4; outward unit normals."""
    if kind == "sphere":
        normals = unit(rng.standard_normal((n, 3)))
        return normals, normals
    angles = rng.uniform(0, 2 * np.pi, 8 * n + 40)
    minor = angles[rng.uniform(0, 1.4, len(angles)) < 1 + 0.4 * np.cos(angles)][:n]
    major = rng.uniform(0, 2 * np.pi, n)
    outward = np.stack([np.cos(major), np.sin(major), np.zeros(n)], 1)
    normals = np.cos(minor)[:, None] * outward + np.sin(minor)[:, None] * [0.0, 0.0, 1.0]
    return outward + 0.4 * normals, normals


def farthest(points: ndarray, n: int) -> ndarray:
    """Indices of n points, each the farthest from those before it; the first is point 0."""
    chosen = np.zeros(n, int)
    nearest = np.full(len(points), np.inf)
    for i in range(1, n):
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[i - 1]], axis=1))
        chosen[i] = nearest.argmax()
    return chosen


def unit(vectors: ndarray) -> ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def diffused(bundle: Bundle, rng: Generator, time: float = 100.0) -> ndarray:
    """(n, 3): vectors uniform in a cube, made tangent and of unit length, then exp(-time Lc) of them, of unit length.

    The authors let lengths diffuse by themselves: those of unit vectors stay 1. At such times few eigenpairs are left.
    """
    local = bundle.local(rng.uniform(-0.5, 0.5, (len(bundle.frames), 3)))
    values, modes = bundle.connection
    left = np.exp(-time * (values - values[0])) * (modes.T @ unit(local).ravel())
    return unit(bundle.ambient((modes @ left).reshape(local.shape)))


class Smooth:
    """The tangent part of W(x) - W(zero), of unit length: a field that knows no graph, singular at `zero`.

    Components of W are draws of a process with an RBF kernel of length 2 on coordinates: 200 random cosines.
    """

    def __init__(self, rng: Generator, zero: ndarray) -> None:
        self.waves, self.phases = 0.5 * rng.standard_normal((3, 200)), rng.uniform(0, 2 * np.pi, 200)
        self.weights, self.zero = rng.standard_normal((200, 3)) / 10.0, zero

    def __call__(self, points: ndarray, normals: ndarray) -> ndarray:
        raw, at_zero = (np.cos(x @ self.waves + self.phases) @ self.weights for x in (points, self.zero[None]))
        raw = raw - at_zero
        return unit(raw - (raw * normals).sum(1, keepdims=True) * normals)
