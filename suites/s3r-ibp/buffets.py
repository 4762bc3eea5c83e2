"""Gibbs samplers of Poisson factors with binary features: buffets of one and three parameters, restricted or not.

    x_nd ~ Poisson(b_0d + sum_k z_nk b_kd),   b_kd ~ Gamma(shape a, rate s),   k = 1 .. K.

Feature k has a weight pi_k of a finite approximation with K atoms (after Nguyen et al. 2023) to the stable-beta process
of the three-parameter IBP (Teh and Goeruer 2009), whose Levy measure is gamma pi^(-1 - sigma) (1 - pi)^(c + sigma - 1):

    p(pi) proportional to pi^(gamma / K - 1 - sigma 1[pi > 1 / K]) (1 - pi)^(c + sigma - 1).

Sigma 0 and c 1 are the IBP's Beta(alpha / K, 1). Weights lie on a grid. A row of the restricted IBP (Doshi-Velez and
Williamson, arXiv 1508.06303) has j features with probability f_j, and given j those of independent draws of this sum:

    p(z_n) = f_j prod_k pi_k^z_nk (1 - pi_k)^(1 - z_nk) / PB_j(pi),   j = sum_k z_nk,

with PB the Poisson-binomial probabilities. Counts are split among features, so that loadings are conjugate.
"""

from __future__ import annotations

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


def log_weights(features: int, mass: float, concentration: float = 1.0, discount: float = 0.0) -> ndarray:
    """Log probabilities (G,) of the `WEIGHTS` that a feature may have.

    Args:
        features: K.
        mass: alpha > 0, the mean number of features of a row as K grows.
        concentration: c > -sigma.
        discount: sigma in [0, 1).
    """
    c, s = concentration, discount
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
    noisy = log_probabilities + rng.gumbel(size=log_probabilities.shape)
    return noisy.argmax(-1)


class Factors:
    """Loadings and split counts; `rows` and `priors` are those of an heir.

    Args:
        x: counts (N, D).
        seen: cells (N, D) that are given; what lies elsewhere is not looked at.
        weights, loadings: to begin with, (N, K) and (K, D).
        rng: draws.
        shapes: what the loadings' shape a may be.
    """

    def __init__(
        self, x: ndarray, seen: ndarray, weights: ndarray, loadings: ndarray, rng: Generator, shapes: tuple = SHAPES
    ) -> None:
        self.seen, self.x = seen.astype(float), np.where(seen, x, 0)
        self.z, self.b, self.rng = weights.astype(float), np.maximum(loadings, TINY), rng
        self.base = np.full(x.shape[1], 0.3)
        self.cells, self.shapes = np.nonzero(self.x), shapes
        self.shape, self.rate = shapes[0], RATES[2]

    @property
    def rates(self) -> ndarray:
        """Of the counts, (N, D)."""
        return self.base + self.z @ self.b

    def step(self) -> None:
        """One sweep."""
        self.rows()
        self.load(*self.split())
        self.priors()
        self.hyper()

    def rows(self) -> None:
        """Draw the rows' features."""

    def priors(self) -> None:
        """Draw what the rows' features depend on."""

    def split(self) -> tuple[ndarray, ndarray]:
        """Counts of each feature, by row (N, K + 1) and by column (K + 1, D); the base comes first."""
        n, d = self.cells
        parts = np.concatenate([self.base[d, None], self.z[n] * self.b[:, d].T], axis=1)
        counts = self.rng.multinomial(self.x[n, d], parts / parts.sum(1, keepdims=True)).astype(float)
        by_row, by_column = np.zeros((len(self.x), counts.shape[1])), np.zeros((self.x.shape[1], counts.shape[1]))
        np.add.at(by_row, n, counts)
        np.add.at(by_column, d, counts)
        return by_row, by_column.T

    def load(self, by_row: ndarray, by_column: ndarray) -> None:
        """Draw the loadings; the base has shape and rate 1."""
        self.b = np.maximum(self.rng.gamma(self.shape + by_column[1:]) / (self.rate + self.z.T @ self.seen), TINY)
        self.base = np.maximum(self.rng.gamma(1.0 + by_column[0]) / (1.0 + self.seen.sum(0)), 1e-12)

    def hyper(self) -> None:
        """Draw the loadings' shape and rate, each pair as likely beforehand."""
        pairs = list(product(self.shapes, RATES))
        a, s = np.array(pairs).T
        logs = self.b.size * (a * np.log(s) - gammaln(a)) + (a - 1) * np.log(self.b).sum() - s * self.b.sum()
        self.shape, self.rate = pairs[int(drawn(logs, self.rng))]


class Buffet(Factors):
    """Binary features.

    Args:
        three: concentration and discount are drawn as well as the mass; else they are 1 and 0.
        restricted: the law of a row's number of features is drawn, with Dirichlet(1/2) before it; else it follows from
            the weights.
    """

    def __init__(self, *args: object, three: bool, restricted: bool, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        n, k = self.z.shape
        settings = product(MASSES, CONCENTRATIONS, DISCOUNTS) if three else product(MASSES, (1.0,), (0.0,))
        self.settings, self.restricted = list(settings), restricted
        self.tables = np.stack([log_weights(k, *s) for s in self.settings])
        self.setting, self.law = 0, np.full(k + 1, 1 / (k + 1))
        rows = self.z.sum(0)
        self.chosen = np.searchsorted(LOGITS, np.minimum(np.log((rows + 0.5) / (n - rows + 0.5)), 4.0))

    @property
    def weights(self) -> ndarray:
        """pi, (K,)."""
        return WEIGHTS[self.chosen]

    @property
    def row_law(self) -> ndarray:
        """Probabilities (K + 1,) of a new row's number of features."""
        return self.law if self.restricted else sum_law(self.weights)

    def log_sums(self) -> ndarray:
        """What a row's log probability depends on beside its weights, by its number of features."""
        if not self.restricted:
            return np.zeros_like(self.law)
        return np.log(np.maximum(self.law, TINY)) - np.log(np.maximum(sum_law(self.weights), TINY))

    def rows(self) -> None:
        """Each feature in turn in all rows at once, then exchanges of one feature for another."""
        table, logits, (n, k) = self.log_sums(), LOGITS[self.chosen], self.z.shape
        rates, totals = self.rates, self.z.sum(1).astype(int)
        for f in self.rng.permutation(k):
            rest = np.maximum(rates - np.outer(self.z[:, f], self.b[f]), self.base)
            others = totals - self.z[:, f].astype(int)
            gain = (self.x * np.log1p(self.b[f] / rest)).sum(1) - self.seen @ self.b[f]
            gain += logits[f] + table[others + 1] - table[others]
            self.z[:, f] = self.rng.logistic(size=n) < gain
            totals = others + self.z[:, f].astype(int)
            rates = rest + np.outer(self.z[:, f], self.b[f])
        for _ in range(k // 2):
            self.exchange(logits)

    def exchange(self, logits: ndarray) -> None:
        """In each row that has both, one feature for another, by Metropolis."""
        rows = np.flatnonzero((self.z.sum(1) > 0) & (self.z.sum(1) < self.z.shape[1]))
        noise = self.rng.random((len(rows), self.z.shape[1]))
        off, on = (noise + self.z[rows]).argmin(1), (noise - self.z[rows]).argmin(1)
        before = self.rates[rows]
        after = np.maximum(before + self.b[off] - self.b[on], self.base)
        gain = (self.x[rows] * np.log(after / before) - self.seen[rows] * (after - before)).sum(1)
        taken = self.rng.exponential(size=len(rows)) > -(gain + logits[off] - logits[on])
        self.z[rows[taken], off[taken]] = 1.0
        self.z[rows[taken], on[taken]] = 0.0

    def priors(self) -> None:
        """Weights, the prior that they have, and the law of a row's number of features."""
        n, k = self.z.shape
        totals, numbers = self.z.sum(0), np.bincount(self.z.sum(1).astype(int), minlength=k + 1)
        logs = self.tables[self.setting] + np.outer(totals, LOGITS) + n * np.log1p(-WEIGHTS)
        if self.restricted:
            there = np.flatnonzero(numbers)
            after = [np.ones(1)]
            for p in self.weights[:0:-1]:
                after.append(np.convolve(after[-1], [1 - p, p]))
            before = np.ones(1)
            for f in range(k):
                rest = np.convolve(before, after[k - 1 - f])  # of all others, (K,)
                padded = np.concatenate([[0.0], rest, [0.0]])
                sums = np.outer(WEIGHTS, padded[there]) + np.outer(1 - WEIGHTS, padded[there + 1])
                self.chosen[f] = drawn(logs[f] - np.log(np.maximum(sums, TINY)) @ numbers[there], self.rng)
                p = WEIGHTS[self.chosen[f]]
                before = np.convolve(before, [1 - p, p])
            self.law = self.rng.dirichlet(0.5 + numbers)
        else:
            self.chosen = drawn(logs, self.rng)
        self.setting = int(drawn(self.tables[:, self.chosen].sum(1), self.rng))


class GammaPoisson(Factors):
    """Weights z_nk ~ Gamma(shape w, 1) instead of features: the dense rival (gamma-Poisson factor analysis)."""

    strength = 0.3

    def load(self, by_row: ndarray, by_column: ndarray) -> None:
        self.z = np.maximum(self.rng.gamma(self.strength + by_row[:, 1:]) / (1.0 + self.seen @ self.b.T), TINY)
        super().load(by_row, by_column)

    def priors(self) -> None:
        w = np.array(SHAPES)
        self.strength = SHAPES[int(drawn((w - 1) * np.log(self.z).sum() - self.z.size * gammaln(w), self.rng))]


def masked_nmf(
    x: ndarray, seen: ndarray, rank: int, steps: int, rng: Generator, penalty: float = 0.0
) -> tuple[ndarray, ndarray]:
    """Non-negative factors (N, K) and (K, D) by multiplicative updates of the Kullback-Leibler divergence.

    Args:
        x: counts (N, D).
        seen: cells that are fitted.
        rank: K.
        steps: updates of both.
        rng: of the start.
        penalty: on the sum of all entries, 0 or more.
    """
    level = np.sqrt(x[seen].mean() / rank)
    w, h = (level * (0.5 + rng.random(size)) for size in ((len(x), rank), (rank, x.shape[1])))
    m, y = seen.astype(float), np.where(seen, x, 0.0)
    for _ in range(steps):
        w *= (y / np.maximum(w @ h, 1e-12)) @ h.T / np.maximum(m @ h.T + penalty, 1e-12)
        h *= w.T @ (y / np.maximum(w @ h, 1e-12)) / np.maximum(w.T @ m + penalty, 1e-12)
    return w, h
