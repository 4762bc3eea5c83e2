"""YAML laid out one way: no line over 120 columns; comments, order and every value as they were.

What fits on a line stays in the author's own form, braces or block. A mapping in braces that is too long becomes a
block, a list in brackets and a text are continued on the next line. Scalars are copied from the source, never written
anew, so quotes and the spelling of numbers stay.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

WIDTH = 120
#: Marks of PyYAML's own scanner, of which libyaml's differ at the ends of scalars.
_Loader = yaml.SafeLoader


@dataclass
class _Item:
    """A pair of a mapping, or an element of a list, with the comments that go with it."""

    node: yaml.Node
    key: yaml.Node | None = None
    parent: _Item | None = None
    before: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @property
    def start(self) -> yaml.Mark:
        return (self.key or self.node).start_mark

    @property
    def column(self) -> int:
        return int(self.start.column) - (0 if self.key else 2)


def formatted(text: str) -> str:
    """`text`, which must be a YAML document without aliases, laid out."""
    node = _root(text)
    if node is None:
        return text
    layout = _Layout(text, node)
    return "\n".join(line.rstrip() for line in (*layout.block(node, 0), *layout.end)).rstrip("\n") + "\n"


def comments(text: str) -> list[str]:
    """Every comment of a document, in its order."""
    node = _root(text)
    return [] if node is None else [text[a:b].rstrip() for a, b in _Layout(text, node).found]


def _root(text: str) -> yaml.CollectionNode | None:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    return node if isinstance(node, yaml.CollectionNode) and node.value else None


class _Layout:
    """Where everything of a document goes.

    Attributes:
        items: of each collection, by its node's id.
        end: the lines after the last item.
        found: where each comment stands in the source.
    """

    def __init__(self, text: str, root: yaml.CollectionNode) -> None:
        self.text = text
        self.items: dict[int, list[_Item]] = {}
        self.end: list[str] = []
        self.found: list[tuple[int, int]] = []
        order: list[_Item] = []
        spans: list[tuple[int, int]] = []
        self._gather(root, order, spans)
        self._attach(order, spans)

    def _gather(
        self, node: yaml.Node, order: list[_Item], spans: list[tuple[int, int]], parent: _Item | None = None
    ) -> None:
        if not isinstance(node, yaml.CollectionNode):
            spans.append((node.start_mark.index, node.start_mark.index + len(self.raw(node))))
            return
        mapping = isinstance(node, yaml.MappingNode)
        pairs = node.value if mapping else [(None, value) for value in node.value]
        items = [_Item(value, key, parent) for key, value in pairs]
        self.items[id(node)] = items
        for item in items:
            order.append(item)
            if item.key is not None:
                self._gather(item.key, order, spans)
            self._gather(item.node, order, spans, item)

    def _attach(self, order: list[_Item], spans: list[tuple[int, int]]) -> None:
        """Give every comment and blank line to the item that it stands beside, before, or at the end of."""
        starts = [a for a, _ in spans]
        waiting: list[tuple[str, int]] = []
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
                self.found.append((start + column, start + len(line)))
            if column >= 0 and line[:column].strip():
                owner = at - 1
                while owner > 0 and order[owner].start.index >= start + column:
                    owner -= 1
                self._whole(order[owner], start + column).beside.append(line[column:])
            elif column >= 0 or (not line.strip() and not _within(start, starts, spans)):
                waiting.append((line[column:] if column >= 0 else "", column))
        self._settle(waiting, order, len(order))

    def _whole(self, item: _Item, index: int) -> _Item:
        """The outermost item around `item` whose braces are closed before the character at `index`."""
        while (outer := item.parent) is not None and outer.node.flow_style and outer.node.end_mark.index <= index:
            item = outer
        return item

    def _settle(self, waiting: list[tuple[str, int]], order: list[_Item], at: int) -> None:
        """Lines between items: what is indented more than the next one belongs to the end of one before."""
        following = order[at].column if at < len(order) else 0
        n = 0
        while n < len(waiting) and at and waiting[n][1] > following:
            text, column = waiting[n]
            owner = next((item for item in reversed(order[:at]) if item.column <= column), order[at - 1])
            owner.after.append(text if owner.column >= column else "  " + text)
            n += 1
        rest = [text for text, _ in waiting[n:]]
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

    def block(self, node: yaml.CollectionNode, indent: int) -> list[str]:
        """The lines of a collection, one item after the other."""
        pad = " " * indent
        out: list[str] = []
        for item in self.items[id(node)]:
            out += [pad + line for line in item.before]
            if item.key is not None:
                out += self.fitting(f"{pad}{self.one_line(item.key)}:", item, indent)
            elif self.is_block(item, indent + 2):
                inner = self.block(item.node, indent + 2)
                head = next(i for i, line in enumerate(inner) if line.strip() and not line.lstrip().startswith("#"))
                out += [line[2:] for line in inner[:head]] + [pad + line for line in item.beside]
                out += [f"{pad}- {inner[head].lstrip()}", *inner[head + 1 :]]
            else:
                out += self.fitting(f"{pad}-", item, indent)
            out += [pad + line for line in item.after]
        return out

    def fitting(self, lead: str, item: _Item, indent: int) -> list[str]:
        """The lines of ``key: value`` or ``- value``, with its comment before it where there is no room beside it."""
        lines = self.value(lead, item, indent)
        if len(lines[-1]) > WIDTH and item.beside:
            before, item.beside = [" " * indent + comment for comment in item.beside], []
            return before + self.value(lead, item, indent)
        return lines

    def is_block(self, item: _Item, column: int) -> bool:
        """Whether an item's value is written as a block, for it was one or does not fit on a line from `column` on."""
        node = item.node
        if not isinstance(node, yaml.CollectionNode) or not node.value:
            return False
        if not node.flow_style or self.commented(node) or self.breaks(node):
            return True
        if column + len(self.one_line(node)) + sum(2 + len(comment) for comment in item.beside) <= WIDTH:
            return False
        return isinstance(node, yaml.MappingNode) or any(isinstance(v, yaml.CollectionNode) for v in node.value)

    def commented(self, node: yaml.Node) -> bool:
        """Whether there are comments within a collection."""
        items = self.items.get(id(node), [])
        return any(any(i.before) or i.beside or i.after or self.commented(i.node) for i in items)

    def breaks(self, node: yaml.Node) -> bool:
        """Whether a text within has line breaks of its own."""
        if isinstance(node, yaml.CollectionNode):
            return any(self.breaks(item.key or item.node) or self.breaks(item.node) for item in self.items[id(node)])
        rows = self.raw(node).split("\n")
        return len(rows) > 1 and (not all(row.strip() for row in rows) or any(row.endswith("\\") for row in rows))

    def value(self, lead: str, item: _Item, indent: int) -> list[str]:
        """The lines of a value and of `lead`, which is what stands before it."""
        node, beside = item.node, "".join(f"  {c}" for c in item.beside)
        if isinstance(node, yaml.CollectionNode):
            if self.is_block(item, len(lead) + 1):
                return [lead + beside, *self.block(node, indent + 2)]
            return _wrapped(lead, self.one_line(node), beside, indent + 2, ", ")
        raw = self.raw(node)
        if node.style in ("|", ">"):
            return [lead + " " + raw.split("\n")[0].strip() + beside, *_indented(raw, node.style, indent + 2)]
        if not raw:
            return [lead + beside]
        if self.breaks(node):
            rows, pad = [row.strip() for row in raw.split("\n")], " " * (indent + 2)
            return [f"{lead} {rows[0]}", *(row and pad + row for row in rows[1:-1]), pad + rows[-1] + beside]
        return _wrapped(lead, self.one_line(node), beside, indent + 2, " ")

    def one_line(self, node: yaml.Node) -> str:
        """A node on one line, as it stands in braces."""
        if isinstance(node, yaml.MappingNode):
            pairs = [f"{self.one_line(k)}: {self.one_line(v) or 'null'}" for k, v in node.value]
            return "{" + ", ".join(pairs) + "}"
        if isinstance(node, yaml.SequenceNode):
            return "[" + ", ".join(map(self.one_line, node.value)) + "]"
        return " ".join(row.strip() for row in self.raw(node).split("\n"))


#: Where a text may be continued on the next line, which a reader takes for one space.
_GAP = re.compile(r"(?<=[^\s\\]) (?=[^\s#])")
_HASH = re.compile(r"(?:^|(?<=\s))#")


def _within(index: int, starts: list[int], spans: list[tuple[int, int]]) -> bool:
    """Whether the character at `index` is part of a scalar."""
    i = bisect_right(starts, index) - 1
    return i >= 0 and index < spans[i][1]


def _wrapped(lead: str, text: str, beside: str, indent: int, gap: str) -> list[str]:
    """`text` after `lead`, continued where it is too long on lines that start at `indent`."""
    if len(lead) + 1 + len(text) + len(beside) <= WIDTH:
        return [f"{lead} {text}{beside}"]
    words = _GAP.split(text) if gap == " " else re.split(r"(?<=,) ", text)
    lines, line = [], f"{lead} {words[0]}"
    for word in words[1:]:
        if len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = " " * indent + word
        else:
            line += " " + word
    return [*lines, line + beside]


def _indented(raw: str, style: str, indent: int) -> list[str]:
    """The lines of a block scalar below its first one, moved to `indent`; of a folded one, no longer than may be."""
    rows = raw.split("\n")[1:]
    least = min((len(row) - len(row.lstrip(" ")) for row in rows if row.strip()), default=0)
    rows = [row[least:] for row in rows]
    if style == ">" and any(len(row) + indent > WIDTH for row in rows) and not any(r.startswith(" ") for r in rows):
        folded: list[str] = []
        for paragraph in "\n".join(rows).split("\n\n"):
            text = " ".join(paragraph.split("\n"))
            lines = _wrapped(" " * (indent - 1), text, "", indent, " ") if text else []
            folded += ["", *(line.strip() for line in lines)]
        rows = folded[1:]
    return [row and " " * indent + row for row in rows]
