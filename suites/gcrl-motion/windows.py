"""Pedestrians' tracks, cut into what is observed and what is to be forecast, one place held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from latentbench.data.columns import Chunk
from latentbench.data.loaders.common import table
from latentbench.declare import loader
from numpy import ndarray

SEEN, LENGTH = 8, 20  # frames that are observed, and of a window, 0.4 s apart


@loader("pedestrian-windows")
def load_windows(
    files: Mapping[str, Path], held_out: str, cuts: Mapping[str, tuple[str, int, float]], most: int
) -> Iterator[Chunk]:
    """Train has windows of the first rows of each file, valid of the others; test all of the held-out file, in time.

    Args:
        files, held_out: tables of frame, person, x and y in metres; one of them.
        cuts: of the others: place, number of rows for training, strength of the spurious feature.
        most: windows of a place in train and in valid, drawn once, so that none outweighs the others.
    """
    places = list(dict.fromkeys(place for place, _, _ in cuts.values()))
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        parts = []
        for name, (place, n, alpha) in cuts.items():
            tracks = table(files[name])
            parts.append(columns(*windows(tracks[:n] if split == "train" else tracks[n:]), places.index(place), alpha))
        whole = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        kept = [rng.permutation(np.flatnonzero(whole["y"] == place))[:most] for place in range(len(places))]
        order = rng.permutation(np.concatenate(kept))
        yield Chunk(split, {k: v[order] for k, v in whole.items()})
    yield Chunk("test", columns(*windows(table(files[held_out])), len(places), 1.0))


def windows(tracks: ndarray) -> tuple[ndarray, ndarray]:
    """Of rows (frame, person, x, y) all who are in 20 frames in turn, where they are two or more, (n, 20, 2).

    And the numbers (n,) of the first frames, among those with somebody in them.
    """
    time = np.unique(tracks[:, 0], return_inverse=True)[1]
    found: dict[int, list[ndarray]] = {}
    for person in np.unique(tracks[:, 1]):
        at, place = (part[tracks[:, 1] == person] for part in (time, tracks[:, 2:]))
        for i in range(len(at) - LENGTH + 1):
            if at[i + LENGTH - 1] - at[i] == LENGTH - 1:
                found.setdefault(int(at[i]), []).append(place[i : i + LENGTH])
    pairs = [(start, track) for start in sorted(found) for track in found[start] if len(found[start]) > 1]
    return np.array([track for _, track in pairs]).reshape(-1, LENGTH, 2), np.array([start for start, _ in pairs], int)


def columns(tracks: ndarray, starts: ndarray, place: int, alpha: float) -> dict[str, ndarray]:
    """Of windows (n, 20, 2): where people are, from the last observed position, and what the feature is made of.

    ``curvature`` (n, 8) is |d_(t + 8) - d_t|, where d_t is the displacement from frame t - 1, and 0 in the first.
    """
    moves, seen = np.diff(tracks, axis=1, prepend=tracks[:, :1]), tracks - tracks[:, SEEN - 1 : SEEN]
    curvature = np.linalg.norm(moves[:, SEEN : 2 * SEEN] - moves[:, :SEEN], axis=2)
    found = {"x": seen[:, :SEEN], "future": seen[:, SEEN:], "curvature": curvature, "alpha": np.full(len(seen), alpha)}
    whole = {"y": np.full(len(seen), place), "start": starts}
    return {k: v.astype(np.float32) for k, v in found.items()} | {k: v.astype(np.int64) for k, v in whole.items()}
