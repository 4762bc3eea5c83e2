"""Open a prepared dataset: read-only numpy columns over memory-mapped Arrow, without importing `datasets` or torch."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from latentbench.core.errors import UserError
from latentbench.data.arrow import read_split
from latentbench.data.columns import AnyColumn, Indexed, Ragged, concatenate
from latentbench.data.manifest import prepared_dir
from latentbench.data.prepare import prepare
from latentbench.data.progress import Progress, to_stderr
from latentbench.data.registry import Column, Entry, call, load_entry
from latentbench.data.splits import Part, parse


class Dataset:
    """A dataset at hand.

    Attributes:
        name: as in the registry.
        entry: its registry entry.
        content_hash: hex sha256 of the data themselves (of the recipe, for data rendered on access).
    """

    def __init__(self, entry: Entry, manifest: dict[str, Any] | None) -> None:
        self.entry, self.name = entry, entry.name
        self.content_hash: str = entry.recipe if manifest is None else manifest["content_hash"]
        self._manifest = manifest
        self._open: dict[str, dict[str, AnyColumn]] = {}

    def split(self, expression: str) -> dict[str, AnyColumn]:
        """Columns of a split expression (``train``, ``train[:50000]``, ``train+valid``, ``all@folds.train.0``).

        Returns:
            Name -> rows: a read-only memory-mapped array (rows, *shape) of the stored dtype, a `Ragged` where rows
            differ in length, an `Indexed` where they are rendered on access. Sums and listed rows are copies.

        Raises:
            UserError: no such split, or damaged files.
        """
        parts = parse(expression, {name: split.rows for name, split in self.entry.splits.items()})
        pieces = [self._part(part) for part in parts]
        if len(pieces) == 1:
            return pieces[0]
        if any(set(p) != set(pieces[0]) for p in pieces):
            raise UserError(f"{self.name}: the parts of {expression!r} have different columns")
        return {name: concatenate([p[name] for p in pieces]) for name in pieces[0]}

    def _part(self, part: Part) -> dict[str, AnyColumn]:
        columns = self.table(part.name)
        if part.listed is not None:
            lists = self.table(part.listed.split).get(part.listed.column)
            if not isinstance(lists, Ragged):
                raise UserError(f"{self.name}: {part.listed.split} has no column {part.listed.column!r} of row numbers")
            rows = lists[part.listed.row]
            return {n: c[rows] for n, c in columns.items()}
        if part.rows == self.entry.splits[part.name].rows:
            return columns
        return {n: _slice(c, part.start, part.stop) for n, c in columns.items()}

    def protocol(self, name: str | None = None) -> dict[str, str]:
        """Role (train, valid, test …) -> split expression."""
        return self.entry.protocol(name)

    def column(self, name: str = "x", split: str | None = None) -> Column:
        """The declaration of a column: shape, dtype and levels before preprocessing."""
        columns = self.entry.columns_of(next(iter(self.entry.splits)) if split is None else split)
        if name not in columns:
            raise UserError(f"{self.name} has no column {name!r}", fix="it has " + ", ".join(columns))
        return columns[name]

    @cached_property
    def oracle(self) -> Any:
        """The exact density of generated data, with ``log_prob(x) -> (N,)`` nats and ``entropy``; None if unknown."""
        if self.entry.oracle is None:
            return None
        return call("oracle", self.entry.oracle, **self.entry.params)

    def table(self, split: str) -> dict[str, AnyColumn]:
        """All columns of all rows of a split."""
        if split not in self._open:
            if self._manifest is None:
                assert self.entry.generate is not None  # held by Entry's validator
                params = {**self.entry.params, **self.entry.splits[split].params}
                self._open[split] = call("generator", self.entry.generate, self.entry.splits[split].rows, **params)
            else:
                path = prepared_dir() / self.name / self._manifest["splits"][split]["file"]
                self._open[split] = read_split(path, self.entry.columns_of(split))
        return self._open[split]

    def __repr__(self) -> str:
        rows = ", ".join(f"{name} {split.rows}" for name, split in self.entry.splits.items())
        return f"<Dataset {self.name}: {rows}>"


def _slice(column: AnyColumn, start: int, stop: int) -> AnyColumn:
    if isinstance(column, Indexed):
        return column.restrict(range(start, stop))
    piece: AnyColumn = column[start:stop]
    return piece


def open_dataset(name: str, progress: Progress = to_stderr) -> Dataset:
    """The dataset `name`, prepared first if need be.

    Raises:
        UserError: unknown, or it cannot be obtained or prepared.
    """
    entry = load_entry(name)
    return Dataset(entry, None if entry.kind == "rendered" else prepare(entry, progress))
