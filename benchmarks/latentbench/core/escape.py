"""Text from a file that somebody sends, made harmless for where it goes: Markdown, or a cell of a spreadsheet.

For the terminal see `latentbench.core.console.printable`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from latentbench.core.console import printable

#: Escaped in Markdown: what would end a table's cell, make a link, a picture, a formula, a span of code or emphasis.
#: An underscore within a word does nothing.
_MARKUP = re.compile(r"[\\|\[\]`*~$]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;"}
#: Bare addresses, mentions and numbers of issues become links by what they begin with; a space of no width after
#: it breaks that, which an escape does not: they are looked for in the text that is shown.
_LIVE = re.compile(r"(?i):(?=//)|\bwww(?=\.)|\b(?:mailto|xmpp|javascript|data)(?=:)|[@#](?=\w)|\bGH(?=-\d)")
_BREAK = "&#8203;"
#: What a spreadsheet takes for a formula at the start of a cell, full-width and small forms included.
_FORMULA = "=+@-\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212"
#: Where some programs divide cells, whatever the file does.
_SEPARATORS = ";,|\t\r\n"
#: What may stand between there and a formula without hiding it: spaces, marks that are not seen, quotation marks.
_BEFORE = re.compile(rf"[\s\u200b-\u200f\u2060\ufeff\ufffd\"{_SEPARATORS}]+")


def markdown(text: str) -> str:
    """`text` as one line of Markdown that shows it as it is: no HTML, no link, no end of a table's cell."""
    line = " ".join(printable(text).split())
    for char, entity in _ENTITIES.items():
        line = line.replace(char, entity)
    return _LIVE.sub(rf"\g<0>{_BREAK}", _MARKUP.sub(r"\\\g<0>", line))


def cell(text: str) -> str:
    """`text` as a cell of a CSV file: what a spreadsheet would compute, wherever it divides cells, follows an
    apostrophe."""
    plain = printable(text)

    def guarded(run: re.Match[str]) -> str:
        divided = max(run[0].rfind(c) for c in _SEPARATORS) + 1
        computed = plain[run.end() : run.end() + 1] in tuple(_FORMULA)
        return f"{run[0][:divided]}'{run[0][divided:]}" if divided and computed else run[0]

    found = _BEFORE.sub(guarded, plain)
    start = _BEFORE.match(plain)
    first = plain[start.end() if start else 0 :][:1]
    return f"'{found}" if first in tuple(_FORMULA) or plain.lstrip(" ").startswith(("\t", "\n")) else found


def to_json(value: Any, indent: int, *, plain: bool = False) -> str:
    """`value` as JSON, in which what could steer a terminal or turn the direction of text is written as ``\\u…``; if
    `plain`, all that is not ASCII."""
    text = json.dumps(value, indent=indent, ensure_ascii=plain, allow_nan=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
