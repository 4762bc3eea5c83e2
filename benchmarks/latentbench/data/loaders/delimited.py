"""Tables of text with classes, targets and words among their columns: letters, digits by pen, census, house prices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk, Ragged
from latentbench.declare import loader

Files = Mapping[str, Path]


@loader("delimited")
def load_delimited(
    files: Files,
    splits: Mapping[str, str],
    *,
    delimiter: str = ",",
    skip: int = 0,
    label: int | None = None,
    target: Sequence[int] = (),
    drop: Sequence[int] = (),
    complete: bool = False,
    missing: str = "?",
    dtype: str = "float64",
    shape: Sequence[int] = (),
) -> Iterator[Chunk]:
    """A row a line: x of its numbers, y of its class or of its targets.

    A column with words is numbered in the order of its sorted words, over all files.

    Args:
        splits: file -> split; a split may be several files, one after the other.
        skip: lines of a header.
        label: the column of the class, counted from the end where it is negative.
        target: columns of what is to be predicted, (N, targets) float64.
        drop: columns that are left out.
        complete: leave out columns in which anything is `missing`.
        dtype: of x.
        shape: of a row of x, if it is more than a vector.
    """
    rows: dict[str, list[list[str]]] = {}
    for name, split in splits.items():
        path = files[name]
        lines = [line for line in archive.text(path).splitlines()[skip:] if line.strip() and line[0] != "|"]
        found = [[cell.strip() for cell in line.split(delimiter)] for line in lines]
        if not found or len({len(row) for row in found}) != 1:
            raise UserError("no lines, or lines of different lengths", where=path)
        rows.setdefault(split, []).extend(found)
    width = len(next(iter(rows.values()))[0])
    own = {i % width for i in (*drop, *target, *(() if label is None else (label,)))}
    columns = [np.array([row[i] for part in rows.values() for row in part]) for i in range(width)]
    kept = [i for i in range(width) if i not in own and not (complete and (columns[i] == missing).any())]
    x = np.column_stack([_numbers(columns[i]) for i in kept])
    if dtype != "float64" and not (x == x.astype(dtype)).all():
        raise UserError(f"values that are no {dtype}", where=next(iter(files.values())))
    y = _classes(columns[label]) if label is not None else None
    if target:
        y = np.column_stack([columns[i].astype(np.float64) for i in target])
    start = 0
    for split, part in rows.items():
        here = slice(start, start + len(part))
        start += len(part)
        made = {"x": np.ascontiguousarray(x[here].astype(dtype).reshape(len(part), *(shape or (x.shape[1],))))}
        yield Chunk(split, made if y is None else {**made, "y": np.ascontiguousarray(y[here])})


def _numbers(column: np.ndarray) -> np.ndarray:
    try:
        return column.astype(np.float64)
    except ValueError:
        return np.unique(column, return_inverse=True)[1].astype(np.float64)


def _classes(column: np.ndarray) -> np.ndarray:
    """Classes from 0 in the order of their sorted names, of which a full stop at the end is no part."""
    names = np.array([name.removesuffix(".") for name in column])
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


@loader("labelled-lines")
def load_labelled_lines(files: Files, splits: Mapping[str, str], encoding: str = "latin-1") -> Iterator[Chunk]:
    """Lines ``COARSE:fine words …``: x numbers of the words, y of the coarse class, fine of ``COARSE:fine``.

    Words are numbered in the order they first appear, classes in the order of their sorted names, over all files.
    """
    lines = {split: [line.split() for line in archive.text(files[name], encoding).splitlines() if line.strip()]
             for name, split in splits.items()}  # fmt: skip
    number: dict[str, int] = {}
    labels = np.array([line[0] for part in lines.values() for line in part])
    coarse = _classes(np.array([label.partition(":")[0] for label in labels]))
    fine, start = _classes(labels), 0
    for split, part in lines.items():
        words = [np.array([number.setdefault(w, len(number)) for w in line[1:]], np.int32) for line in part]
        here = slice(start, start + len(part))
        start += len(part)
        yield Chunk(split, {"x": Ragged.of(words, np.int32), "y": coarse[here], "fine": fine[here]})
    yield Chunk("vocabulary", {"text": Ragged.of_text(number)})
