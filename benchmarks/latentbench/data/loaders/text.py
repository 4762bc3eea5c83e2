"""Text: words and characters as numbers, with the vocabulary as a split of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk, Ragged
from latentbench.declare import loader

Files = Mapping[str, Path]
END = "<eos>"


def _numbered(lines: Iterable[list[str]], number: dict[str, int]) -> Ragged:
    """Rows of word numbers; new words get the next number."""
    return Ragged.of(
        [np.array([number.setdefault(w, len(number)) for w in line], np.int32) for line in lines], np.int32
    )


@loader("lines")
def load_lines(files: Files, end: bool, members: Mapping[str, str] | None = None) -> Iterator[Chunk]:
    """A row a line: numbers of its words (split at blanks), closed by ``<eos>`` where `end` is set.

    Words are numbered in the order they first appear, over the splits in the order given. File ``<split>.*`` or
    ``<set>.<split>.*`` is split ``<split>``, else ``all``; with `members` (split -> name in the archive) there is one
    archive instead. Split vocabulary holds the words.
    """
    number: dict[str, int] = {}
    for split, text in (_texts if members is None else _archived)(files, members or {}):
        lines = [line.split() + ([END] if end else []) for line in text.splitlines()]
        yield Chunk(split, {"x": _numbered(lines, number)})
    yield Chunk("vocabulary", {"text": Ragged.of_text(number)})


def _texts(files: Files, _members: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, path in files.items():
        split = next((part for part in name.split(".") if part in ("train", "valid", "test")), "all")
        yield split, archive.text(path)


def _archived(files: Files, members: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    path = next(iter(files.values()))
    wanted = set(members.values())
    found = {
        name.removeprefix("./"): raw
        for name, raw in archive.members(path, wanted=lambda n: n.removeprefix("./") in wanted)
    }
    for split, name in members.items():
        if name not in found:
            raise UserError(f"the archive has no {name}", where=path)
        yield split, found[name].decode()


@loader("characters")
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
