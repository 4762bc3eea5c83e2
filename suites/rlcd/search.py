"""Rank-based latent causal discovery (Dong et al., arXiv 2312.11001), algorithms 1 to 4; skeletons only.

Where C, X and N are disjoint, rank(Sigma_{C+X, N+X}) is |X| plus the rank of the cross-covariance of C and N given X
(lemma 10 is its case of single variables). It is tested by canonical correlations (appendix A.18): under rank at most
r, -(n - (p + q + 3) / 2) sum_{i > r} log(1 - rho_i^2) is about chi-squared with (p - r)(q - r) degrees of freedom.
Covers are sets of variables; the observed are numbered first, hidden ones as they are found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain, combinations, product

import networkx as nx
import numpy as np
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models.study import Arrays
from pydantic import PositiveFloat, PositiveInt
from scipy.special import chdtri

from .graphs import Kind, LatentGraphStudy

Cover = frozenset[int]


class Ranks:
    """Tests of ranks of a covariance matrix (p, p) that was estimated from `rows` rows, at level `alpha`."""

    def __init__(self, s: np.ndarray, rows: float, alpha: float) -> None:
        self.s, self.rows, self.alpha = s, rows, alpha

    def deficient(self, sets: np.ndarray, within: Iterable[int], given: Collection[int], rank: int) -> np.ndarray:
        """(B,) bool: rank(Sigma_{C+X, N+X}) <= `rank` is not rejected.

        Args:
            sets: (B, c), each row a set C of observed variables.
            within: C and N together, without X.
            given: X, of at most `rank` variables.
        """
        u, x = sorted(within), sorted(given)
        at = np.searchsorted(u, sets)
        s = self.s[np.ix_(u, u)]
        if x:
            across = self.s[np.ix_(u, x)]
            s = s - across @ np.linalg.solve(self.s[np.ix_(x, x)], across.T)
        blocks = np.linalg.inv(s)[at[:, :, None], at[:, None, :]]
        root = np.linalg.cholesky(s[at[:, :, None], at[:, None, :]])
        c, n, r = sets.shape[1], len(u) - sets.shape[1], rank - len(x)
        values = np.linalg.eigvalsh(root.transpose(0, 2, 1) @ blocks @ root)[:, : c - r]  # 1 / (1 - rho^2), ascending
        statistic = (self.rows - (c + n + 2 * len(x) + 3) / 2) * np.log(np.maximum(values, 1.0)).sum(1)
        return statistic <= chdtri((c - r) * (n - r), self.alpha)


def ci_skeleton(ranks: Ranks, deepest: int = 4) -> nx.Graph:
    """Phase 1 (algorithm 2): first stage of PC, with tests of rank(Sigma_{i+S, j+S}) = |S| for |S| <= `deepest`."""
    s, p = ranks.s, len(ranks.s)
    graph = nx.complete_graph(p)
    for size in range(min(deepest, p - 2) + 1):
        sets = np.array(list(combinations(range(p), size)), int)
        member = np.zeros((len(sets), p), bool)
        np.put_along_axis(member, sets, True, 1)
        across = s[sets]  # (B, size, p)
        rest = s - across.transpose(0, 2, 1) @ np.linalg.solve(s[sets[:, :, None], sets[:, None, :]], across)
        scale = np.maximum(np.diagonal(rest, axis1=1, axis2=2), 1e-12)
        critical = chdtri(1, ranks.alpha) / (ranks.rows - (2 * size + 5) / 2)
        for i, j in [(a, b) for edge in list(graph.edges) for a, b in (edge, edge[::-1])]:
            if graph.has_edge(i, j):
                outside = [v for v in range(p) if v == j or not graph.has_edge(i, v)]
                squared = rest[:, i, j] ** 2 / (scale[:, i] * scale[:, j])
                independent = squared <= 1 - np.exp(-critical)
                if independent[~member[:, outside].any(1)].any():
                    graph.remove_edge(i, j)
    return graph


def groups(skeleton: nx.Graph) -> Iterator[set[int]]:
    """Unions of maximal cliques of three variables or more, two of which belong together where they share two."""
    cliques = [set(q) for q in nx.find_cliques(skeleton) if len(q) >= 3]
    together = nx.empty_graph(len(cliques))
    together.add_edges_from((a, b) for a, b in combinations(together, 2) if len(cliques[a] & cliques[b]) >= 2)
    for members in nx.connected_components(together):
        yield set().union(*(cliques[q] for q in members))


class ClusterSearch:
    """Phase 2 (algorithms 3 and 4): clusters of pure children, and the covers that are their parents.

    Args:
        ranks: tests.
        observed: variables to search among.
        skeleton: of conditional independence among the observed variables.
        first: number of the first hidden variable.
        largest: cover.
        causes: whether observed variables may be parents (X of the algorithm).
    """

    def __init__(
        self, ranks: Ranks, observed: Iterable[int], skeleton: nx.Graph, first: int, largest: int, causes: bool
    ) -> None:
        self.ranks, self.skeleton, self.observed = ranks, skeleton, frozenset(observed)
        self.first, self.hidden, self.largest, self.causes = first, 0, largest, causes
        self.children: dict[Cover, set[Cover]] = {}  # of each cover
        self.known: dict[tuple[Cover, Cover, int, int], list[Cover]] = {}
        self.atomic: list[Cover] = [frozenset({v}) for v in sorted(self.observed)]

    def run(self) -> list[tuple[int, int]]:
        """Edges, from parents to children."""
        k = 1
        while k <= self.largest:
            k = 1 if self.step(k) else k + 1
        if self.hidden:
            self.join()
        return [(a, b) for parent, covers in self.children.items() for a in parent for b in frozenset().union(*covers)]

    def step(self, k: int) -> bool:
        """Record what the first X shows for which there are sets of rank `k`; whether there is any."""
        roots = self.roots()
        hidden = [cover for cover in roots if cover - self.observed]
        for size in range(len(hidden), -1, -1):
            for unfolded in combinations(hidden, size):
                covers = self.unfold(roots, unfolded)
                possible = sorted(frozenset().union(*covers) & self.observed)
                for t in range(k if self.causes else 0, -1, -1):
                    for given in combinations(possible, t):
                        found = self.clusters(covers, frozenset(given), k)
                        if found and self.record(found, frozenset(given), k):
                            return True
        return False

    def roots(self) -> list[Cover]:
        """Active set: atomic covers that are no children, and no part of another one that is in the set."""
        kept = set(self.atomic) - set().union(*self.children.values())
        return [cover for cover in self.atomic if cover in kept and not any(cover < other for other in kept)]

    def unfold(self, roots: list[Cover], unfolded: Collection[Cover]) -> list[Cover]:
        """Active set with the observed members and the children of some covers in place of these."""
        parts = frozenset().union(*unfolded)
        covers = [cover for cover in roots if cover not in unfolded]
        covers += [frozenset({v}) for v in sorted(parts & self.observed)]
        covers += [c for parent in self.children if parent <= parts for c in sorted(self.children[parent], key=sorted)]
        return list(dict.fromkeys(covers))

    def below(self, variables: Cover) -> Cover:
        """What descends from any of the variables, and they themselves."""
        down = [c for parent, children in self.children.items() if parent & variables for c in children]
        grown = variables.union(*down)
        return grown if grown == variables else self.below(grown)

    def measures(self, covers: Iterable[Cover]) -> Cover:
        """Observed variables that stand for covers in tests (theorem 6): themselves, or what descends from them."""
        found = frozenset().union(*covers)
        for cover in covers:
            if cover - self.observed:
                down = (c for parent, children in self.children.items() if parent <= cover for c in children)
                found |= self.measures(list(down))
        return found & self.observed

    def clusters(self, covers: list[Cover], given: Cover, k: int) -> list[frozenset[Cover]]:
        """Sets C of covers with ||C|| + |X| > k and rank `k` against the rest, which neither hold a collider nor could
        be of this rank for another reason (theorem 8)."""
        need, within = k - len(given) + 1, self.measures(covers) - given
        free = [cover for cover in covers if not cover & given]
        large = [cover for cover in free if cover - self.observed]
        small = [cover for cover in free if cover <= self.observed]
        singles = frozenset().union(*small)
        found = [frozenset(frozenset({v}) for v in c) for c in self.low_sets(given, within, need, k) if c <= singles]
        tried: dict[int, list[tuple[frozenset[Cover], list[int]]]] = {}
        for n, size in product(range(1, need + 1), range(need + 1)):
            for some in (a + b for a in combinations(large, n) for b in combinations(small, size)):
                lengths = [len(cover) for cover in some]
                if sum(lengths) - min(lengths) < need <= sum(lengths) or (len(some) == 2 and max(lengths) >= need):
                    measured = self.measures(some) - given
                    tried.setdefault(len(measured), []).append((frozenset(some), sorted(measured)))
        for size, candidates in tried.items():
            if len(within) - size >= need:
                sets = np.array([measured for _, measured in candidates])
                deficient = self.ranks.deficient(sets, within, given, k)
                found += [some for (some, _), is_low in zip(candidates, deficient, strict=True) if is_low]
        return [
            some
            for some in found
            if self.admissible(some, covers, given, k) and not self.collider(some, within - self.measures(some), given, k)
        ]

    def low_sets(self, given: Cover, within: Cover, size: int, k: int) -> list[Cover]:
        """Sets of observed variables of rank `k`, with X, against the rest."""
        key = (given, within, size, k)
        if key not in self.known:
            sets = np.array(list(combinations(sorted(within), size)))
            low = sets[self.ranks.deficient(sets, within, given, k)] if len(within) >= 2 * size else sets[:0]
            self.known[key] = [frozenset(c) for c in low.tolist()]
        return self.known[key]

    def admissible(self, some: frozenset[Cover], covers: list[Cover], given: Cover, k: int) -> bool:
        own = frozenset().union(*some)
        others = [cover for cover in covers if not cover <= own]
        if (self.below(own) - own) & frozenset(given).union(*others):
            return False
        for parent, children in self.children.items():
            if sum(len(cover) for cover in some & children) + len(given & parent) > len(parent):
                return False
        if self.cardinality(frozenset(others).union(frozenset({v}) for v in given)) <= k:
            return False
        return nx.is_connected(self.skeleton.subgraph((own | given) & self.observed)) if own & self.observed else True

    def cardinality(self, covers: frozenset[Cover]) -> int:
        """||N|| with more children of a cover than it has members counted as the cover."""
        for parent, children in self.children.items():
            of = covers & children
            if parent in self.atomic and sum(map(len, of)) + len(frozenset().union(*(covers - of)) & parent) > len(parent):
                return self.cardinality(frozenset(c - parent for c in covers - of if c - parent) | {parent})
        return len(frozenset().union(*covers))

    def collider(self, some: frozenset[Cover], rest: Cover, given: Cover, k: int) -> bool:
        """Whether C without one of its covers is rank deficient against the same rest (algorithm 4)."""
        for left in combinations(some, len(some) - 1):
            own = self.measures(left) - given - rest
            full = min(sum(map(len, left)) + len(given), k)
            if left and self.ranks.deficient(np.array([sorted(own)]), own | rest, given, full - 1)[0]:
                return True
        return False

    def record(self, found: list[frozenset[Cover]], given: Cover, k: int) -> bool:
        """Give merged sets their parents: those they have, X, and as many hidden ones as k wants; whether any is new."""
        overlap = nx.empty_graph(len(found))
        for a, b in combinations(overlap, 2):
            shared, sizes = (sum(map(len, found[a] & found[b])), [sum(map(len, found[i])) for i in (a, b)])
            if shared and shared >= min(sizes) - 1:
                overlap.add_edge(a, b)
        changed = False
        for members in nx.connected_components(overlap):
            covers = set().union(*(found[i] for i in members))
            parent = given.union(*(up for up, down in self.children.items() if down & covers))
            new = covers - set().union(*(down for up, down in self.children.items() if up <= parent))
            new = {cover for cover in new if not cover <= parent}
            if len(parent) > k or not new or parent & self.below(frozenset().union(*new)):
                continue
            if len(parent) < k:
                numbers = range(self.first + self.hidden, self.first + self.hidden + k - len(parent))
                self.hidden += len(numbers)
                parent |= frozenset(numbers)
                self.atomic.append(parent)
            self.children.setdefault(parent, set()).update(new)
            changed = True
        return changed

    def join(self) -> None:
        """Join what no rank tells apart: covers without parents that depend on the first hidden one are its children."""
        down = frozenset().union(*chain.from_iterable(self.children.values()))
        covers = [cover for cover in dict.fromkeys([*self.children, *self.atomic]) if cover - down]
        roots = [cover for cover in covers if not any(cover < other for other in covers)]
        hub, *others = sorted(roots, key=lambda cover: cover <= self.observed)
        for root in others:
            theirs = self.measures([root])
            ours = self.measures([hub]) - theirs
            if ours and not self.ranks.deficient(np.array([sorted(theirs)]), ours | theirs, (), 0)[0]:
                self.children.setdefault(hub, set()).add(root - down)


def discover(ranks: Ranks, skeleton: nx.Graph | None = None, largest: int = 3, causes: bool = True) -> np.ndarray:
    """(p + m, p + m) skeleton: groups with hidden variables take the edges of their search (appendix D.5).

    Args:
        ranks: tests of phase 2.
        skeleton: of phase 1; None, all variables are one group.
        largest, causes: of `ClusterSearch`.
    """
    p = len(ranks.s)
    graph = nx.Graph(skeleton) if skeleton else nx.empty_graph(p)
    skeleton = skeleton or nx.complete_graph(p)
    for group in [group for group in groups(skeleton) if len(group) > 3]:
        around = group.union(*(skeleton[v] for v in group))
        search = ClusterSearch(ranks, around, skeleton, len(graph), largest, causes)
        edges = nx.Graph(search.run()).subgraph(group | set(range(len(graph), len(graph) + search.hidden))).copy()
        while idle := [v for v in edges if v >= len(graph) and edges.degree[v] < 2]:  # on no trek within the group
            edges.remove_nodes_from(idle)
        hidden = sorted(v for v in edges if v >= len(graph))
        if hidden or not graph.edges:
            graph.remove_edges_from(list(combinations(group, 2)))
            graph.add_edges_from(nx.relabel_nodes(edges, {v: len(graph) + i for i, v in enumerate(hidden)}).edges)
    return nx.to_numpy_array(graph, nodelist=range(len(graph)), dtype=int)


@model("rlcd", "Iterative Study", examples=(Example("real-vector", {"problems": 2, "kind": "measurement"}),))
class Rlcd(LatentGraphStudy):
    """Phases 1 and 2. Phase 3, which refines clusters, is in the paper and not in the authors' code, nor here.

    Args:
        info, kind, rows, alpha, problems: as in `LatentGraphStudy`; `alpha` is of phase 2.
        skeleton_alpha: level of the tests of phase 1; None, no phase 1: all variables are one group.
        largest: cover that is looked for.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        kind: Kind = "tree",
        rows: PositiveInt = 2000,
        alpha: PositiveFloat = 0.005,
        problems: PositiveInt = 10,
        skeleton_alpha: PositiveFloat | None = None,
        largest: PositiveInt = 3,
    ) -> None:
        super().__init__(info, kind=kind, rows=rows, alpha=alpha, problems=problems)
        self.skeleton_alpha, self.largest = skeleton_alpha, largest

    def answer(self, given: Arrays, rng: np.random.Generator) -> Arrays:
        s = np.corrcoef(given["x"].T)
        skeleton = ci_skeleton(Ranks(s, self.rows, self.skeleton_alpha)) if self.skeleton_alpha else None
        return {"skeleton": discover(Ranks(s, self.rows, self.alpha), skeleton, self.largest)}
