"""The paper's two models whose latents are learnt without labels: linear factors and Gaussian clusters.

Of each: draws with their labels, maximum likelihood without labels, what it makes of a point, and the predictor that
no data improve. Numbers of rows: m unlabelled, n labelled; d dimensions, r factors or clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from numpy.random import Generator
from scipy.special import softmax
from sklearn.cluster import kmeans_plusplus

#: Rows on which predictions are held against the best ones.
TEST_ROWS = 2000


@dataclass(frozen=True)
class Task:
    """What a procedure sees.

    Attributes:
        unlabelled: (m, d).
        x: (n, d).
        y: (n,), numbers, or 0 and 1.
        test: (T, d), to be predicted.
        latents: (d, r), the true parameters of the latent model, for the procedure that is told them alone.
    """

    unlabelled: ndarray
    x: ndarray
    y: ndarray
    test: ndarray
    latents: ndarray


@dataclass(frozen=True)
class Optimum:
    """The excess risk of predictions on the test rows is the mean of weight * (prediction - best)^2.

    Attributes:
        best: (T,), E[y | x], or the likelier of 0 and 1.
        weight: (T,), 1, or |2 P(y = 1 | x) - 1|, which an error costs.
    """

    best: ndarray
    weight: ndarray


class Factors:
    """x = B z + noise, y = beta' z + noise: z and the noise of x are standard normal (section 4).

    Columns of B have length `STRENGTH` in expectation, beta has length 1, the noise of y standard deviation `NOISE`.
    """

    STRENGTH, NOISE = 2.0, 0.5

    def draw(self, rng: Generator, m: int, n: int, d: int, r: int) -> tuple[Task, Optimum]:
        beta = rng.standard_normal(r)
        beta /= np.linalg.norm(beta)
        z = rng.standard_normal((n, r))
        y = z @ beta + self.NOISE * rng.standard_normal(n)  # before all that has d columns: the same for every d
        loadings = rng.standard_normal((d, r)) * self.STRENGTH / np.sqrt(d)
        x, test, unlabelled = (
            latents @ loadings.T + rng.standard_normal((len(latents), d))
            for latents in (z, rng.standard_normal((TEST_ROWS, r)), rng.standard_normal((m, r)))
        )
        best = self.encode(loadings, test) @ beta
        return Task(unlabelled, x, y, test, loadings), Optimum(best, np.ones(TEST_ROWS))

    def pretrain(self, x: ndarray, r: int, rng: Generator) -> ndarray:
        """Loadings (d, r) of greatest likelihood where the noise has variance 1 (Tipping & Bishop 1999)."""
        values, vectors = np.linalg.eigh(x.T @ x / len(x))
        return vectors[:, -r:] * np.sqrt(np.maximum(values[-r:] - 1.0, 0.0))

    def encode(self, loadings: ndarray, x: ndarray) -> ndarray:
        """E[z | x], (N, r)."""
        return np.linalg.solve(loadings.T @ loadings + np.eye(loadings.shape[1]), loadings.T @ x.T).T


class Clusters:
    """x is normal about one of r centres, all as likely, with unit covariance; y depends on the cluster (section 5).

    Centres have length `SEPARATION` in expectation; y is 1 with probability 1 - `FLIPPED` in half of the clusters, and
    `FLIPPED` in the others.
    """

    SEPARATION, FLIPPED = 3.0, 0.35

    def draw(self, rng: Generator, m: int, n: int, d: int, r: int) -> tuple[Task, Optimum]:
        ones = np.where(rng.permutation(r) < r // 2, 1.0 - self.FLIPPED, self.FLIPPED)
        z = rng.integers(r, size=n)
        y = (rng.random(n) < ones[z]).astype(float)  # before all that has d columns: the same for every d
        centres = rng.standard_normal((d, r)) * self.SEPARATION / np.sqrt(d)
        x, test, unlabelled = (
            centres.T[cluster] + rng.standard_normal((len(cluster), d))
            for cluster in (z, rng.integers(r, size=TEST_ROWS), rng.integers(r, size=m))
        )
        probability = self._posterior(centres, test) @ ones
        optimum = Optimum((probability > 0.5).astype(float), np.abs(2.0 * probability - 1.0))
        return Task(unlabelled, x, y, test, centres), optimum

    def pretrain(self, x: ndarray, r: int, rng: Generator) -> ndarray:
        """Centres (d, r) by EM, from centres spread out as k-means++ does."""
        seed = int(rng.integers(2**31))
        centres = kmeans_plusplus(x, r, random_state=seed)[0].T
        for _ in range(200):
            weights = self._posterior(centres, x)
            before, centres = centres, x.T @ weights / weights.sum(0)
            if np.abs(centres - before).max() < 1e-4:
                break
        return centres

    def encode(self, centres: ndarray, x: ndarray) -> ndarray:
        """The likeliest cluster as one of r indicators, (N, r)."""
        return np.eye(centres.shape[1])[self._posterior(centres, x).argmax(1)]

    def _posterior(self, centres: ndarray, x: ndarray) -> ndarray:
        return softmax(x @ centres - 0.5 * (centres**2).sum(0), axis=1)
