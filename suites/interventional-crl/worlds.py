"""Latents of five laws, with and without do-interventions, and polynomials that show them (Ahuja et al. 2022)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray
from numpy.random import Generator

#: Value of each do(z_i), reach of the terms of degree 2 and more over that of the others, edges a latent is to have.
FIXED, REACH, DENSITIES = 2.0, 2.0, {"sparse": 0.5, "dense": 1.0}


class World:
    """Latents z (n, d) of one law, and features x = h(z) (n, D), h a polynomial with standard normal coefficients.

    Args:
        rng: of the structural model and the coefficients.
        law: ``uniform`` on [-5, 5]^d; ``blocks``, pairs that depend on each other within a box: magnitudes up to 5
            and 3, signs that agree with probability 0.9; ``mixture``, half of the rows N(0, 1) and half N(1, 2^2) in
            all latents; ``sparse`` or ``dense``, linear structural models of 0.5 or 1 expected edges a latent.
        d: latents, even for ``blocks``.
        degree: of the polynomial.
        features: D.
    """

    def __init__(self, rng: Generator, law: str, d: int, degree: int, features: int) -> None:
        self.law, self.d, self.degree, self.order = law, d, degree, rng.permutation(d)
        self.weights, self.shift, self.noise = np.zeros((d, d)), np.zeros(d), np.ones(d)
        if law in DENSITIES:
            edges = np.tril(rng.random((d, d)) < 2 * DENSITIES[law] / (d - 1), -1)
            sizes = rng.uniform(0.25, 1.0, (d, d)) * rng.choice([-1.0, 1.0], (d, d))
            self.weights[np.ix_(self.order, self.order)] = edges * sizes
            caused = self.weights.any(1)
            self.noise = np.where(caused, 0.4 * rng.random(d), 1.0)
            self.shift = np.where(caused, rng.choice([-0.8, 0.8], d), 0.0)
        self.coefficients = rng.standard_normal((sum(d**k for k in range(degree + 1)), features))
        if degree > 1:
            terms, low = self._terms(self.latents(rng, 10_000)), 1 + d
            reach, far = (np.abs(terms[:, i] @ self.coefficients[i]).max() for i in (slice(low), slice(low, None)))
            self.coefficients[low:] *= REACH * reach / far

    def latents(self, rng: Generator, n: int, targets: ndarray | None = None) -> ndarray:
        """(n, d); row i under do(z_t = FIXED) with t = targets[i], if targets (n,) are given."""
        d, targets = self.d, np.full(n, -1) if targets is None else targets
        fixed = targets[:, None] == np.arange(d)
        if self.law in DENSITIES:
            z = self.shift + self.noise * rng.standard_normal((n, d))
            for j in self.order:  # causes come first
                z[:, j] = np.where(fixed[:, j], FIXED, z[:, j] + z @ self.weights[j])
            return z
        if self.law == "blocks":
            first = rng.choice([-1.0, 1.0], (n, d // 2))
            signs = np.stack([first, np.where(rng.random(first.shape) < 0.9, first, -first)], axis=2)
            z = signs.reshape(n, d) * rng.random((n, d)) * np.tile([5.0, 3.0], d // 2)
        elif self.law == "mixture":
            z = rng.standard_normal((n, d))
            z = np.where(rng.random((n, 1)) < 0.5, z, 1.0 + 2.0 * z)
        else:
            z = rng.uniform(-5.0, 5.0, (n, d))
        return np.where(fixed, FIXED, z)

    def show(self, z: ndarray) -> ndarray:
        """h, (n, d) to (n, D)."""
        return self._terms(z) @ self.coefficients

    def _terms(self, z: ndarray) -> ndarray:
        return np.hstack([np.ones((len(z), 1)), *powers(z, self.degree)])


def powers(z: Any, degree: int) -> list[Any]:
    """Kronecker powers (n, d), (n, d^2), ... of rows z (n, d), an array or a tensor, as the authors take them."""
    found = [z]
    for _ in range(degree - 1):
        found.append((found[-1][:, :, None] * z[:, None]).reshape(len(z), -1))
    return found
