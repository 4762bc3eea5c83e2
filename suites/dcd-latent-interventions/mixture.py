"""A Dirichlet-process mixture of interventional models that share one graph, by coordinate ascent on its bound.

The model of Faria et al. 2022 with linear mechanisms. A row x (d,) is of component k, drawn by stick-breaking;
component 0 is observational. With targets r_k of component k and its atom (m_k, v_k),

    log p(x | k) = sum_j (1 - r_kj) log N(x_j | a_j + w_j' x_parents(j), s_j) + r_kj log N(x_j | m_kj, v_kj),

and the bound is sum_nk q_nk (E log pi_k + log p(x_n | k) - log q_nk) - KL(sticks) - costs of edges and targets. Each
variance has a prior that acts as one more row of squared error `LEAST`. Given q, what x_j costs depends on j's parents
and targets alone, by second moments of the components, and the best graph is found by dynamic programming over sets of
variables (Silander & Myllymäki 2006). The authors' training is another: gradients of such a bound, with draws of
graphs, a recognition network for q and an augmented Lagrangian against cycles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy.special import betaln, digamma, entr, softmax
from scipy.stats import norm

TURNS = 3  # of mechanism and targets by turns
TOLERANCE = 0.01  # nats
LEAST = 1e-3  # of variables with deviation 1


def gaussian_cost(rows: ndarray, squares: ndarray) -> tuple[ndarray, ndarray]:
    """Negative log likelihood and prior of `rows` rows with a sum of squared errors, at the best variance; and that."""
    variance = (squares + LEAST) / (rows + 1.0)
    return 0.5 * ((rows + 1.0) * (np.log(variance) + 1.0) + rows * np.log(2 * np.pi)), variance


class Local(NamedTuple):
    """The best of variable j for each set of parents; bit i of a set's index is variable i."""

    costs: ndarray  # (2^d,), infinite where j is of the set
    weights: ndarray  # (2^d, 1 + d), intercept first
    variances: ndarray  # (2^d,)
    targets: ndarray  # (2^d, K), whether j is targeted
    means: ndarray  # (K,), if it is, as are `spreads`, its variances
    spreads: ndarray


def local(j: int, moments: ndarray, edge_cost: float, target_cost: float, targets: ndarray) -> Local:
    """Mechanism, atoms and targets of variable j for each set of parents, by turns, from `targets` (K,).

    Args:
        moments: (K, 1 + d, 1 + d), sums over a component's rows of products of (1, x).
    """
    k, f = moments.shape[:2]
    sets = (np.arange(2 ** (f - 1))[:, None] >> np.arange(f - 1)) & 1
    allowed = np.column_stack([np.ones(len(sets)), sets])
    mask, ridge = allowed[:, :, None] * allowed[:, None, :], np.eye(f) * (1e-6 + 1.0 - allowed)[:, :, None]
    rows, sums, squares = moments[:, 0, 0], moments[:, 0, 1 + j], moments[:, 1 + j, 1 + j]
    means = sums / np.maximum(rows, 1e-9)
    free, spreads = gaussian_cost(rows, np.maximum(squares - rows * means**2, 0.0))
    targets = np.tile(targets, (len(sets), 1))
    for turn in range(TURNS):
        pooled = np.tensordot(1.0 - targets, moments, 1)  # (2^d, 1 + d, 1 + d)
        weights = np.linalg.solve(pooled * mask + ridge, (pooled[:, :, 1 + j] * allowed)[:, :, None])[:, :, 0]
        quadratic = np.stack([((weights @ m) * weights).sum(1) for m in moments], axis=1)
        errors = np.maximum(squares - 2 * weights @ moments[:, :, 1 + j].T + quadratic, 0.0)  # (2^d, K)
        own, variances = gaussian_cost((1 - targets) @ rows, ((1 - targets) * errors).sum(1))
        if turn < TURNS - 1:
            under = 0.5 * (rows * np.log(2 * np.pi * variances[:, None]) + errors / variances[:, None])
            targets = (under > free + target_cost) & (np.arange(k) > 0)
    costs = own + targets @ (free + target_cost) + edge_cost * sets.sum(1)
    return Local(np.where(sets[:, j], np.inf, costs), weights, variances, targets, means, spreads)


def best_graph(costs: ndarray) -> ndarray:
    """Sets of parents (d,) of the acyclic graph of the least sum of costs (d, 2^d)."""
    d, sets = len(costs), np.arange(len(costs[0]))
    within = (sets & ~sets[:, None]) == 0
    choice = np.stack([np.where(within, c, np.inf).argmin(1) for c in costs])  # the best subset of each set
    best = np.take_along_axis(costs, choice, 1)
    total, sink = np.zeros(2**d), np.zeros(2**d, dtype=int)
    for s in range(1, 2**d):
        total[s], sink[s] = min((total[s ^ 1 << j] + best[j, s ^ 1 << j], j) for j in range(d) if s >> j & 1)
    parents, s = np.zeros(d, dtype=int), 2**d - 1
    while s:
        j = sink[s]
        s ^= 1 << j
        parents[j] = choice[j, s]
    return parents


def sticks(counts: ndarray, concentration: float) -> tuple[ndarray, float]:
    """Expected log weights (K,) under the best q of the sticks, and its divergence from their prior Beta(1, c)."""
    a, b = 1.0 + counts[:-1], concentration + counts[::-1].cumsum()[::-1][1:]
    stop, go = digamma(a) - digamma(a + b), digamma(b) - digamma(a + b)
    kl = (betaln(1.0, concentration) - betaln(a, b) + (a - 1) * stop + (b - concentration) * go).sum()
    return np.append(stop, 0.0) + np.append(0.0, go.cumsum()), float(kl)


class Fitted(NamedTuple):
    """Where an ascent ends: graph (d, d), 1 at [i, j] for i -> j; q (n, K); targets (K, d); the bound of each step."""

    graph: ndarray
    q: ndarray
    targets: ndarray
    bounds: list[float]


class Ascent(NamedTuple):
    """Coordinate ascent on rows x (n, d), of `steps` at most; costs are in nats, `concentration` is the process's."""

    x: ndarray
    edge_cost: float
    target_cost: float
    concentration: float
    steps: int

    def run(self, q: ndarray, fixed: ndarray) -> Fitted:
        """From q (n, K), which stays in `fixed` (n,) rows, until the bound rises by less than `TOLERANCE`."""
        (n, d), k = self.x.shape, q.shape[1]
        phi, q, bounds = np.column_stack([np.ones(n), self.x]), q.copy(), []
        targets = np.tile(np.arange(k)[:, None] > 0, (1, d))
        for _ in range(self.steps):
            moments = np.stack([(phi * column[:, None]).T @ phi for column in q.T])
            found = [local(j, moments, self.edge_cost, self.target_cost, targets[:, j]) for j in range(d)]
            parents = best_graph(np.stack([v.costs for v in found]))
            chosen = list(zip(found, parents, strict=True))
            targets = np.stack([v.targets[p] for v, p in chosen], axis=1)
            weights, divergence = sticks(q.sum(0), self.concentration)
            cost = sum(v.costs[p] for v, p in chosen)
            bounds.append(float(q.sum(0) @ weights - divergence + entr(q).sum() - cost))
            if len(bounds) > 1 and bounds[-1] - bounds[-2] < TOLERANCE:
                break
            logits = np.tile(weights, (n, 1))
            for j, (v, p) in enumerate(chosen):
                own = norm.logpdf(self.x[:, [j]], phi @ v.weights[p][:, None], v.variances[p] ** 0.5)
                logits += np.where(targets[:, j], norm.logpdf(self.x[:, [j]], v.means, v.spreads**0.5), own)
            q[~fixed] = softmax(logits, axis=1)[~fixed]
        return Fitted((parents >> np.arange(d)[:, None]) & 1, q, targets, bounds)

    def placed(self, q: ndarray) -> ndarray:
        """q with that component in the place of the observational one with which the bound is highest."""
        orders = [[k, *(i for i in range(q.shape[1]) if i != k)] for k in range(q.shape[1])]
        return max((q[:, o] for o in orders), key=lambda p: self.run(p, np.ones(len(q), dtype=bool)).bounds[0])
