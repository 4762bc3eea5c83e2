"""ARC-AGI-1 (Chollet 2019): coloured grids, a row a pair of input and output."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.core.errors import UserError
from benchmarks.data import archive
from benchmarks.data.columns import Chunk, Ragged


def load_arc(files: Mapping[str, Path]) -> Iterator[Chunk]:
    """Splits training and evaluation, a row a pair: cells row by row (colours 0 .. 9), heights and widths, the number
    of its task, and whether it is a test pair. Splits <split>_tasks hold the tasks' names."""
    path = next(iter(files.values()))
    try:
        content = json.loads(archive.read(path))
    except ValueError as e:
        raise UserError(f"not JSON: {e}", where=path) from e
    for split in ("training", "evaluation"):
        names = sorted(content[split])
        pairs = [
            (task, test, pair)
            for task, name in enumerate(names)
            for test, role in enumerate(("train", "test"))
            for pair in content[split][name][role]
        ]
        columns: dict[str, np.ndarray | Ragged] = {
            "task": np.array([task for task, _, _ in pairs], np.int64),
            "test": np.array([test for _, test, _ in pairs], np.uint8),
        }
        for side in ("input", "output"):
            grids = [np.array(pair[side], np.uint8) for _, _, pair in pairs]
            columns[side] = Ragged.of([g.reshape(-1) for g in grids], np.uint8)
            columns[f"{side}_shape"] = np.array([g.shape for g in grids], np.int64)
        yield Chunk(split, columns)
        yield Chunk(f"{split}_tasks", {"name": Ragged.of_text(names)})
