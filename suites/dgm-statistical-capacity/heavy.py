"""Data with heavy tails whose density and extreme quantiles are known: two clusters of Student's t."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from latentbench.declare import generator, oracle
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import t as student


@dataclass(frozen=True)
class StudentClusters:
    """Independent Student t coordinates of `df` degrees of freedom, the first around `centre` or -`centre`.

    Its tails fall like |x|^-df: the tail index (Hill 1975) of each coordinate is `df`.
    """

    dims: int
    df: float
    centre: float

    @property
    def entropy(self) -> float:
        """Nats: by quadrature of the first coordinate, in closed form for the others."""
        half = quad(lambda x: -np.exp(self._first(x)) * self._first(x), 0, np.inf, limit=200)[0]
        return float(2 * half + (self.dims - 1) * student.entropy(self.df))

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """(N, D) to (N,) float64 nats."""
        x = np.asarray(x, float)
        return np.asarray(self._first(x[:, 0]) + student.logpdf(x[:, 1:], self.df).sum(1))

    def exceedance(self, level: float) -> float:
        """What the size of the first coordinate exceeds with probability `level`."""

        def beyond(q: float) -> float:
            return float(student.sf(q - self.centre, self.df) + student.sf(q + self.centre, self.df) - level)

        return float(brentq(beyond, 0.0, self.centre + student.isf(level / 4, self.df)))

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """(n, D) float64"""
        x = rng.standard_t(self.df, (n, self.dims))
        x[:, 0] += rng.choice([-self.centre, self.centre], n)
        return x

    def _first(self, x: np.ndarray) -> np.ndarray:
        sides = student.logpdf(x - self.centre, self.df), student.logpdf(x + self.centre, self.df)
        return np.asarray(np.logaddexp(*sides) - np.log(2.0))


@generator("student-clusters")
def student_clusters(n: int, rng: np.random.Generator, dims: int, df: float, centre: float) -> dict[str, np.ndarray]:
    """x (n, D) float32"""
    return {"x": StudentClusters(dims, df, centre).draw(n, rng).astype(np.float32)}


@oracle("student-clusters")
def student_clusters_oracle(dims: int, df: float, centre: float) -> StudentClusters:
    return StudentClusters(dims, df, centre)
