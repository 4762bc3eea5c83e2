"""Laws of x with known scores, links from latents to responses, and draws of both (section 4.1, supplement II)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from numpy.random import Generator
from scipy.stats import geninvgauss, ortho_group

#: Elementwise functions m_1 to m_10 (supplement II.1; the eighth, a sigmoid there, is softplus in the authors' code).
ELEMENTARY = (
    lambda z: np.sin(z - 1),
    lambda z: np.cosh(z - 1),
    lambda z: np.cos(z - 1),
    lambda z: np.tanh(z - 1),
    lambda z: np.arctan(z - 1),
    lambda z: (z - 1) ** 3,
    lambda z: (z - 1) ** 5,
    lambda z: np.logaddexp(0.0, z),
    lambda z: np.sqrt((z - 1) ** 2 + 1),
    np.exp,
)


@dataclass(frozen=True)
class Elliptical:
    """A law of x, centred, by what its score does with Q = x' S^-1 x: s(x) = w(Q) S^-1 x.

    Attributes:
        family: normal, hyperbolic (lambda = (p + 1) / 2, chi = 2 p + 1, psi = p) or t (10 degrees of freedom, with
            S as its covariance).
    """

    family: str
    FREEDOM = 10.0

    def draw(self, rng: Generator, n: int, scatter: ndarray) -> ndarray:
        """(n, p)"""
        p = len(scatter)
        x = rng.standard_normal((n, p)) @ np.linalg.cholesky(scatter).T
        if self.family == "hyperbolic":
            chi, psi = 2.0 * p + 1.0, float(p)
            law = geninvgauss((p + 1) / 2, np.sqrt(chi * psi), scale=np.sqrt(chi / psi))
            return x * np.sqrt(law.rvs(size=n, random_state=rng))[:, None]
        if self.family == "t":
            return x * np.sqrt((self.FREEDOM - 2.0) / rng.chisquare(self.FREEDOM, n))[:, None]
        return x

    def weight(self, q: ndarray, p: int) -> ndarray:
        """w(Q) of rows in p dimensions (supplement II.4)."""
        if self.family == "hyperbolic":
            return np.sqrt(p / (2.0 * p + 1.0 + q))
        if self.family == "t":
            return (p + self.FREEDOM) / (self.FREEDOM - 2.0 + q)
        return np.ones_like(q)

    def slope(self, q: ndarray, p: int) -> ndarray:
        """w'(Q)."""
        if self.family == "hyperbolic":
            return -0.5 * np.sqrt(p) * (2.0 * p + 1.0 + q) ** -1.5
        if self.family == "t":
            return -(p + self.FREEDOM) / (self.FREEDOM - 2.0 + q) ** 2
        return np.zeros_like(q)

    def scatter(self, x: ndarray) -> ndarray:
        """S (p, p) of greatest likelihood, by EM: the fixed point of the mean of w(Q) x x'."""
        n, p = x.shape
        found = x.T @ x / n
        for _ in range(100):
            q = (x @ np.linalg.inv(found) * x).sum(1)
            before, found = found, (x * self.weight(q, p)[:, None]).T @ x / n
            if np.abs(found - before).max() < 1e-5 * np.abs(found).max():
                break
        return found


def scatter_matrix(rng: Generator, p: int) -> ndarray:
    """Eigenvectors uniform on the orthogonal group, eigenvalues 1 + |normal|."""
    rotation = ortho_group.rvs(p, random_state=rng)
    return (rotation * (1.0 + np.abs(rng.standard_normal(p)))) @ rotation.T


class Links:
    """f_j(z) = a_j' m_j(z), j = 1 .. q, with m_j elementwise, brought to mean 0 and deviation 1 over the rows.

    (That they are brought to one scale is in the authors' code; in the paper's text it is not.)

    Args:
        kind: ``linear`` (m_j(z) = z); ``neighbours``, in which the second half of the m_j are sums of neighbours in
            the first (the paper's first mechanism); or ``pairs``, sums of two different ones drawn at random (its
            second).
        r: latents.
        q: responses, 20 where the links are not linear.
    """

    def __init__(self, rng: Generator, kind: str, r: int, q: int) -> None:
        self.kind, half = kind, len(ELEMENTARY)
        if kind == "linear":
            self.coefficients = 0.5 * rng.standard_normal((q, r))
            return
        self.coefficients = np.abs(rng.standard_normal((q, r))) + 3.0
        self.sums = (
            [(j, (j + 1) % half) for j in range(half)]
            if kind == "neighbours"
            else [tuple(rng.choice(half, 2, replace=False)) for _ in range(half)]
        )

    def __call__(self, z: ndarray) -> ndarray:
        """(n, r) to (n, q)."""
        if self.kind == "linear":
            y = z @ self.coefficients.T
        else:
            first = [m(z) for m in ELEMENTARY]
            functions = [*first, *(first[i] + first[j] for i, j in self.sums)]
            y = np.stack([m @ a for m, a in zip(functions, self.coefficients, strict=True)], axis=1)
        return (y - y.mean(0)) / y.std(0)
