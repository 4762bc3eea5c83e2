"""Tables of Weka's ARFF form with several labels or targets: the collections of Mulan (Tsoumakas et al., JMLR 2011)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk, Ragged
from latentbench.declare import loader

Files = Mapping[str, Path]


@loader("arff")
def load_arff(files: Files, splits: Mapping[str, str], *, targets: int, dtype: str = "float64") -> Iterator[Chunk]:
    """A row a line: x (N, D) float64, y (N, targets) of the last columns. Split attributes: names, x's before y's.

    A value of a nominal attribute is the number that it is, else its place among the declared ones; NaN where missing.

    Args:
        splits: file -> split.
        targets: how many columns, counted from the last, are labels or targets.
        dtype: of y.

    Raises:
        UserError: not a dense ARFF table, files of different attributes, or a y that is no `dtype`.
    """
    first: list[str] | None = None
    for file, split in splits.items():
        path = files[file]
        names, values = _table(path)
        if not 0 < targets < len(names) or first not in (None, names):
            raise UserError(f"{len(names)} attributes, which are not those of the other file or too few", where=path)
        first = names
        y = values[:, -targets:]
        if dtype != "float64" and not (np.isfinite(y).all() and (y == y.astype(dtype)).all()):
            raise UserError(f"targets that are no {dtype}", where=path)
        yield Chunk(
            split, {"x": np.ascontiguousarray(values[:, :-targets]), "y": np.ascontiguousarray(y.astype(dtype))}
        )
    yield Chunk("attributes", {"name": Ragged.of_text(first or [])})


def _table(path: Path) -> tuple[list[str], np.ndarray]:
    """Names of the attributes, and values (N, attributes) float64."""
    from scipy.io import arff

    try:
        rows, meta = arff.loadarff(io.StringIO(archive.text(path)))
        columns = [_numbers(rows[name], *meta[name]) for name in meta.names()]
    except (arff.ParseArffError, ValueError, LookupError, NotImplementedError, StopIteration) as e:
        raise UserError(f"not a dense ARFF table: {e}", where=path) from e
    if not len(rows):
        raise UserError("no rows", where=path)
    return [name.strip("'\"").replace("\\'", "'") for name in meta.names()], np.column_stack(columns)


def _numbers(column: np.ndarray, kind: str, declared: Any) -> np.ndarray:
    """One attribute as float64."""
    if kind == "numeric":
        return column.astype(np.float64)
    try:
        number = {value: float(value) for value in declared}
    except ValueError:
        number = {value: float(place) for place, value in enumerate(declared)}
    number["?"] = np.nan
    return np.array([number[value.decode()] for value in column])
