"""Gibbs samplers of Poisson factors with binary features (Indian buffets, restricted or not) and with gamma weights.

    x_nd ~ Poisson(b_0d + sum_k z_nk b_kd),   b_kd ~ Gamma(shape a, rate s),   k = 1 .. K.

Feature k has a weight pi_k of a finite approximation with K atoms (after Nguyen et al. 2023) to the stable-beta process
of the three-parameter IBP (Teh and Goeruer 2009), of Levy measure gamma pi^(-1 - sigma) (1 - pi)^(c + sigma - 1):

    p(pi) proportional to pi^(gamma / K - 1 - sigma 1[pi > 1 / K]) (1 - pi)^(c + sigma - 1).

Sigma 0 and c 1 are the IBP's Beta(alpha / K, 1). A row of the restricted IBP (Doshi-Velez and Williamson, arXiv
1508.06303) has j features with probability f_j, and given j those of independent draws of this sum:

    p(z_n) = f_j prod_k pi_k^z_nk (1 - pi_k)^(1 - z_nk) / PB_j(pi),   j = sum_k z_nk,

with PB the Poisson-binomial probabilities. Counts are split among features, so that loadings are conjugate. Weights,
shapes, rates, mass, c and sigma lie on grids; of the latter five each value is as likely beforehand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import product

import numpy as np
from numpy import ndarray
from numpy.random import Generator
from scipy.special import gammaln

LOGITS = np.arange(-12.0, 4.01, 0.25)
WEIGHTS = 1.0 / (1.0 + np.exp(-LOGITS))
MASSES, CONCENTRATIONS, DISCOUNTS = (0.5, 1.0, 2.0, 4.0, 8.0), (0.5, 1.0, 3.0, 10.0), (0.0, 0.25, 0.5, 0.75)
SHAPES, RATES = (0.03, 0.1, 0.3, 1.0), (0.03, 0.1, 0.3, 1.0, 3.0)
TINY = 1e-300


def log_weights(features: int, mass: float, c: float, s: float) -> ndarray:
    """Log probabilities (G,) of `WEIGHTS`; for K features, alpha > 0, c > -sigma and sigma in [0, 1)."""
    gamma = mass * np.exp(gammaln(1 + c) - gammaln(1 - s) - gammaln(c + s)) / features
    density = WEIGHTS ** (gamma - s * (1 / features < WEIGHTS)) * (1 - WEIGHTS) ** (c + s)  # of the logit
    bins = density * (LOGITS[1] - LOGITS[0])
    bins[0] += WEIGHTS[0] ** gamma / gamma  # what lies beyond the ends
    bins[-1] += (1 - WEIGHTS[-1]) ** (c + s) / (c + s)
    return np.log(bins / bins.sum())


def sum_law(weights: ndarray) -> ndarray:
    """Poisson-binomial probabilities (K + 1,) of the sum of independent draws with these probabilities (K,)."""
    law = np.ones(1)
    for p in weights:
        law = np.convolve(law, [1 - p, p])
    return law


def drawn(log_probabilities: ndarray, rng: Generator) -> ndarray:
    """One index for each row of unnormalised log probabilities (.., G)."""
    return (log_probabilities + rng.gumbel(size=log_probabilities.shape)).argmax(-1)


class Factors(ABC):
    """Loadings and split counts.

    Args:
        x: counts (N, D).
        seen: cells (N, D) that are given; what lies elsewhere is not looked at.
        weights, loadings: z and b to begin with, (N, K) and (K, D).
        rng: draws.
    """

    def __init__(self, x: ndarray, seen: ndarray, weights: ndarray, loadings: ndarray, rng: Generator) -> None:
        self.seen, self.x = seen.astype(float), np.where(seen, x, 0)
        self.z, self.b, self.rng = weights.astype(float), np.maximum(loadings, TINY), rng
        self.base = np.full(x.shape[1], 0.3)
        self.shape, self.rate = SHAPES[0], RATES[2]

    @property
    def rates(self) -> ndarray:
        """Of the counts, (N, D)."""
        return self.base + self.z @ self.b

    def step(self) -> None:
        """One sweep."""
        by_row, by_column = self.split()
        self.draw_loadings(by_column)
        self.draw_weights(by_row)

    @abstractmethod
    def draw_weights(self, by_row: ndarray) -> None:
        """Draw z and what it depends on, from the counts of each feature by row (N, K + 1)."""

    def split(self) -> tuple[ndarray, ndarray]:
        """Counts of each feature, by row (N, K + 1) and by column (K + 1, D); the base comes first."""
        n, d = np.nonzero(self.x)
        parts = np.concatenate([self.base[d, None], self.z[n] * self.b[:, d].T], axis=1)
        counts = self.rng.multinomial(self.x[n, d], parts / parts.sum(1, keepdims=True)).astype(float)
        by_row, by_column = np.zeros((len(self.x), counts.shape[1])), np.zeros((self.x.shape[1], counts.shape[1]))
        np.add.at(by_row, n, counts)
        np.add.at(by_column, d, counts)
        return by_row, by_column.T

    def draw_loadings(self, by_column: ndarray) -> None:
        """The base has shape and rate 1; then the loadings' shape and rate."""
        self.b = np.maximum(self.rng.gamma(self.shape + by_column[1:]) / (self.rate + self.z.T @ self.seen), TINY)
        self.base = np.maximum(self.rng.gamma(1.0 + by_column[0]) / (1.0 + self.seen.sum(0)), 1e-12)
        pairs = list(product(SHAPES, RATES))
        a, s = np.array(pairs).T
        logs = self.b.size * (a * np.log(s) - gammaln(a)) + (a - 1) * np.log(self.b).sum() - s * self.b.sum()
        self.shape, self.rate = pairs[int(drawn(logs, self.rng))]


class GammaPoisson(Factors):
    """Weights z_nk ~ Gamma(shape w, 1) instead of features: the dense rival (gamma-Poisson factor analysis)."""

    strength = SHAPES[2]

    def draw_weights(self, by_row: ndarray) -> None:
        self.z = np.maximum(self.rng.gamma(self.strength + by_row[:, 1:]) / (1.0 + self.seen @ self.b.T), TINY)
        w = np.array(SHAPES)
        self.strength = SHAPES[int(drawn((w - 1) * np.log(self.z).sum() - self.z.size * gammaln(w), self.rng))]


class Buffet(Factors):
    """Binary features.

    Args:
        three: concentration and discount are drawn as well as the mass; else they are 1 and 0.
        restricted: the law of a row's number of features is drawn, Dirichlet(1/2) before it; else the weights give it.
    """

    def __init__(self, *args: object, three: bool, restricted: bool) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        k = self.z.shape[1]
        self.settings = list(product(MASSES, CONCENTRATIONS, DISCOUNTS) if three else product(MASSES, (1.0,), (0.0,)))
        self.tables, self.setting = np.stack([log_weights(k, *s) for s in self.settings]), 0
        self.restricted, self.law = restricted, np.full(k + 1, 1 / (k + 1))
        self.chosen = np.full(k, len(LOGITS) // 2)
        self.draw_prior()

    @property
    def weights(self) -> ndarray:
        """pi, (K,)."""
        return WEIGHTS[self.chosen]

    def draw_weights(self, by_row: ndarray) -> None:
        self.switch()
        for _ in range(self.z.shape[1] // 2):
            self.exchange()
        self.draw_prior()

    def switch(self) -> None:
        """Each feature in turn, on or off in all rows at once."""
        by_number, rates, numbers = np.zeros_like(self.law), self.rates, self.z.sum(1).astype(int)
        if self.restricted:
            by_number = np.log(np.maximum(self.law, TINY)) - np.log(np.maximum(sum_law(self.weights), TINY))
        for f in self.rng.permutation(self.z.shape[1]):
            rest = np.maximum(rates - np.outer(self.z[:, f], self.b[f]), self.base)
            others = numbers - self.z[:, f].astype(int)
            gain = (self.x * np.log1p(self.b[f] / rest)).sum(1) - self.seen @ self.b[f]
            gain += LOGITS[self.chosen[f]] + by_number[others + 1] - by_number[others]
            self.z[:, f] = self.rng.logistic(size=len(gain)) < gain
            numbers = others + self.z[:, f].astype(int)
            rates = rest + np.outer(self.z[:, f], self.b[f])

    def exchange(self) -> None:
        """In each row that has both, one feature for another, by Metropolis."""
        rows = np.flatnonzero((self.z.sum(1) > 0) & (self.z.sum(1) < self.z.shape[1]))
        noise, logits = self.rng.random((len(rows), self.z.shape[1])), LOGITS[self.chosen]
        off, on = (noise + self.z[rows]).argmin(1), (noise - self.z[rows]).argmin(1)
        before = self.rates[rows]
        after = np.maximum(before + self.b[off] - self.b[on], self.base)
        gain = (self.x[rows] * np.log(after / before) - self.seen[rows] * (after - before)).sum(1)
        taken = self.rng.exponential(size=len(rows)) > -(gain + logits[off] - logits[on])
        self.z[rows[taken], off[taken]] = 1.0
        self.z[rows[taken], on[taken]] = 0.0

    def draw_prior(self) -> None:
        """Weights, the prior that they have, and the law of a row's number of features."""
        n, k = self.z.shape
        totals, numbers = self.z.sum(0), np.bincount(self.z.sum(1).astype(int), minlength=k + 1)
        logs = self.tables[self.setting] + np.outer(totals, LOGITS) + n * np.log1p(-WEIGHTS)
        if self.restricted:
            there = np.flatnonzero(numbers)
            for f in range(k):
                others = np.concatenate([[0.0], sum_law(np.delete(self.weights, f)), [0.0]])
                sums = np.outer(WEIGHTS, others[there]) + np.outer(1 - WEIGHTS, others[there + 1])
                self.chosen[f] = drawn(logs[f] - np.log(np.maximum(sums, TINY)) @ numbers[there], self.rng)
            self.law = self.rng.dirichlet(0.5 + numbers)
        else:
            self.chosen = drawn(logs, self.rng)
        self.setting = int(drawn(self.tables[:, self.chosen].sum(1), self.rng))
