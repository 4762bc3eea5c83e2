"""Images of which few are labelled: those that are, repeated, beside all the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from latentbench.core.errors import UserError
from latentbench.data.columns import Chunk
from latentbench.data.loaders import idx
from latentbench.data.loaders.pooled import pool
from latentbench.declare import loader

#: Training rows; those after them are for validation.
TRAIN = 50_000


def first_of_each(y: np.ndarray, each: int) -> np.ndarray:
    """Row numbers of the first `each` rows of every label, by label."""
    found = [np.flatnonzero(y == label)[:each] for label in np.unique(y)]
    if any(len(rows) < each for rows in found):
        raise UserError(f"a label has fewer than {each} rows", where="params: each")
    return np.concatenate(found)


@loader("idx-partly-labelled")
def load_partly_labelled(files: Mapping[str, Path], each: int, by: int) -> Iterator[Chunk]:
    """As `idx`, images pooled by `by` (1: as they are), in three splits.

    train: 50,000 rows without a label (y = -1), then as many labelled ones: the first `each` of every digit among them,
    over and over. So half of a batch is labelled, and means over a batch weigh the few and the many alike (Jang et al.
    2017, eq. 11). valid: the 10,000 rows after them; test: the test images, each with its label.
    """
    for chunk in idx.load(files):
        x, y = pool(np.asarray(chunk.columns["x"]), by), np.asarray(chunk.columns["y"])
        if chunk.split == "test":
            yield Chunk("test", {"x": x, "y": y})
            continue
        rows = np.resize(first_of_each(y[:TRAIN], each), TRAIN)
        labels = np.concatenate([np.full(TRAIN, -1, dtype=np.int64), y[rows]])
        yield Chunk("train", {"x": np.concatenate([x[:TRAIN], x[rows]]), "y": labels})
        yield Chunk("valid", {"x": x[TRAIN:], "y": y[TRAIN:]})
