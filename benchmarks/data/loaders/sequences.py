"""Sequences: piano-rolls, motion capture, spoken digits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.data.columns import Chunk, Ragged
from benchmarks.data.loaders.common import bits, matlab, npy, npz

Files = Mapping[str, Path]


def load_music(files: Files) -> Iterator[Chunk]:
    """Polyphonic music (Boulanger-Lewandowski et al. 2012): a row a piece, x (frames, 88) of 0 and 1."""
    path = next(iter(files.values()))
    content = matlab(path, "traindata", "validdata", "testdata")
    for split in ("train", "valid", "test"):
        pieces = [bits(np.asarray(piece), path) for piece in content[f"{split}data"].reshape(-1)]
        yield Chunk(split, {"x": Ragged.of(pieces, np.uint8, (88,))})


def load_mocap(files: Files) -> Iterator[Chunk]:
    """CMU motion capture, subject 35: x (300, 50) float64 a sequence."""
    content = matlab(files["mocap35.mat"], "Xtr", "Xval", "Xtest")
    for split, name in (("train", "Xtr"), ("valid", "Xval"), ("test", "Xtest")):
        yield Chunk(split, {"x": np.ascontiguousarray(content[name], dtype=np.float64)})


def load_spoken_digits(files: Files) -> Iterator[Chunk]:
    """Free Spoken Digit Dataset: a row a recording, x (samples,) int16 at 8 kHz; recordings 0 .. 4 are the test set."""
    samples, index = npy(files["fsdd_samples.npy.xz"]), npz(files["fsdd_index.npz"])
    whole = Ragged(samples, index["offsets"].astype(np.int64))
    for split, chosen in (("train", index["index"] > 4), ("test", index["index"] <= 4)):
        rows = np.flatnonzero(chosen)
        yield Chunk(
            split,
            {
                "x": whole[rows],
                "y": index["digit"][rows].astype(np.int64),
                "speaker": index["speaker"][rows].astype(np.int64),
                "take": index["index"][rows].astype(np.int64),
            },
        )
