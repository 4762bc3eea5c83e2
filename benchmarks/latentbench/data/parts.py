"""What models are told of a dataset's parts: shape, support and role of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from latentbench.core.types import DataInfo, Part, Role, Support
from latentbench.data.columns import AnyColumn, Ragged
from latentbench.data.registry import Column, Entry

#: Roles of columns that say none, by name.
_BY_NAME: dict[str, Role] = {
    "y": "label", "label": "label", "factors": "factors", "edges": "edges", "edge": "edges", "mask": "mask",
    "observed": "mask", "time": "time", "times": "time", "action": "action", "actions": "action", "weight": "weight",
}  # fmt: skip


def role_of(name: str, column: Column) -> Role:
    """What a column is for: as it says, or by its name."""
    return column.role or _BY_NAME.get(name, "other")


def parts_of(
    entry: Entry, split: str, info: DataInfo, role: str = "train", longest: int | None = None
) -> dict[str, Part]:
    """The parts that come with rows of `split`.

    Args:
        entry: the dataset.
        split: the table that the rows are of.
        info: shape and support of the main part after preprocessing.
        role: what the rows are for: train, valid or test; empty where they are no whole table.
        longest: most items of a row, where the main part is ragged.
    """
    columns = entry.columns_of(split)
    main = columns[entry.main]
    parts = {"x": Part(info.shape, info.support, info.levels, "sample", main.ragged, longest)}
    entries = {column.entries for column in columns.values()}
    for name, column in columns.items():
        if name != entry.main and name not in entries:
            parts[name] = _part(column, role_of(name, column))
    for name, whole in entry.parts.items():
        if role in whole.splits:
            table, named = whole.column.split(".")
            parts[name] = _part(entry.columns_of(table)[named], whole.role, whole=True)
    return parts


def _part(column: Column, role: Role, *, whole: bool = False) -> Part:
    support: Support = "real" if column.levels is None else "binary" if column.levels == 2 else "discrete"
    if column.levels is None and column.dtype.startswith(("int", "uint")):
        support = "discrete"  # of an unknown number of levels, as row numbers are
    if column.sparse is not None:
        return Part((column.sparse,), "real", None, role, sparse=True)
    return Part(column.shape, support, column.levels, role, column.ragged and not whole, None, whole)


def whole_columns(entry: Entry, table: Callable[[str], Mapping[str, AnyColumn]], role: str) -> dict[str, AnyColumn]:
    """The columns of the parts that belong to the whole problem and come with rows for `role`.

    Args:
        table: gives the columns of a table of the dataset.
    """
    found: dict[str, AnyColumn] = {}
    for name, part in entry.parts.items():
        if role in part.splits:
            name_of_table, column = part.column.split(".")
            values = table(name_of_table)[column]
            found[name] = values if part.row is None else values[part.row]
    return found


def revealed(entry: Entry, columns: Mapping[str, AnyColumn], whole: Mapping[str, AnyColumn]) -> Mapping[str, AnyColumn]:
    """`columns` with -1 where a part of the whole problem reveals the values of other rows alone."""
    out = dict(columns)
    for name, rows in whole.items():
        if (column := entry.parts[name].reveals) is not None:
            shown = np.full_like(np.asarray(out[column]), -1)
            numbers = np.asarray(rows)
            shown[numbers] = np.asarray(out[column])[numbers]
            out[column] = shown
    return out


def edges_of(entry: Entry, split: str) -> str | None:
    """The column with the edges of each row, where rows are graphs."""
    columns = entry.columns_of(split)
    return next((n for n, c in columns.items() if c.ragged and role_of(n, c) == "edges"), None)


def sparse_of(entry: Entry, split: str) -> dict[str, tuple[int, str | None]]:
    """Columns of a table that are rows of a sparse matrix: name -> its width, and the column of the entries, if any."""
    columns = entry.columns_of(split)
    return {n: (c.sparse, c.entries) for n, c in columns.items() if c.sparse is not None}


def longest_of(columns: Mapping[str, AnyColumn]) -> int | None:
    """Most items of a row over the main columns of all splits; None where they are not ragged."""
    lengths = [int(c.lengths.max()) for c in columns.values() if isinstance(c, Ragged) and len(c)]
    return max(lengths) if lengths else None


def table_of(entry: Entry, expression: str) -> str:
    """The table that the rows of a split expression are of, the first where they are of several."""
    name = re.split(r"[\[+@]", expression, maxsplit=1)[0].strip()
    return name if name in entry.splits else next(iter(entry.splits))


def items_of(column: Column) -> Column:
    """The column that preprocessing sees: of ragged rows, their items."""
    return column.model_copy(update={"ragged": False}) if column.ragged else column
