"""A Dirichlet-process mixture of interventional models that share one graph, by coordinate ascent on its bound.

The model of Faria et al. 2022, with mechanisms that are linear in features. A row x (d,) is of component k, drawn by
stick-breaking; component 0 is observational. With the graph G, targets r_k of component k and its atom (m_k, v_k),

    log p(x | k) = sum_j (1 - r_kj) log N(x_j | w_j' phi(parents of j), s_j) + r_kj log N(x_j | m_kj, v_kj),

and the bound is sum_nk q_nk (E log pi_k + log p(x_n | k) - log q_nk) - KL(sticks) - costs of edges and targets. Each
variance has a prior that acts as one more row of squared error `LEAST`. Given q, the sum of second moments of a component's
features is all that matters, the cost of variable j depends on its parents and targets alone, and the best graph is
found by dynamic programming over sets of variables (Silander & Myllymäki 2006). The authors maximise such a bound by
gradients, with draws of graphs and an augmented Lagrangian against cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy import ndarray
from scipy.special import betaln, digamma, entr, softmax

ROUNDS = 3  # of mechanism and targets in turn, for one set of parents
TOLERANCE = 0.01  # nats
LEAST = 1e-3  # of variables with deviation 1


def features(x: ndarray, degree: int) -> tuple[ndarray, ndarray]:
    """Monomials (n, F) of rows (n, d) up to a degree, the constant first, and which variables each has (F, d)."""
    d = x.shape[1]
    powers = [c for k in range(degree + 1) for c in combinations_with_replacement(range(d), k)]
    uses = np.array([[j in c for j in range(d)] for c in powers])
    return np.stack([x[:, list(c)].prod(1) for c in powers], axis=1), uses


def gaussian_cost(rows: ndarray, squares: ndarray) -> tuple[ndarray, ndarray]:
    """Negative log likelihood and prior of `rows` rows with a sum of squared errors, at the best variance; and that."""
    variance = (squares + LEAST) / (rows + 1.0)
    return 0.5 * ((rows + 1.0) * (np.log(variance) + 1.0) + rows * np.log(2 * np.pi)), variance


@dataclass
class Local:
    """The best of variable j for each set of parents.

    Attributes:
        costs: (2^d,), infinite where j is of the set; bit i of an index is variable i.
        weights: (2^d, F) of the mechanism.
        variances: (2^d,) of it.
        targets: (2^d, K), whether j is targeted.
        means, spreads: (K,), what it has if it is, as mean and variance.
    """

    costs: ndarray
    weights: ndarray
    variances: ndarray
    targets: ndarray
    means: ndarray
    spreads: ndarray


def local(
    j: int, moments: ndarray, uses: ndarray, edge_cost: float, target_cost: float, before: ndarray | None = None
) -> Local:
    """Mechanism, atoms and targets of variable j, for each set of parents the better of what two starts lead to.

    Args:
        moments: (K, F, F), sums over a component's rows of products of features, of which 1 + j is variable j.
        uses: (F, d), see `features`.
        before: (K,) targets of one start, all but component 0 if not given; the other one has none.
    """
    (k, f, _), d = moments.shape, uses.shape[1]
    sets = (np.arange(2**d)[:, None] >> np.arange(d)) & 1
    allowed = (uses[None] <= sets[:, None]).all(2).astype(float)  # (2^d, F)
    mask, ridge = allowed[:, :, None] * allowed[:, None, :], np.eye(f) * (1e-6 + 1.0 - allowed)[:, :, None]
    rows, sums, squares = moments[:, 0, 0], moments[:, 0, 1 + j], moments[:, 1 + j, 1 + j]
    means = sums / np.maximum(rows, 1e-9)
    free, spreads = gaussian_cost(rows, np.maximum(squares - rows * means**2, 0.0))

    def by_turns(targets: ndarray) -> Local:
        for last in range(ROUNDS):
            pooled = np.tensordot(1.0 - targets, moments, 1)  # (2^d, F, F)
            weights = np.linalg.solve(pooled * mask + ridge, (pooled[:, :, 1 + j] * allowed)[:, :, None])[:, :, 0]
            quadratic = np.stack([((weights @ m) * weights).sum(1) for m in moments], axis=1)
            errors = np.maximum(squares - 2 * weights @ moments[:, :, 1 + j].T + quadratic, 0.0)  # (2^d, K)
            own, variances = gaussian_cost((1 - targets) @ rows, ((1 - targets) * errors).sum(1))
            if last < ROUNDS - 1:
                under = 0.5 * (rows * np.log(2 * np.pi * variances[:, None]) + errors / variances[:, None])
                targets = (under > free + target_cost) & (np.arange(k) > 0)
        costs = own + targets @ (free + target_cost) + edge_cost * sets.sum(1)
        return Local(np.where(sets[:, j], np.inf, costs), weights, variances, targets, means, spreads)

    start = np.arange(k) > 0 if before is None else before
    one, other = (by_turns(np.tile(t, (2**d, 1))) for t in (start, np.zeros(k, dtype=bool)))
    better = other.costs < one.costs
    for name in ("costs", "weights", "variances", "targets"):
        getattr(one, name)[better] = getattr(other, name)[better]
    return one


def best_graph(costs: ndarray) -> ndarray:
    """Sets of parents (d,) of the acyclic graph of the least sum of costs (d, 2^d)."""
    d = len(costs)
    best, choice = costs.copy(), np.tile(np.arange(2**d), (d, 1))
    for i in range(d):  # the best subset of each set
        having = np.flatnonzero(np.arange(2**d) >> i & 1)
        less = having ^ (1 << i)
        better = best[:, less] < best[:, having]
        best[:, having] = np.where(better, best[:, less], best[:, having])
        choice[:, having] = np.where(better, choice[:, less], choice[:, having])
    total, sink = np.zeros(2**d), np.zeros(2**d, dtype=int)
    for s in range(1, 2**d):
        members = [j for j in range(d) if s >> j & 1]
        ways = [total[s ^ (1 << j)] + best[j, s ^ (1 << j)] for j in members]
        total[s], sink[s] = min(ways), members[int(np.argmin(ways))]
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


@dataclass
class Fitted:
    """Where an ascent ends: graph (d, d), q (n, K), targets (K, d) and the bound after each step."""

    graph: ndarray
    q: ndarray
    targets: ndarray
    bounds: list[float]


@dataclass
class Ascent:
    """Coordinate ascent for one sample.

    Args:
        x: (n, d).
        degree: of the mechanisms' features.
        edge_cost, target_cost: in nats.
        concentration: of the Dirichlet process.
        steps: at most.
    """

    x: ndarray
    degree: int
    edge_cost: float
    target_cost: float
    concentration: float
    steps: int

    def __post_init__(self) -> None:
        self.phi, self.uses = features(self.x, self.degree)

    def run(self, q: ndarray, fixed: ndarray) -> Fitted:
        """From q (n, K) with fixed (n,) rows, until the bound rises by less than `TOLERANCE`."""
        (n, d), q = self.x.shape, q.copy()
        targets, bounds = None, []
        for _ in range(self.steps):
            moments = np.stack([(self.phi * column[:, None]).T @ self.phi for column in q.T])
            found = []
            for j in range(d):
                start = None if targets is None else targets[:, j]
                found.append(local(j, moments, self.uses, self.edge_cost, self.target_cost, start))
            parents = best_graph(np.stack([v.costs for v in found]))
            chosen = list(zip(found, parents, strict=True))
            targets = np.stack([v.targets[p] for v, p in chosen], axis=1)
            weights, divergence = sticks(q.sum(0), self.concentration)
            bounds.append(
                float(q.sum(0) @ weights - divergence + entr(q).sum() - sum(v.costs[p] for v, p in chosen))
            )
            if fixed.all() or (len(bounds) > 1 and bounds[-1] - bounds[-2] < TOLERANCE):
                break
            logits = np.tile(weights, (n, 1))
            for j, (v, p) in enumerate(chosen):
                own = log_normal(self.x[:, j], self.phi @ v.weights[p], v.variances[p])
                under = log_normal(self.x[:, [j]], v.means, v.spreads)
                logits += np.where(targets[:, j], under, own[:, None])
            q[~fixed] = softmax(logits, axis=1)[~fixed]
        return Fitted((parents >> np.arange(d)[:, None]) & 1, q, targets, bounds)

    def placed(self, q: ndarray) -> ndarray:
        """q with that component in the place of the observational one with which the bound is highest."""
        orders = [[k, *(i for i in range(q.shape[1]) if i != k)] for k in range(q.shape[1])]
        every = np.ones(len(q), dtype=bool)
        return max((q[:, o] for o in orders), key=lambda p: self.run(p, every).bounds[0])

    def twice(self, q: ndarray, fixed: ndarray) -> Fitted:
        """The better of an ascent from q, `placed` where no row is fixed, and one from where the first ends."""
        ends = []
        for _ in range(2):
            ends.append(self.run(q if fixed.any() else self.placed(q), fixed))
            q = ends[-1].q
        return max(ends, key=lambda end: end.bounds[-1])


def log_normal(x: ndarray, mean: ndarray, variance: ndarray) -> ndarray:
    return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))
