"""YAML laid out one way: no line over 120 columns; comments, order and every value as they were.

What fits on a line stays in the author's own form, braces or block. A mapping in braces that is too long becomes a
block, a list in brackets and a text are continued on the next line. Scalars are copied from the source, never written
anew, so quotes and the spelling of numbers stay.
"""

from __future__ import annotations

import re

import yaml

from latentbench.core.yamlsource import Item, Source

WIDTH = 120


def formatted(text: str) -> str:
    """`text`, which must be a YAML document without aliases, laid out."""
    source = Source(text)
    if source.root is None:
        return text
    lines = [*_Layout(source).block(source.root, 0), *source.end]
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


class _Layout:
    """The lines of a document's parts."""

    def __init__(self, source: Source) -> None:
        self.items, self.raw = source.items, source.raw

    def block(self, node: yaml.Node, indent: int) -> list[str]:
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

    def fitting(self, lead: str, item: Item, indent: int) -> list[str]:
        """The lines of ``key: value`` or ``- value``, with its comment before it where there is no room beside it."""
        lines = self.value(lead, item, indent)
        if len(lines[-1]) > WIDTH and item.beside:
            before, item.beside = [" " * indent + comment for comment in item.beside], []
            return before + self.value(lead, item, indent)
        return lines

    def is_block(self, item: Item, column: int) -> bool:
        """Whether an item's value is written as a block, for it was one or does not fit on a line from `column` on."""
        node = item.node
        if not isinstance(node, yaml.CollectionNode) or not node.value:
            return False
        if not node.flow_style or self.commented(node) or self.breaks(node):
            return True
        if column + len(self.one_line(node)) + sum(2 + len(comment) for comment in item.beside) <= WIDTH:
            return False
        return isinstance(node, yaml.MappingNode) or any(
            isinstance(v, yaml.CollectionNode) or len(self.one_line(v)) > WIDTH // 2 for v in node.value
        )

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

    def value(self, lead: str, item: Item, indent: int) -> list[str]:
        """The lines of a value and of `lead`, which is what stands before it."""
        node, beside = item.node, "".join(f"  {c}" for c in item.beside)
        if isinstance(node, yaml.CollectionNode):
            if self.is_block(item, len(lead) + 1):
                return [lead + beside, *self.block(node, indent + 2)]
            words = [f"{self.one_line(v)}," for v in node.value] if isinstance(node, yaml.SequenceNode) else []
            words = [f"[{words[0]}", *words[1:-1], f"{words[-1][:-1]}]"] if len(words) > 1 else [self.one_line(node)]
            return _wrapped(lead, words, beside, indent + 2)
        raw = self.raw(node)
        if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
            return [lead + " " + raw.split("\n")[0].strip() + beside, *_indented(raw, node.style, indent + 2)]
        if not raw:
            return [lead + beside]
        if self.breaks(node):
            rows, pad = [row.strip() for row in raw.split("\n")], " " * (indent + 2)
            return [f"{lead} {rows[0]}", *(row and pad + row for row in rows[1:-1]), pad + rows[-1] + beside]
        return _wrapped(lead, _GAP.split(self.one_line(node)), beside, indent + 2)

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


def _wrapped(lead: str, words: list[str], beside: str, indent: int) -> list[str]:
    """`words` after `lead`, continued where they are too many on lines that start at `indent`."""
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
            lines = _wrapped(" " * (indent - 1), _GAP.split(text), "", indent) if text else []
            folded += ["", *(line.strip() for line in lines)]
        rows = folded[1:]
    return [row and " " * indent + row for row in rows]
