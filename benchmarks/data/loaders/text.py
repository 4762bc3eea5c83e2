"""Text: words and characters as numbers, with the vocabulary as a split of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.core.errors import UserError
from benchmarks.data import archive
from benchmarks.data.columns import Chunk, Ragged

Files = Mapping[str, Path]
END = "<eos>"


def _numbered(lines: Iterable[list[str]], number: dict[str, int]) -> Ragged:
    """Rows of word numbers; new words get the next number."""
    return Ragged.of(
        [np.array([number.setdefault(w, len(number)) for w in line], np.int32) for line in lines], np.int32
    )


def load_lines(files: Files, end: bool) -> Iterator[Chunk]:
    """A row a line: numbers of its words (split at blanks), closed by ``<eos>`` where `end` is set.

    Words are numbered in the order they first appear, over the files in the order given; file ``<split>.*`` or
    ``<set>.<split>.*`` is split ``<split>``. Split vocabulary holds the words.
    """
    number: dict[str, int] = {}
    for name, path in files.items():
        split = next((p for p in name.split(".") if p in ("train", "valid", "test")), "all")
        lines = [line.split() + ([END] if end else []) for line in archive.text(path).splitlines()]
        yield Chunk(split, {"x": _numbered(lines, number)})
    yield Chunk("vocabulary", {"text": Ragged.of_text(number)})


def load_characters(files: Files, alphabet: str | None = None) -> Iterator[Chunk]:
    """A row a character: x (N,) uint8, its number in the alphabet (sorted by code point where none is given)."""
    path = next(iter(files.values()))
    if path.suffix == ".zip":
        found = [raw for _, raw in archive.members(path)]
        if len(found) != 1:
            raise UserError(f"{len(found)} files in the archive where one is expected", where=path)
        text = found[0]
    else:
        text = archive.read(path)
    if max(text, default=0) > 127:
        raise UserError("characters beyond ASCII", where=path)
    codes = np.frombuffer(text, np.uint8)
    letters = np.unique(codes) if alphabet is None else np.frombuffer(alphabet.encode(), np.uint8)
    number = np.full(256, 255, np.uint8)
    number[letters] = np.arange(len(letters), dtype=np.uint8)
    x = number[codes]
    if (x == 255).any():
        raise UserError("characters outside the declared alphabet", where=path)
    yield Chunk("all", {"x": x})
    yield Chunk("vocabulary", {"text": Ragged.of_text(chr(c) for c in letters)})
