"""Text from a file that somebody sends, made harmless for where it goes: Markdown, or a cell of a spreadsheet.

For the terminal see `latentbench.core.console.printable`.
"""

from __future__ import annotations

import re

from latentbench.core.console import printable

#: Escaped in Markdown: what would end a table's cell, make a link, a picture or a span of code.
_MARKUP = re.compile(r"[\\|\[\]`]")
_ENTITIES = {"&": "&amp;", "<": "&lt;"}
#: What a spreadsheet takes for a formula at the start of a cell, full-width forms included.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def markdown(text: str) -> str:
    """`text` as one line of Markdown that shows it as it is: no HTML, no link, no end of a table's cell."""
    line = " ".join(printable(text).split())
    for char, entity in _ENTITIES.items():
        line = line.replace(char, entity)
    return _MARKUP.sub(r"\\\g<0>", line)


def cell(text: str) -> str:
    """`text` as a cell of a CSV file: one that a spreadsheet would compute begins with an apostrophe."""
    plain = printable(text)
    return f"'{plain}" if plain.lstrip(" ").startswith(_FORMULA) else plain
