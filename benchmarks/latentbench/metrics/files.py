"""Named arrays from .npz and .parquet files. Nothing is unpickled."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latentbench.core.errors import UserError, did_you_mean

#: What a file may unpack to.
MAX_BYTES = 16 << 30


def read_arrays(
    files: Sequence[str | Path], needed: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Arrays by name from one or more files.

    - .npz: the arrays of those names.
    - .parquet: a column of that name (numbers, or lists of one length: (N, D)), or the columns ``name_0``, ``name_1``,
      … side by side.
    - a .parquet file whose own name is that of an array that no file holds: all its columns side by side.

    Args:
        files: paths; an array may be in one of them only.
        needed, optional: names.

    Raises:
        UserError: no such file, another format, an array that is missing, there twice, or no plain numbers.
    """
    wanted = (*needed, *optional)
    found: dict[str, np.ndarray] = {}
    seen: set[str] = set()
    for file in files:
        path = Path(file)
        arrays, names = _read(path, wanted, [w for w in wanted if w not in found])
        seen.update(names)
        for name, array in arrays.items():
            if name in found:
                raise UserError(f"holds {name}, which another file holds too", where=path)
            found[name] = array
    missing = [name for name in needed if name not in found]
    if missing:
        where = ", ".join(str(f) for f in files) or "files"
        hint = did_you_mean(missing[0], seen) if seen else "give a .npz or .parquet file"
        raise UserError(f"no array is called {missing[0]!r}; needed: {', '.join(needed)}", where=where, fix=hint)
    return found


def _read(path: Path, wanted: Sequence[str], still: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    if not path.is_file():
        raise UserError("no such file", where=path)
    if path.suffix == ".npz":
        return _read_npz(path, wanted)
    if path.suffix == ".parquet":
        return _read_parquet(path, wanted, still)
    raise UserError(f"is a {path.suffix or 'nameless'} file", where=path, fix="give .npz or .parquet")


def _read_npz(path: Path, wanted: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    try:
        with np.load(path, allow_pickle=False) as data:
            if sum(member.file_size for member in data.zip.infolist()) > MAX_BYTES:
                raise UserError(f"unpacks to more than {MAX_BYTES >> 30} GiB", where=path, fix="give fewer rows")
            return {name: data[name] for name in wanted if name in data.files}, list(data.files)
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"cannot be read: {error}", where=path, fix="save plain arrays with numpy.savez") from None


def _read_parquet(path: Path, wanted: Sequence[str], still: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"cannot be read: {error}", where=path) from None
    arrays = {}
    for name in wanted:
        parts = sorted(
            (c for c in table.column_names if re.fullmatch(re.escape(name) + r"[_.]\d+", c)),
            key=lambda c: int(re.split(r"[_.]", c)[-1]),
        )
        if name in table.column_names:
            arrays[name] = _column(table[name], path, name)
        elif parts:
            arrays[name] = np.stack([_column(table[c], path, c) for c in parts], axis=1)
    if not arrays and path.stem in still and table.num_columns:
        columns = [_column(table[c], path, c) for c in table.column_names]
        arrays[path.stem] = columns[0] if len(columns) == 1 else np.stack(columns, axis=1)
    return arrays, table.column_names


def _column(column: Any, path: Path, name: str) -> np.ndarray:
    import pyarrow as pa

    merged = column.combine_chunks()
    if merged.null_count:
        raise UserError(f"column {name} has {merged.null_count} missing values", where=path)
    kind = merged.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = {len(row) for row in merged}
        flat = merged.flatten()
        if len(lengths) != 1 or flat.null_count:
            raise UserError(f"column {name} holds lists of unequal length or missing values", where=path)
        return flat.to_numpy(zero_copy_only=False).reshape(len(merged), -1)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise UserError(f"column {name} holds {kind}, not numbers", where=path)
    return merged.to_numpy(zero_copy_only=False)
