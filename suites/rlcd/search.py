"""Rank-based latent causal discovery (Dong et al., arXiv 2312.11001), algorithms 1 to 4; skeletons only.

Where C, X and N are disjoint, rank(Sigma_{C+X, N+X}) is |X| plus the rank of the cross-covariance of C and N given X
(lemma 10 is its case of single variables). It is tested by canonical correlations (appendix A.18): under rank at most
r, -(n - (p + q + 3) / 2) sum_{i > r} log(1 - rho_i^2) is about chi-squared with (p - r)(q - r) degrees of freedom.
Covers are sets of variables; observed ones are numbered first, hidden ones as they are found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain, combinations, product
from typing import Any

import networkx as nx  # type: ignore[import-untyped]  # a requirement of torch
import numpy as np
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models.study import Arrays
from pydantic import PositiveFloat
from scipy.special import chdtri

from .graphs import LatentGraphStudy

Cover = frozenset[int]
LARGEST = 3  # cover that is looked for


class Ranks:
    """Tests of ranks of a covariance matrix (p, p) that was estimated from `rows` rows, at level `alpha`."""

    def __init__(self, s: np.ndarray, rows: float, alpha: float) -> None:
        self.s, self.rows, self.alpha = s, rows, alpha

    def low(self, sets: np.ndarray, within: Collection[int], given: Collection[int], rank: int) -> np.ndarray:
        """(B,) bool: rank(Sigma_{C+X, N+X}) <= `rank` is not rejected, for each row C of `sets` (B, c).

        Args:
            sets: of observed variables.
            within: C and N together, without X.
            given: X, of at most `rank` variables.
        """
        u, x = sorted(within), sorted(given)
        across, at = self.s[np.ix_(u, x)], np.searchsorted(u, sets)
        s = self.s[np.ix_(u, u)] - across @ np.linalg.solve(self.s[np.ix_(x, x)], across.T)
        root = np.linalg.cholesky(s[at[:, :, None], at[:, None, :]])
        inverse = np.linalg.inv(s)[at[:, :, None], at[:, None, :]]
        c, r = sets.shape[1], rank - len(x)
        values = np.linalg.eigvalsh(root.transpose(0, 2, 1) @ inverse @ root)[:, : c - r]  # 1 / (1 - rho^2), ascending
        statistic = (self.rows - (len(u) + 2 * len(x) + 3) / 2) * np.log(np.maximum(values, 1.0)).sum(1)
        return statistic <= chdtri((c - r) * (len(u) - c - r), self.alpha)

    def apart(self, i: int, j: int, sets: np.ndarray) -> np.ndarray:
        """(B,) bool: rank(Sigma_{i+S, j+S}) = |S| is not rejected, for each row S of `sets` (B, s) (lemma 10)."""
        every = np.insert(sets, [0, 0], [i, j], axis=1)
        inverse = np.linalg.inv(self.s[every[:, :, None], every[:, None, :]])
        rest = 1 - inverse[:, 0, 1] ** 2 / (inverse[:, 0, 0] * inverse[:, 1, 1])
        return -(self.rows - (2 * sets.shape[1] + 5) / 2) * np.log(rest) <= chdtri(1, self.alpha)


def ci_skeleton(ranks: Ranks) -> nx.Graph:
    """Phase 1 (algorithm 2): first stage of PC."""
    graph, size = nx.complete_graph(len(ranks.s)), 0
    while any(degree > size for _, degree in graph.degree):
        for i, j in [(a, b) for edge in list(graph.edges) for a, b in (edge, edge[::-1])]:
            if graph.has_edge(i, j) and graph.degree[i] > size:
                sets = np.array(list(combinations(sorted(set(graph[i]) - {j}), size)), int)
                if ranks.apart(i, j, sets).any():
                    graph.remove_edge(i, j)
        size += 1
    return graph


def groups(skeleton: nx.Graph) -> Iterator[set[int]]:
    """Unions of maximal cliques of three variables or more, two of which belong together where they share two."""
    cliques = [set(q) for q in nx.find_cliques(skeleton) if len(q) >= 3]
    together = nx.empty_graph(len(cliques))
    together.add_edges_from((a, b) for a, b in combinations(together, 2) if len(cliques[a] & cliques[b]) >= 2)
    for members in nx.connected_components(together):
        yield set().union(*(cliques[q] for q in members))


def union(covers: Iterable[Cover]) -> Cover:
    return frozenset(chain.from_iterable(covers))


def size(covers: Iterable[Cover]) -> int:
    return sum(map(len, covers))


class ClusterSearch:
    """Phase 2 (algorithms 3 and 4): clusters of pure children, and the covers that are their parents.

    Args:
        ranks: tests.
        observed: variables to search among.
        first: number of the first hidden variable.
        causes: whether observed variables may be parents (X of the algorithm).
    """

    def __init__(self, ranks: Ranks, observed: Iterable[int], first: int, causes: bool) -> None:
        self.ranks, self.observed, self.next, self.causes = ranks, frozenset(observed), first, causes
        self.children: dict[Cover, set[Cover]] = {}  # of each cover
        self.atomic = [frozenset({v}) for v in sorted(self.observed)]
        self.known: dict[tuple[Cover, Cover, int], list[Cover]] = {}

    def run(self) -> nx.Graph:
        """The edges that were found."""
        k = 1
        while k <= LARGEST:
            k = 1 if self.step(k) else k + 1
        self.join()
        return nx.Graph((a, b) for parent, covers in self.children.items() for a in parent for b in union(covers))

    def step(self, k: int) -> bool:
        """Record the clusters of the first X that has any of `k` parents; whether there are."""
        top = [cover for cover in self.atomic if not any(cover in down for down in self.children.values())]
        active = [cover for cover in top if not any(cover < other for other in top)]  # {X} is left to {X, L}
        hidden = [cover for cover in active if cover - self.observed]
        for opened in chain.from_iterable(combinations(hidden, n) for n in range(len(hidden), -1, -1)):
            parts = union(opened)
            covers = [cover for cover in active if cover not in opened]
            covers += [frozenset({v}) for v in sorted(parts & self.observed)]
            covers += [c for up in self.children if up <= parts for c in sorted(self.children[up], key=sorted)]
            possible = sorted(union(covers) & self.observed)
            for t in range(k if self.causes else 0, -1, -1):
                for given in map(frozenset, combinations(possible, t)):
                    if self.record(self.clusters(list(dict.fromkeys(covers)), given, k), given, k):
                        return True
        return False

    def below(self, variables: Cover) -> Cover:
        """The variables and what descends from any of them."""
        grown = variables.union(*(c for parent, down in self.children.items() if parent & variables for c in down))
        return grown if grown == variables else self.below(grown)

    def measures(self, covers: Iterable[Cover]) -> Cover:
        """Observed variables that stand for covers in tests (theorem 6): themselves, or what descends from them."""
        found = union(covers)
        for cover in covers:
            if cover - self.observed:
                found |= self.measures([c for parent, down in self.children.items() if parent <= cover for c in down])
        return found & self.observed

    def clusters(self, covers: list[Cover], given: Cover, k: int) -> list[frozenset[Cover]]:
        """Sets C of covers, none to spare for ||C|| + |X| > k, of rank `k` against the rest; or two, of which one large
        (example 10)."""
        need, within = k + 1 - len(given), self.measures(covers) - given
        free = [cover for cover in covers if not cover & given]
        large, small = ([c for c in free if bool(c - self.observed) == wanted] for wanted in (True, False))
        if (given, within, k) not in self.known:
            sets = np.array(list(combinations(sorted(within), need)))
            low = sets[self.ranks.low(sets, within, given, k)] if len(within) >= 2 * need else sets[:0]
            self.known[given, within, k] = [frozenset(c) for c in low.tolist()]
        found = [frozenset(frozenset({v}) for v in c) for c in self.known[given, within, k] if c <= union(small)]
        tried: dict[int, list[tuple[frozenset[Cover], list[int]]]] = {}  # by the number of measures
        for n, m in product(range(1, need + 1), range(need + 1)):
            for some in map(frozenset, (a + b for a in combinations(large, n) for b in combinations(small, m))):
                minimal = size(some) - min(map(len, some)) < need or (len(some) == 2 and max(map(len, some)) >= need)
                own = self.measures(some) - given
                if minimal and size(some) >= need and len(within - own) >= need:
                    tried.setdefault(len(own), []).append((some, sorted(own)))
        for pairs in tried.values():
            low = self.ranks.low(np.array([own for _, own in pairs]), within, given, k)
            found += [some for (some, _), is_low in zip(pairs, low, strict=True) if is_low]
        return [c for c in found if self.admissible(c, covers, given, k) and not self.collider(c, within, given, k)]

    def admissible(self, some: frozenset[Cover], covers: list[Cover], given: Cover, k: int) -> bool:
        """Theorems 7 and 8: no descendants of C in the rest, ||N + X|| > k, no more of a cluster than its parents."""
        own = union(some)
        rest = [cover for cover in covers if not cover <= own] + [frozenset({v}) for v in given]
        return (
            not (self.below(own) - own) & union(rest)
            and all(size(some & down) + len(given & up) <= len(up) for up, down in self.children.items())
            and self.cardinality(frozenset(rest)) > k
        )

    def cardinality(self, covers: frozenset[Cover]) -> int:
        """||N||, where more children of a cover than it has members are the cover."""
        for up, down in self.children.items():
            rest = covers - down
            if size(covers & down) + len(union(rest) & up) > len(up):
                return self.cardinality(frozenset(c - up for c in rest if c - up) | {up})
        return len(union(covers))

    def collider(self, some: frozenset[Cover], within: Cover, given: Cover, k: int) -> bool:
        """Whether C without one of its covers is rank deficient against the same rest (algorithm 4)."""
        rest = within - self.measures(some)
        for left in combinations(some, len(some) - 1):
            own = self.measures(left) - given - rest
            full = min(size(left) + len(given), k)
            if left and self.ranks.low(np.array([sorted(own)]), own | rest, given, full - 1)[0]:
                return True
        return False

    def record(self, found: list[frozenset[Cover]], given: Cover, k: int) -> bool:
        """Give sets, merged where they share a cover, their parents: those they have, X, and hidden ones up to `k`."""
        overlap, changed = nx.Graph(), False
        for some in found:
            nx.add_path(overlap, some)
        for covers in nx.connected_components(overlap):
            parent = given.union(*(up for up, down in self.children.items() if down & covers))
            new = {c for c in covers if not c <= parent}.difference(
                *(self.children[up] for up in self.children if up <= parent)
            )
            if len(parent) <= k and new and not parent & self.below(union(new)):  # no cycle (appendix B.16)
                if len(parent) < k:
                    parent |= frozenset(range(self.next, self.next + k - len(parent)))
                    self.next = max(parent) + 1
                    self.atomic.append(parent)
                self.children.setdefault(parent, set()).update(new)
                changed = True
        return changed

    def join(self) -> None:
        """Join what no rank tells apart: what is left becomes a child of a hidden cover that it depends on."""
        down = union(chain.from_iterable(self.children.values()))
        covers = {cover for cover in [*self.children, *self.atomic] if cover - down}
        hub, *others = sorted(
            (c for c in covers if not any(c < d for d in covers)), key=lambda c: (c <= self.observed, sorted(c))
        )
        for cover in others if hub - self.observed else []:
            theirs, ours = self.measures([cover]), self.measures([hub]) - self.measures([cover])
            if ours and not self.ranks.low(np.array([sorted(theirs)]), ours | theirs, (), 0)[0]:
                self.children[hub].add(cover - down - hub)


def discover(ranks: Ranks, skeleton: nx.Graph | None = None, causes: bool = True) -> np.ndarray:
    """(p + m, p + m) skeleton: groups with hidden variables take the edges of their search (appendix D.5).

    Args:
        ranks: tests of phase 2.
        skeleton: of phase 1; None, all variables are one group.
        causes: of `ClusterSearch`.
    """
    among = skeleton or nx.complete_graph(len(ranks.s))
    graph = nx.Graph(skeleton or nx.empty_graph(len(ranks.s)))
    for group in groups(among):
        search = ClusterSearch(ranks, group.union(*(among[v] for v in group)), len(graph), causes)
        edges = search.run()
        edges.remove_nodes_from([v for v in edges if v in search.observed and v not in group])
        while idle := [v for v in edges if v not in search.observed and edges.degree[v] < 2]:
            edges.remove_nodes_from(idle)  # on no trek within the group
        hidden = sorted(v for v in edges if v not in search.observed)
        if hidden or not skeleton:
            graph.remove_edges_from(list(combinations(group, 2)))
            graph.add_edges_from(nx.relabel_nodes(edges, {v: len(graph) + i for i, v in enumerate(hidden)}).edges)
    return nx.to_numpy_array(graph, nodelist=range(len(graph)), dtype=int)


@model("rlcd", "Iterative Study", examples=(Example("real-vector", {"problems": 2, "kind": "measurement"}),))
class Rlcd(LatentGraphStudy):
    """Phases 1 and 2. Phase 3, which refines clusters, is in the paper and not in the authors' code, nor here.

    Args:
        info: not used.
        skeleton_alpha: level of the tests of phase 1; None, no phase 1: all variables are one group.
        **design: of `LatentGraphStudy`; `alpha` is of phase 2.
    """

    def __init__(self, info: DataInfo, *, skeleton_alpha: PositiveFloat | None = 0.1, **design: Any) -> None:
        super().__init__(info, **design)
        self.skeleton_alpha = skeleton_alpha

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        s = np.corrcoef(given["x"].T)
        skeleton = ci_skeleton(Ranks(s, self.rows, self.skeleton_alpha)) if self.skeleton_alpha else None
        return {"skeleton": discover(Ranks(s, self.rows, self.alpha), skeleton)}
