"""One hash for a definition and all that it reaches, the same wherever its parts lie and however they are imported.

Colour refinement on the graph of references: a definition's colour is the hash of its text and of the colours of what
it refers to, in order. Definitions that refer to each other in a circle start from their text alone and are refined as
often as there are of them, after which two have one colour only where nothing that is done with them can differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from latentbench.core.reach.graph import Graph, Key


class Colours:
    """Hashes of the definitions of a graph, each found once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[Key, str] = {}

    def of(self, root: Key) -> str:
        """sha256 of `root` with all that it reaches, 64 hexadecimal digits."""
        if root not in self._known:
            for circle in self._circles(root):
                self._refine(circle)
        return self._known[root]

    def _refine(self, circle: list[Key]) -> None:
        now = dict.fromkeys(circle, "")
        for _ in circle:
            now = {key: self._hashed(key, now) for key in circle}
        self._known |= now

    def _hashed(self, key: Key, now: dict[Key, str]) -> str:
        node = self._graph.node(key)

        def colour(other: Key) -> str:
            return now[other] if other in now else self._known[other]

        parts = [("#" + colour(i)) if isinstance(i, tuple) else ("'" + i) for i in node.items]
        parts += ["beside", *sorted(colour(other) for other in node.beside)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _circles(self, root: Key) -> Iterator[list[Key]]:
        """Strongly connected components that `root` reaches and whose colours are not known, those reached first.

        Tarjan's algorithm (1972), without recursion.
        """
        order: dict[Key, int] = {}
        low: dict[Key, int] = {}
        open_: list[Key] = []
        is_open: set[Key] = set()
        path: list[tuple[Key, Iterator[Key]]] = []

        def enter(key: Key) -> None:
            order[key] = low[key] = len(order)
            open_.append(key)
            is_open.add(key)
            node = self._graph.node(key)
            path.append((key, iter([*node.edges, *sorted(node.beside)])))

        enter(root)
        while path:
            key, others = path[-1]
            for other in others:
                if other in self._known:
                    continue
                if other not in order:
                    enter(other)
                    break
                if other in is_open:
                    low[key] = min(low[key], order[other])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[key])
                if low[key] == order[key]:
                    circle: list[Key] = []
                    while not circle or circle[-1] != key:
                        circle.append(open_.pop())
                    is_open.difference_update(circle)
                    yield circle
