"""Sequences: piano-rolls, motion capture, spoken digits."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk, Ragged
from latentbench.data.loaders.common import bits, matlab, npy, npz
from latentbench.declare import loader

Files = Mapping[str, Path]


@loader("music")
def load_music(files: Files) -> Iterator[Chunk]:
    """Polyphonic music (Boulanger-Lewandowski et al. 2012): a row a piece, x (frames, 88) of 0 and 1."""
    path = next(iter(files.values()))
    content = matlab(path, "traindata", "validdata", "testdata")
    for split in ("train", "valid", "test"):
        pieces = [bits(np.asarray(piece), path) for piece in content[f"{split}data"].reshape(-1)]
        yield Chunk(split, {"x": Ragged.of(pieces, np.uint8, (88,))})


@loader("mocap")
def load_mocap(files: Files) -> Iterator[Chunk]:
    """CMU motion capture, subject 35: x (300, 50) float64 a sequence."""
    content = matlab(files["mocap35.mat"], "Xtr", "Xval", "Xtest")
    for split, name in (("train", "Xtr"), ("valid", "Xval"), ("test", "Xtest")):
        yield Chunk(split, {"x": np.ascontiguousarray(content[name], dtype=np.float64)})


@loader("spoken-digits")
def load_spoken_digits(files: Files) -> Iterator[Chunk]:
    """Free Spoken Digit Dataset: a row a recording, x (samples,) int16 at 8 kHz; recordings 0 .. 4 are the test set.

    From numpy files, or from an archive of the repository with ``recordings/<digit>_<speaker>_<take>.wav``.
    """
    if "fsdd_index.npz" in files:
        index = npz(files["fsdd_index.npz"])
        whole = Ragged(npy(files["fsdd_samples.npy.xz"]), index["offsets"].astype(np.int64))
        labels = {"y": index["digit"], "speaker": index["speaker"], "take": index["index"]}
    else:
        whole, labels = _recordings(next(iter(files.values())))
    for split, chosen in (("train", labels["take"] > 4), ("test", labels["take"] <= 4)):
        rows = np.flatnonzero(chosen)
        yield Chunk(split, {"x": whole[rows], **{name: v[rows].astype(np.int64) for name, v in labels.items()}})


def _recordings(path: Path) -> tuple[Ragged, dict[str, np.ndarray]]:
    """All recordings, sorted by file name, and digit, speaker (numbered by name) and take of each."""
    found = {
        name.rsplit("/", 1)[1]: raw for name, raw in archive.members(path, wanted=lambda name: name.endswith(".wav"))
    }
    names = sorted(found)
    parts = [name.removesuffix(".wav").split("_") for name in names]
    speakers = sorted({p[1] for p in parts})
    sounds = []
    for name in names:
        with wave.open(io.BytesIO(found[name])) as sound:
            if (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) != (1, 2, 8000):
                raise UserError(f"{name} is not mono, 16 bit, 8 kHz", where=path)
            sounds.append(np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.int16))
    labels = {
        "y": np.array([int(p[0]) for p in parts]),
        "speaker": np.array([speakers.index(p[1]) for p in parts]),
        "take": np.array([int(p[2]) for p in parts]),
    }
    return Ragged.of(sounds, np.int16), labels
