"""The contract tests of a dataset: what its entry declares is what comes, each time the same."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from latentbench.contracts.finding import Finding, NotApplicable, attempts
from latentbench.core.errors import UserError
from latentbench.data.columns import Ragged
from latentbench.data.dataset import Dataset, open_dataset
from latentbench.data.prepare import prepare
from latentbench.data.registry import Entry, read_entry

#: Rows of each split that are looked at.
ROWS = 2000


def check_dataset(path: Path) -> Iterator[Finding]:
    """The findings on a registry entry (``data/registry/<name>.yaml``)."""
    try:
        entry = read_entry(path)
        dataset = open_dataset(entry.name)
    except UserError as e:
        yield Finding(path.stem, "it can be prepared", str(e))
        return
    yield Finding(entry.name, "it can be prepared")
    tests = _Tests(entry, dataset)
    yield from attempts(
        entry.name,
        {
            "each split has the declared rows and columns": tests.rows,
            "values are finite": tests.finite,
            "test rows are not among the training rows": tests.overlap,
            "its protocols name its splits": tests.protocols,
            "preparing it again gives the same content": tests.again,
            "its oracle is a density": tests.oracle,
        },
    )


class _Tests:
    def __init__(self, entry: Entry, dataset: Dataset) -> None:
        self._entry, self._dataset = entry, dataset

    def _rows(self, split: str) -> Any:
        return self._dataset.split(split)[self._entry.main][:ROWS]

    def rows(self) -> str | None:
        for name, split in self._entry.splits.items():
            columns = self._dataset.split(name)
            for key, declared in self._entry.columns_of(name).items():
                values = columns[key]
                if split.rows is not None and len(values) != split.rows:
                    return f"{name}.{key} has {len(values)} rows, declared are {split.rows}"
                shape = values.item_shape if isinstance(values, Ragged) else np.asarray(values[:1]).shape[1:]
                fixed = bool(declared.shape) and None not in declared.shape
                if fixed and shape != tuple(declared.shape):
                    return f"{name}.{key} is {shape}, declared is {tuple(declared.shape)}"
        return None

    def finite(self) -> str | None:
        for name in self._entry.splits:
            for key, declared in self._entry.columns_of(name).items():
                column = self._dataset.split(name)[key][:ROWS]
                values = np.asarray(getattr(column, "values", column))
                if values.dtype.kind == "f" and not (np.isfinite(values) | (declared.missing & np.isnan(values))).all():
                    return f"not in split {name}, column {key}"
        return None

    def overlap(self) -> str | None:
        splits = self._entry.splits
        if not {"train", "test"} <= set(splits):
            raise NotApplicable("it has no splits train and test")
        train, test = (self._contents(s) for s in ("train", "test"))
        there = set(train)
        shared = sum(row in there for row in set(test))
        own = len(train) - len(set(train))  # short sentences come more than once wherever one looks
        most = own + 5 * math.sqrt(own)
        return f"{shared} of the first {ROWS} test rows are training rows" if shared > most else None

    def _contents(self, split: str) -> list[bytes]:
        """Of each row its bytes; real ones with those of other real columns, as two rows may share a number."""
        rows = [np.asarray(row) for row in self._rows(split)]
        columns = self._dataset.split(split)
        real = bool(rows) and rows[0].dtype.kind == "f"
        beside = [columns[k][:ROWS] for k in columns if real and k != self._entry.main]
        beside = [c for c in beside if isinstance(c, np.ndarray) and c.dtype.kind == "f"]
        return [b"".join([row.tobytes(), *(c[i].tobytes() for c in beside)]) for i, row in enumerate(rows)]

    def protocols(self) -> str | None:
        for name in self._entry.protocols:
            for role, expression in self._entry.protocol(name).items():
                if not len(next(iter(self._dataset.split(expression).values()))):
                    return f"{name}: {role} is empty"
        return None

    def again(self) -> str | None:
        if self._entry.kind != "generated":
            raise NotApplicable("its files are verified by their hashes")
        found = prepare(self._entry, force=True)["content_hash"]
        return None if found == self._dataset.content_hash else "another content hash: it draws from elsewhere"

    def oracle(self) -> str | None:
        oracle = self._dataset.oracle
        if oracle is None or not hasattr(oracle, "log_prob"):
            raise NotApplicable("it has no density")
        log_prob = np.asarray(oracle.log_prob(self._rows("test" if "test" in self._entry.splits else "train")))
        if not np.isfinite(log_prob).all():
            return "log_prob of its own rows is not finite"
        entropy = getattr(oracle, "entropy", None)
        if entropy is None:
            return None
        value = float(entropy() if callable(entropy) else entropy)
        error = float(log_prob.std(ddof=1)) / math.sqrt(len(log_prob))
        gap = abs(-float(log_prob.mean()) - value)
        return f"mean -log_prob is {gap:.4g} nats from its entropy ({error:.2g} s.e.)" if gap > 5 * error else None
