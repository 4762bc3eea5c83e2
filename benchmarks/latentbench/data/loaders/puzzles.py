"""ARC-AGI-1 (Chollet 2019): coloured grids, a row a pair of input and output."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk, Ragged
from latentbench.declare import loader


@loader("arc")
def load_arc(files: Mapping[str, Path]) -> Iterator[Chunk]:
    """Splits training and evaluation, a row a pair: cells row by row (colours 0 .. 9), heights and widths, the number
    of its task, and whether it is a test pair. Splits <split>_tasks hold the tasks' names."""
    content = _tasks(next(iter(files.values())))
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


def _tasks(path: Path) -> dict[str, dict[str, Any]]:
    """split -> task -> {train, test}: from one JSON file, or an archive of ``data/<split>/<task>.json``."""
    try:
        if path.suffix != ".zip":
            content: dict[str, dict[str, Any]] = json.loads(archive.read(path))
            return content
        content = {"training": {}, "evaluation": {}}
        for name, raw in archive.members(path, wanted=lambda name: name.endswith(".json")):
            parts = name.split("/")
            if len(parts) >= 3 and parts[-3] == "data" and parts[-2] in content:
                content[parts[-2]][parts[-1].removesuffix(".json")] = json.loads(raw)
        return content
    except ValueError as e:
        raise UserError(f"not JSON: {e}", where=path) from e
