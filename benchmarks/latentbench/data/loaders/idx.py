"""IDX files (MNIST, Fashion-MNIST): big-endian magic, dimensions, unsigned bytes; gzipped or not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk
from latentbench.declare import loader


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file of unsigned bytes.

    Raises:
        UserError: truncated, or not such a file.
    """
    raw = archive.read(path)
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise UserError("not an IDX file of unsigned bytes", where=path)
    rank = raw[3]
    shape = tuple(int(n) for n in np.frombuffer(raw[: 4 + 4 * rank], dtype=">i4", offset=4))
    values = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * rank)
    if values.size != math.prod(shape):
        raise UserError(f"{values.size} bytes of data where shape {shape} needs {math.prod(shape)}", where=path)
    return values.reshape(shape)


@loader("idx")
def load(files: Mapping[str, Path]) -> Iterator[Chunk]:
    """Splits train and test from the four files of MNIST and its kin: x (N, 28, 28) uint8, y (N,) int64."""
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = read_idx(files[f"{prefix}-images-idx3-ubyte.gz"])
        labels = read_idx(files[f"{prefix}-labels-idx1-ubyte.gz"])
        yield Chunk(split, {"x": images, "y": labels.astype(np.int64)})
