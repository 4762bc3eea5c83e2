"""What a dataset holds: counts, ranges, duplicates, overlap between splits, and a contact sheet of its images."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data.columns import AnyColumn, Indexed, Ragged
from latentbench.data.dataset import Dataset
from latentbench.data.progress import Progress, silent
from latentbench.data.registry import Column, Entry
from latentbench.data.splits import sample_rows

SAMPLED = 20_000
_CHUNK = 4096


@dataclass(frozen=True)
class ColumnFacts:
    """What the values of a column are.

    Attributes:
        shape, dtype: of one row (of one item, where ragged).
        low, high, mean: over all values; None where there are none.
        lengths: shortest and longest row, where ragged.
    """

    shape: tuple[int, ...]
    dtype: str
    low: float | None
    high: float | None
    mean: float | None
    lengths: tuple[int, int] | None = None


@dataclass(frozen=True)
class SplitFacts:
    """What a split holds.

    Attributes:
        rows: number of rows.
        examined: number of rows that the other facts are of: fewer than `rows` for data rendered on access.
        columns: facts of each column.
        duplicates: rows whose main column equals that of an earlier row; None where that says nothing (single numbers).
    """

    rows: int
    examined: int
    columns: dict[str, ColumnFacts]
    duplicates: int | None


@dataclass(frozen=True)
class Description:
    """All there is to say of a dataset.

    Attributes:
        entry: its registry entry.
        content_hash: of its data.
        splits: name -> facts.
        overlap: (a, b) -> number of rows of b whose main column equals that of a row of a.
        sheet: the contact sheet written, if any.
    """

    entry: Entry
    content_hash: str
    splits: dict[str, SplitFacts]
    overlap: dict[tuple[str, str], int] = field(default_factory=dict)
    sheet: Path | None = None


def describe(dataset: Dataset, sheet: Path | None = None, progress: Progress = silent) -> Description:
    """Look at all of `dataset` (at a sample of `SAMPLED` rows of what is rendered on access).

    Args:
        sheet: where to write a contact sheet as PNG; nothing is written for data that are not images.
    """
    facts: dict[str, SplitFacts] = {}
    marks: dict[str, list[bytes]] = {}
    for name in dataset.entry.splits:
        progress(f"{dataset.name}: looking at {name}")
        columns = dataset.split(name)
        main = "x" if "x" in columns else next(iter(columns))
        declared = dataset.entry.columns_of(name)
        comparable = declared[main].ragged or declared[main].size > 1
        if comparable:
            marks[name] = [_mark(piece[k]) for piece in _chunks(columns[main]) for k in range(len(piece))]
        facts[name] = SplitFacts(
            rows=len(columns[main]),
            examined=min(len(columns[main]), SAMPLED) if isinstance(columns[main], Indexed) else len(columns[main]),
            columns={n: _facts(c, declared[n]) for n, c in columns.items()},
            duplicates=len(marks[name]) - len(set(marks[name])) if comparable else None,
        )
    overlap = {}
    for a, b in permutations(marks, 2):
        if dataset.entry.columns_of(a) == dataset.entry.columns_of(b):
            known = set(marks[a])
            overlap[a, b] = sum(mark in known for mark in marks[b])
    written = contact_sheet(dataset, sheet) if sheet is not None and has_images(dataset) else None
    return Description(dataset.entry, dataset.content_hash, facts, overlap, written)


def _mark(row: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=12).digest()


def _chunks(column: AnyColumn) -> Iterator[AnyColumn]:
    """The column in pieces; of rendered columns a sample of rows."""
    if isinstance(column, Indexed):
        rows = sample_rows(len(column), SAMPLED)
        for start in range(0, len(rows), _CHUNK):
            yield column[rows[start : start + _CHUNK]]
        return
    for start in range(0, len(column), _CHUNK):
        yield column[start : start + _CHUNK]


def _facts(column: AnyColumn, declared: Column) -> ColumnFacts:
    low, high, total, count = math.inf, -math.inf, 0.0, 0
    for piece in _chunks(column):
        values = piece.values if isinstance(piece, Ragged) else np.asarray(piece)
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            total += float(values.sum(dtype=np.float64))
            count += values.size
    lengths = None
    if isinstance(column, Ragged) and len(column):
        lengths = (int(column.lengths.min()), int(column.lengths.max()))
    if count == 0:
        return ColumnFacts(declared.shape, declared.dtype, None, None, None, lengths)
    return ColumnFacts(declared.shape, declared.dtype, low, high, total / count, lengths)


def has_images(dataset: Dataset) -> bool:
    """Whether the column x of the first split holds images."""
    column = dataset.entry.columns_of(next(iter(dataset.entry.splits))).get("x")
    return dataset.entry.modality == "image" and column is not None and len(column.shape) in (2, 3)


def contact_sheet(dataset: Dataset, path: Path, across: int = 16, down: int = 8) -> Path:
    """Write `across` x `down` images of the first split as a PNG with one grey pixel between them.

    Raises:
        UserError: not images, or `path` cannot be written.
    """
    from PIL import Image

    if not has_images(dataset):
        raise UserError(f"{dataset.name} does not hold images")
    x = dataset.split(next(iter(dataset.entry.splits)))["x"]
    rows = sample_rows(len(x), across * down)
    levels = dataset.column("x").levels
    pixels = np.asarray(x[rows], np.float64)
    pixels = np.rint(pixels * 255 / (levels - 1 if levels else max(1.0, pixels.max()))).clip(0, 255).astype(np.uint8)
    if pixels.ndim == 4 and pixels.shape[3] != 3:
        pixels = pixels[..., 0]  # one of a stereo pair
    height, width = pixels.shape[1:3]
    sheet = np.full((down * (height + 1) - 1, across * (width + 1) - 1, *pixels.shape[3:]), 128, np.uint8)
    for k, image in enumerate(pixels):
        top, left = k // across * (height + 1), k % across * (width + 1)
        sheet[top : top + height, left : left + width] = image
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet).save(path, format="PNG")
    except OSError as e:
        raise UserError(f"cannot write the contact sheet: {e.strerror or e}", where=path) from e
    return path
