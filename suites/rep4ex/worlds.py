"""Structural models A -> Z -> X and Z -> Y with a hidden common cause of Z and Y, whose E[Y | do(a)] is known."""

from __future__ import annotations

import numpy as np
from numpy import ndarray
from numpy.random import Generator

FEATURES, WAVES, LAYERS, SLOPE, NOISE = 10, 4, 4, 0.2, 0.1


class World:
    """Z = M A + L e, X = g(Z), Y = sum_h w_h sin(f_h' Z + b_h) + c' e + noise, with e standard normal.

    M is `strength` times an orthogonal matrix (d, d), L near the identity, c of length 1. g is injective: layers of
    orthonormal rows, d to `FEATURES` and on, with shifts and leaky ReLUs between them.
    """

    def __init__(self, rng: Generator, d: int, strength: float) -> None:
        self.effect = strength * orthonormal(rng, d, d)
        self.spread = np.eye(d) + 0.2 * rng.standard_normal((d, d)) / np.sqrt(d)
        self.layers = [orthonormal(rng, n, FEATURES) for n in [d] + [FEATURES] * (LAYERS - 1)]
        self.shifts = rng.uniform(-1.0, 1.0, (LAYERS - 1, FEATURES))
        self.frequencies = np.hstack([f * orthonormal(rng, 1, d).T for f in rng.uniform(0.5, 1.5, WAVES)])
        self.phases, self.weights = rng.uniform(0.0, 2.0 * np.pi, WAVES), rng.choice([-1.0, 1.0], WAVES)
        self.common = orthonormal(rng, 1, d)[0]

    def rows(self, rng: Generator, n: int) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        """A, uniform on [-1, 1]^d, and Z, (n, d); X (n, D); Y (n,)."""
        a, e = rng.uniform(-1.0, 1.0, (n, len(self.effect))), rng.standard_normal((n, len(self.effect)))
        z = a @ self.effect.T + e @ self.spread.T
        y = np.sin(z @ self.frequencies + self.phases) @ self.weights + e @ self.common
        return a, z, self.mix(z), y + NOISE * rng.standard_normal(n)

    def mix(self, z: ndarray) -> ndarray:
        """g, (n, d) to (n, D)."""
        x = z @ self.layers[0]
        for layer, shift in zip(self.layers[1:], self.shifts, strict=True):
            x = np.where(x + shift > 0, x + shift, SLOPE * (x + shift)) @ layer
        return x

    def effects(self, a: ndarray) -> ndarray:
        """E[Y | do(a)], (n, d) to (n,): a Gaussian of variance s damps a sine's mean by exp(-s / 2)."""
        damping = np.exp(-0.5 * ((self.spread.T @ self.frequencies) ** 2).sum(0))
        return np.sin(a @ self.effect.T @ self.frequencies + self.phases) @ (self.weights * damping)


def orthonormal(rng: Generator, rows: int, columns: int) -> ndarray:
    """(rows, columns), rows <= columns, of orthonormal rows."""
    return np.linalg.qr(rng.standard_normal((columns, rows)))[0].T


def beyond(rng: Generator, n: int, d: int, reach: float) -> ndarray:
    """(n, d), uniform on [-reach, reach]^d without the actions' support [-1, 1]^d."""
    drawn = rng.uniform(-reach, reach, (64 * n, d))
    return drawn[np.abs(drawn).max(1) > 1.0][:n]
