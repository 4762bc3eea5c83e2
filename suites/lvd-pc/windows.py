"""Text in windows of equal length, for models of vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from latentbench.data.columns import Chunk
from latentbench.data.loaders.text import load_characters
from latentbench.declare import loader


@loader("character-windows")
def load_character_windows(files: Mapping[str, Path], length: int) -> Iterator[Chunk]:
    """A row a window of `length` characters, side by side; characters after the last whole window are left out."""
    for chunk in load_characters(files):
        if chunk.split != "all":
            yield chunk
            continue
        x = np.asarray(chunk.columns["x"])
        rows = len(x) // length
        yield Chunk("all", {"x": x[: rows * length].reshape(rows, length)})
