"""Sentences of limited length over a limited vocabulary, padded to rows of equal length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from latentbench.data.columns import Chunk, Ragged
from latentbench.data.loaders.text import END, _archived, _texts
from latentbench.declare import loader

UNKNOWN = "<unk>"


@loader("sentences")
def load_sentences(
    files: Mapping[str, Path], length: int, words: int, members: Mapping[str, str] | None = None
) -> Iterator[Chunk]:
    """A row a line of at most `length` - 1 words, longer and empty ones left out: numbers of its words, then
    ``<eos>`` (number 0) up to the end of the row.

    The vocabulary is ``<eos>``, ``<unk>`` (number 1) and the `words` - 2 most frequent words of the split train, most
    frequent first, equally frequent ones in the order of the alphabet; all others are ``<unk>``. Files as for
    `text.load_lines`.
    """
    lines = {
        split: [line.split() for line in text.splitlines()]
        for split, text in (_texts if members is None else _archived)(files, members or {})
    }
    counts = Counter(word for line in lines["train"] for word in line if word not in (END, UNKNOWN))
    known = [END, UNKNOWN, *sorted(counts, key=lambda word: (-counts[word], word))[: words - 2]]
    number = {word: i for i, word in enumerate(known)}
    for split, rows in lines.items():
        kept = [row for row in rows if 0 < len(row) < length]
        x = np.zeros((len(kept), length), np.int32)
        for i, row in enumerate(kept):
            x[i, : len(row)] = [number.get(word, 1) for word in row]
        yield Chunk(split, {"x": x})
    yield Chunk("vocabulary", {"text": Ragged.of_text(known)})
