"""A YAML document's parts with the comments and blank lines that go with each."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

#: Of PyYAML's own scanner: libyaml's marks differ at the ends of scalars.
_Loader = yaml.SafeLoader
_HASH = re.compile(r"(?:^|(?<=\s))#")


@dataclass
class Item:
    """A pair of a mapping, or an element of a list, with the comments that go with it."""

    node: yaml.Node
    key: yaml.Node | None = None
    parent: Item | None = None
    before: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @property
    def start(self) -> yaml.Mark:
        return (self.key or self.node).start_mark

    @property
    def in_braces(self) -> bool:
        """Whether the value is a collection in braces or brackets."""
        return isinstance(self.node, yaml.CollectionNode) and bool(self.node.flow_style)

    @property
    def column(self) -> int:
        return int(self.start.column) - (0 if self.key else 2)


class Source:
    """A document, read with its comments.

    Attributes:
        text: all of it.
        root: its outermost collection; None where it holds none, or an empty one.
        items: of each collection, by its node's id.
        end: the lines after the last item.
        comments: all of them, in their order.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.root = _root(text)
        self.items: dict[int, list[Item]] = {}
        self.end: list[str] = []
        self.comments: list[str] = []
        order: list[Item] = []
        spans: list[tuple[int, int]] = []
        if self.root is not None:
            self._gather(self.root, order, spans)
            self._attach(order, spans)

    def _gather(
        self, node: yaml.Node, order: list[Item], spans: list[tuple[int, int]], parent: Item | None = None
    ) -> None:
        if not isinstance(node, yaml.CollectionNode):
            spans.append((node.start_mark.index, node.start_mark.index + len(self.raw(node))))
            return
        mapping = isinstance(node, yaml.MappingNode)
        pairs = node.value if mapping else [(None, value) for value in node.value]
        items = [Item(value, key, parent) for key, value in pairs]
        self.items[id(node)] = items
        for item in items:
            order.append(item)
            if item.key is not None:
                self._gather(item.key, order, spans)
            self._gather(item.node, order, spans, item)

    def _attach(self, order: list[Item], spans: list[tuple[int, int]]) -> None:
        """Give every comment and blank line to the item that it stands beside, before, or at the end of."""
        starts = [a for a, _ in spans]
        waiting: list[tuple[str, int, int]] = []
        at = 0
        for start, line in self._lines():
            first = at
            while at < len(order) and order[at].start.index <= start + len(line):
                at += 1
            if first < at and waiting:
                self._settle(waiting, order, first)
                waiting = []
            column = next(
                (m.start() for m in _HASH.finditer(line) if not _within(start + m.start(), starts, spans)), -1
            )
            if column >= 0:
                self.comments.append(line[column:].rstrip())
            if column >= 0 and line[:column].strip():
                owner = at - 1
                while owner > 0 and order[owner].start.index >= start + column:
                    owner -= 1
                item = self._whole(order[owner], start + column)
                item.before += item.beside  # there is room for one
                item.beside = [line[column:]]
            elif column >= 0 or (not line.strip() and not _within(start, starts, spans)):
                waiting.append((line[column:] if column >= 0 else "", column, start))
        self._settle(waiting, order, len(order))

    def _whole(self, item: Item, index: int) -> Item:
        """The outermost item around `item` whose braces are closed before the character at `index`."""
        while (outer := item.parent) is not None and outer.in_braces and outer.node.end_mark.index <= index:
            item = outer
        return item

    def _settle(self, waiting: list[tuple[str, int, int]], order: list[Item], at: int) -> None:
        """Lines between items: what is indented more than the next one belongs to the end of one before."""
        following = order[at].column if at < len(order) else 0
        n = 0
        while n < len(waiting) and at and waiting[n][1] > following:
            text, column, index = waiting[n]
            owner = next((item for item in reversed(order[:at]) if item.column <= column), order[at - 1])
            owner = self._whole(owner, index)
            owner.after.append(text if owner.column >= column else "  " + text)
            n += 1
        rest = [text for text, _, _ in waiting[n:]]
        lines = [text for i, text in enumerate(rest) if text or (i and rest[i - 1]) or (not i and at)]
        if at < len(order):
            order[at].before += lines
        else:
            self.end += lines

    def _lines(self) -> Iterator[tuple[int, str]]:
        start = 0
        for line in self.text.split("\n"):
            if not line.startswith(("---", "...", "%")):
                yield start, line
            start += len(line) + 1

    def raw(self, node: yaml.Node) -> str:
        """A scalar as the source has it."""
        return str(self.text[node.start_mark.index : node.end_mark.index].rstrip())


def _root(text: str) -> yaml.CollectionNode | None:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    return node if isinstance(node, yaml.CollectionNode) and node.value else None


def _within(index: int, starts: list[int], spans: list[tuple[int, int]]) -> bool:
    """Whether the character at `index` is part of a scalar."""
    i = bisect_right(starts, index) - 1
    return i >= 0 and index < spans[i][1]
