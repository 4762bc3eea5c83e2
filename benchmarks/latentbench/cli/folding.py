"""How a table fits a narrow terminal: words break at their own joints, and what names a row is cut last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from rich.text import Text

#: A word's pieces: each ends where a reader would break it.
_PIECE = re.compile(r"[^-/_,;:=|]+[-/_,;:=|]*|[-/_,;:=|]+")
#: Cells that the longest word of the first column, and the longest pieces of the others, may claim; less and less.
CLAIMS = ((24, 24), (24, 16), (24, 12), (16, 12), (16, 10), (12, 8), (12, 6))
#: Of these, the ones with which a table reads well.
GOOD = 2
#: Cells of frame and space that each column has.
FRAME = 2


def widths(columns: Sequence[str], rows: Sequence[Sequence[Text]], room: int) -> list[int]:
    """Widths that fill `room` cells: those above some width are cut to it, so that the widest columns fold first.

    A column keeps its longest piece whole where that can be had, and the first one, which says what a row is about,
    its longest word. rich comes to widths by measuring every cell, which takes half its time on hundreds of rows.
    """
    full = [_full(columns, rows, i) for i in range(len(columns))]
    left = room - FRAME * len(full) - 1
    return _fitting(columns, rows, full, left, CLAIMS) or [max(1, min(x, left // len(full))) for x in full]


def left_out(columns: Sequence[str], rows: Sequence[Sequence[Text]], room: int, minor: Sequence[str]) -> list[str]:
    """The first of the `minor` columns without which the others read well in `room` cells; as few as will do."""
    kept = list(columns)
    for n in range(len(minor) + 1):
        kept = [c for c in columns if c not in minor[:n]]
        places = [columns.index(c) for c in kept]
        part = [[row[i] for i in places] for row in rows]
        full = [_full(kept, part, i) for i in range(len(kept))]
        if _fitting(kept, part, full, room - FRAME * len(kept) - 1, CLAIMS[:GOOD]):
            break
    return [c for c in columns if c not in kept]


def _full(columns: Sequence[str], rows: Sequence[Sequence[Text]], i: int) -> int:
    return max([len(columns[i]), *(_longest(row[i]) for row in rows)])


def _fitting(
    columns: Sequence[str],
    rows: Sequence[Sequence[Text]],
    full: Sequence[int],
    left: int,
    allowed: Sequence[tuple[int, int]],
) -> list[int] | None:
    """Widths that come to `left` or less, with the most generous of the claims `allowed` that can be met."""
    texts = [[name, *(row[i].plain for row in rows)] for i, name in enumerate(columns)]
    words = [max((len(w) for text in column for w in text.split()), default=1) for column in texts]
    pieces = [max((len(p) for text in column for w in text.split() for p in _pieces(w)), default=1) for column in texts]
    for first, others in allowed:
        floors = [
            words[0] if i == 0 and words[0] <= first else min(piece, others if i else first)
            for i, piece in enumerate(pieces)
        ]
        for cut in range(max(full), 0, -1):
            found = [min(x, max(cut, floor)) for x, floor in zip(full, floors, strict=True)]
            if sum(found) <= left:
                return found
    return None


def folded(cell: Text, width: int) -> Text:
    """`cell` with a line break at the last joint before `width` in each word that is longer; styles stay."""
    places: list[int] = []
    for word in re.finditer(r"\S+", cell.plain):
        if len(word[0]) <= width:
            continue
        used = 0
        for piece in _PIECE.finditer(word[0]):
            if used and used + len(piece[0]) > width:
                places.append(word.start() + piece.start())
                used = 0
            used += len(piece[0])
    return Text("\n").join(cell.divide(places)) if places else cell


def _longest(cell: Text) -> int:
    return max((line.cell_len for line in cell.split()), default=0) if "\n" in cell.plain else cell.cell_len


@cache
def _pieces(word: str) -> tuple[str, ...]:
    return tuple(_PIECE.findall(word))
