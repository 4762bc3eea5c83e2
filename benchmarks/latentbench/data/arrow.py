"""Columns to Arrow files through `datasets`, and back as memory-mapped numpy arrays through pyarrow alone.

Each split is one Arrow stream with one record batch, so that a column of fixed-size rows is one stretch of the file:
``numpy`` sees it without a copy. `datasets.load_from_disk` reads the same folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data.columns import AnyColumn, Chunk, Ragged
from latentbench.data.registry import NOT_STORED, Column, Entry

if TYPE_CHECKING:
    import pyarrow as pa

_ARROW = "data-00000-of-00001.arrow"
_BLOCK = 1 << 24


class _Flat:
    """Values of one column, appended to a file as they come and hashed on the way, so that memory stays bounded."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype, self.count = path, dtype.newbyteorder("<"), 0
        self._file: IO[bytes] = path.open("wb")
        self._hash = hashlib.sha256()

    def append(self, values: np.ndarray) -> None:
        flat = _bytes(np.asarray(values, dtype=self.dtype))
        self._hash.update(flat)
        self._file.write(flat)
        self.count += values.size

    def close(self) -> str:
        self._file.close()
        return self._hash.hexdigest()

    def array(self) -> pa.Array:
        """The values as a memory-mapped pyarrow array."""
        import pyarrow as pa

        if self.count == 0:
            return pa.array(np.zeros(0, self.dtype))
        return pa.array(np.memmap(self.path, dtype=self.dtype, mode="r"))


class _Writer:
    """One column of one split on its way to Arrow."""

    def __init__(self, folder: Path, name: str, declared: Column, where: str) -> None:
        self.declared, self.where, self.rows = declared, f"{where}, column {name}", 0
        self.values = _Flat(folder / f"{name}.values", np.dtype(declared.dtype))
        self.offsets = _Flat(folder / f"{name}.offsets", np.dtype(np.int64)) if declared.ragged else None
        self._end = 0
        if self.offsets is not None:
            self.offsets.append(np.zeros(1, np.int64))

    def append(self, column: np.ndarray | Ragged) -> None:
        declared = self.declared
        if isinstance(column, Ragged) != declared.ragged:
            raise UserError(f"{self.where}: {'a ragged' if declared.ragged else 'an'} array is declared")
        found, shape = (
            (column.values, column.item_shape) if isinstance(column, Ragged) else (column, tuple(column.shape[1:]))
        )
        if shape != declared.shape:
            raise UserError(f"{self.where}: rows have shape {shape}, declared is {declared.shape}")
        if found.dtype != np.dtype(declared.dtype):
            raise UserError(f"{self.where}: dtype is {found.dtype}, declared is {declared.dtype}")
        if declared.levels is not None and found.size and not (found.min() >= 0 and found.max() < declared.levels):
            raise UserError(f"{self.where}: values {found.min()} .. {found.max()} leave 0 .. {declared.levels - 1}")
        if isinstance(column, Ragged) and self.offsets is not None:
            first = int(column.offsets[0])
            self.values.append(column.values[first : int(column.offsets[-1])])
            self.offsets.append(column.offsets[1:] - first + self._end)
            self._end += int(column.offsets[-1]) - first
        else:
            self.values.append(found)
        self.rows += len(column)

    def close(self) -> str:
        """A hash of dtype, shape and values: it does not depend on how the rows were cut into chunks."""
        parts = [self.declared.dtype, list(self.declared.shape), self.rows, self.values.close()]
        if self.offsets is not None:
            parts.append(self.offsets.close())
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def array(self) -> pa.Array:
        import pyarrow as pa

        array = self.values.array()
        if self.declared.shape:
            array = pa.FixedSizeListArray.from_arrays(array, self.declared.size)
        if self.offsets is not None:
            array = pa.LargeListArray.from_arrays(self.offsets.array(), array)
        return array


def write_splits(entry: Entry, chunks: Iterable[Chunk], folder: Path) -> dict[str, Any]:
    """Write all splits of `entry` below `folder` (which exists and is empty), in the form `datasets` saves.

    Returns:
        What `read_split` needs, as JSON values, with ``content_hash``: a hash of the data themselves.

    Raises:
        UserError: rows, shape, dtype or range differ from what the entry declares.
    """
    spool = folder / "spool"
    spool.mkdir()
    writers = {
        split: {
            name: _Writer(_made(spool / split), name, column, f"{entry.name}, split {split}")
            for name, column in entry.columns_of(split).items()
        }
        for split in entry.splits
    }
    hashes: dict[str, dict[str, str]] = {}
    try:
        for chunk in chunks:
            _append(entry, writers, chunk)
    finally:
        with contextlib.suppress(OSError):  # a full disk fails at the append above: that error is the one to tell
            hashes = {split: {name: w.close() for name, w in columns.items()} for split, columns in writers.items()}
    for split, columns in writers.items():
        for name, writer in columns.items():
            if writer.rows != entry.splits[split].rows:
                raise UserError(
                    f"{entry.name}, split {split}, column {name}: {writer.rows} rows, "
                    f"declared are {entry.splits[split].rows}"
                )
    content_hash = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    files = {split: _write_arrow(folder / split, split, columns, hashes[split]) for split, columns in writers.items()}
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(entry.splits)}))
    shutil.rmtree(spool)
    return {
        "content_hash": content_hash,
        "splits": {
            split: {
                "rows": entry.splits[split].rows,
                "file": files[split].relative_to(folder).as_posix(),
                "bytes": files[split].stat().st_size,
                "columns": {
                    n: c.model_dump(mode="json", exclude=NOT_STORED) for n, c in entry.columns_of(split).items()
                },
                "hashes": hashes[split],
            }
            for split in entry.splits
        },
    }


def _append(entry: Entry, writers: Mapping[str, Mapping[str, _Writer]], chunk: Chunk) -> None:
    if chunk.split not in writers:
        raise UserError(f"{entry.name}: the loader yields split {chunk.split!r}, which is not declared")
    columns = writers[chunk.split]
    if set(chunk.columns) != set(columns):
        raise UserError(
            f"{entry.name}, split {chunk.split}: columns {sorted(chunk.columns)}, declared are {sorted(columns)}"
        )
    for name, writer in columns.items():
        writer.append(chunk.columns[name])


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _write_arrow(folder: Path, split: str, columns: Mapping[str, _Writer], hashes: Mapping[str, str]) -> Path:
    import datasets
    import pyarrow as pa
    from datasets.arrow_writer import ArrowWriter

    folder.mkdir()
    path = folder / _ARROW
    features = datasets.Features({name: _feature(w.declared) for name, w in columns.items()})
    table = pa.Table.from_arrays([w.array() for w in columns.values()], schema=features.arrow_schema)
    with ArrowWriter(path=str(path), features=features, writer_batch_size=max(1, table.num_rows)) as writer:
        if table.num_rows:
            writer.write_table(table, writer_batch_size=table.num_rows)
        writer.finalize()
    fingerprint = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]
    datasets.DatasetInfo(features=features).write_to_directory(str(folder))
    state: dict[str, Any] = {
        "_data_files": [{"filename": _ARROW}],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    (folder / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True))
    return path


def _feature(column: Column) -> Any:
    import datasets

    feature: Any = datasets.Value(column.dtype)
    if column.shape:
        feature = datasets.Sequence(feature, length=column.size)
    return datasets.LargeList(feature) if column.ragged else feature


def read_split(path: Path, declared: Mapping[str, Column]) -> dict[str, AnyColumn]:
    """The columns of one Arrow file, memory-mapped and read-only.

    Raises:
        UserError: the file is cut short or is not what was declared.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            batches = list(pa.ipc.open_stream(source))
        if len(batches) > 1:
            raise UserError(f"{len(batches)} record batches where one is expected", where=path)
        columns: dict[str, AnyColumn] = {}
        for name, column in declared.items():
            if not batches:
                columns[name] = _empty(column)
            else:
                columns[name] = _numpy(batches[0].column(name), column)
    except (pa.ArrowException, OSError, KeyError, ValueError) as e:
        raise UserError(f"damaged prepared data: {e}", where=path, fix="delete its folder; it is made again") from e
    return columns


def _numpy(array: pa.Array, column: Column) -> np.ndarray | Ragged:
    offsets = None
    if column.ragged:
        offsets = array.offsets.to_numpy(zero_copy_only=True)
        array = array.values
    if column.shape:
        array = array.values
    values = array.to_numpy(zero_copy_only=True).reshape(-1, *column.shape)
    return values if offsets is None else Ragged(values, offsets)


def _empty(column: Column) -> np.ndarray | Ragged:
    values = np.zeros((0, *column.shape), column.dtype)
    return Ragged(values, np.zeros(1, np.int64)) if column.ragged else values


def rehash(path: Path, declared: Mapping[str, Column]) -> dict[str, str]:
    """The hash of each column of an Arrow file, as `write_splits` recorded it.

    Raises:
        UserError: as `read_split`.
    """
    found = {}
    for name, column in read_split(path, declared).items():
        values, offsets = (column.values, column.offsets) if isinstance(column, Ragged) else (column, None)
        parts = [declared[name].dtype, list(declared[name].shape), len(column), _sha(np.asarray(values))]
        if offsets is not None:
            parts.append(_sha(offsets))
        found[name] = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return found


def _sha(values: np.ndarray) -> str:
    digest = hashlib.sha256()
    for block in _blocks(values):
        digest.update(block)
    return digest.hexdigest()


def _bytes(values: np.ndarray) -> memoryview:
    """The values in C order, as bytes."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _blocks(values: np.ndarray) -> Iterator[memoryview]:
    flat = _bytes(values)
    for start in range(0, len(flat), _BLOCK):
        yield flat[start : start + _BLOCK]
