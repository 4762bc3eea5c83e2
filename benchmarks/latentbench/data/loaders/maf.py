"""The tabular density sets of Papamakarios et al. (2017), prepared as their code does, from their archive.

Each yields train, valid and test with x (N, D) float32, standardised as in the paper. The order of steps and of random
draws is theirs, so that the numbers are comparable with the literature.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk
from latentbench.data.unpickle import Frame, Parts, arrays
from latentbench.declare import loader

Files = Mapping[str, Path]
_ARCHIVE = "data.tar.gz"


def _members(files: Files, *names: str) -> dict[str, bytes]:
    """Files of the archive by the end of their path."""
    path = files[_ARCHIVE]
    found = {}
    for name, raw in archive.members(path, limit=1 << 34, wanted=lambda name: name.endswith(names)):
        found[next(n for n in names if name.endswith(n))] = raw
        if len(found) == len(names):
            break
    for name in names:
        if name not in found:
            raise UserError(f"the archive has no {name}", where=path)
    return found


def _array(raw: bytes) -> np.ndarray:
    array: np.ndarray = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
    return array


def _cut(data: np.ndarray, share: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """All but the last tenth, and the last tenth."""
    n = int(share * len(data))
    return data[:-n], data[-n:]


def _chunks(train: np.ndarray, valid: np.ndarray, test: np.ndarray) -> Iterator[Chunk]:
    for split, rows in (("train", train), ("valid", valid), ("test", test)):
        yield Chunk(split, {"x": np.ascontiguousarray(rows, dtype=np.float32)})


def _standardised(data: np.ndarray) -> Iterator[Chunk]:
    """Last tenth test, last tenth of the rest valid; scaled by mean and deviation of train and valid together."""
    rest, test = _cut(data)
    train, valid = _cut(rest)
    mean, deviation = rest.mean(axis=0), rest.std(axis=0)
    return _chunks(*((part - mean) / deviation for part in (train, valid, test)))


@loader("power")
def load_power(files: Files) -> Iterator[Chunk]:
    """Household power: shuffled, two columns dropped, uniform noise of the measuring step added to four others."""
    rng = np.random.RandomState(42)
    data = _array(_members(files, "power/data.npy")["power/data.npy"])
    rng.shuffle(data)
    data = np.delete(data, [1, 3], axis=1)
    n = len(data)
    voltage, power, meters = 0.01 * rng.rand(n, 1), 0.001 * rng.rand(n, 1), rng.rand(n, 3)
    return _standardised(data + np.hstack([power, voltage, meters, np.zeros((n, 1))]))


@loader("miniboone")
def load_miniboone(files: Files) -> Iterator[Chunk]:
    """Particle identification; their file is already cleaned."""
    return _standardised(_array(_members(files, "miniboone/data.npy")["miniboone/data.npy"]))


@loader("hepmass")
def load_hepmass(files: Files) -> Iterator[Chunk]:
    """Signal events of the mass-1000 set, columns dropped whose least value comes more than five times."""
    import pandas as pd

    raw = _members(files, "1000_train.csv", "1000_test.csv")
    train, test = (
        pd.read_csv(io.BytesIO(raw[n]), index_col=False).to_numpy(float) for n in ("1000_train.csv", "1000_test.csv")
    )
    train = train[train[:, 0] == 1][:, 1:]
    test = test[test[:, 0] == 1][:, 1 : 1 + train.shape[1]]  # the test file has one column more
    mean, deviation = train.mean(axis=0), train.std(axis=0, ddof=1)
    train, test = (train - mean) / deviation, (test - mean) / deviation
    kept = (train == train.min(axis=0)).sum(axis=0) <= 5
    train, valid = _cut(train[:, kept])
    return _chunks(train, valid, test[:, kept])


@loader("gas", pickles=True)
def load_gas(files: Files) -> Iterator[Chunk]:
    """Gas sensors: three columns dropped, then the first of each group correlated above 0.98; scaled by all rows.

    The official file is a pickled pandas table, taken apart without running anything in it.
    """
    name = "gas/ethylene_CO.pickle"
    columns = frame_columns(_members(files, name)[name], f"{files[_ARCHIVE]}:{name}")
    data = np.stack([v for k, v in columns.items() if k not in ("Meth", "Eth", "Time")], axis=1).astype(np.float64)
    while True:
        alike = (np.corrcoef(data.T) > 0.98).sum(axis=1)
        if not (alike > 1).any():
            break
        data = np.delete(data, int(np.argmax(alike > 1)), axis=1)
    data = (data - data.mean(axis=0)) / data.std(axis=0, ddof=1)
    rest, test = _cut(data)
    train, valid = _cut(rest)
    return _chunks(train, valid, test)


@loader("bsds300")
def load_bsds300(files: Files) -> Iterator[Chunk]:
    """8x8 patches of natural images without their last pixel, as their HDF5 file has them."""
    import h5py  # type: ignore[import-untyped]

    raw = _members(files, "BSDS300/BSDS300.hdf5")["BSDS300/BSDS300.hdf5"]
    with h5py.File(io.BytesIO(raw), "r") as file:
        yield from _chunks(file["train"][:], file["validation"][:], file["test"][:])


def frame_columns(raw: bytes, where: str) -> dict[str, np.ndarray]:
    """Column name -> values (N,) of a pickled pandas table, of old and of present pandas.

    Raises:
        UserError: not such a table.
    """
    frame = arrays(raw, where, frames=True)
    try:
        manager = frame.state["_mgr"] if "_mgr" in frame.state else frame.state["_data"]
        if manager.args:  # present pandas: BlockManager(blocks, axes)
            blocks, axes = manager.args[0], manager.args[1]
            placed = [(block.args[0], block.args[1]) for block in blocks]
        else:  # pandas before 1.3: (axes, values, items, {"0.14.1": {"axes", "blocks"}})
            content = manager.state[3]["0.14.1"]
            axes = content["axes"]
            placed = [(block["values"], block["mgr_locs"]) for block in content["blocks"]]
        names = [str(n) for n in _index_values(axes[0])]
        columns: dict[str, np.ndarray] = {}
        for values, where_placed in placed:
            for name, column in zip(_pick(names, where_placed), np.atleast_2d(values)):
                columns[name] = column
        return {name: columns[name] for name in names}
    except (AttributeError, KeyError, TypeError, IndexError) as e:
        raise UserError(f"not a pickled pandas table: {type(e).__name__}: {e}", where=where) from e


def _index_values(index: Any) -> Any:
    """Values of a column index, which pickles as _new_Index(class, {"data": values})."""
    if isinstance(index, Frame) and isinstance(index.state, dict):
        return _index_values(index.state["data"])
    if isinstance(index, Parts):
        return _index_values(index.args[0] if index.args else index.state[0])
    return index


def _pick(names: list[str], place: Any) -> list[str]:
    if isinstance(place, Parts):  # BlockPlacement(slice or array)
        place = place.args[0]
    return names[place] if isinstance(place, slice) else [names[int(i)] for i in np.asarray(place)]
