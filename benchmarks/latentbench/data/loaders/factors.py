"""Images with known factors of variation: Cars3D, dSprites, 3D Shapes, MPI3D, smallNORB.

x (N, H, W[, C]) uint8 and factors (N, K) int64, in the order of the full grid with the last factor fastest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk
from latentbench.data.generated.grid import Grid
from latentbench.data.loaders.common import image, tiles
from latentbench.declare import loader

Files = Mapping[str, Path]
_CHUNK = 8192


@loader("cars3d")
def load_cars3d(files: Files) -> Iterator[Chunk]:
    """Cars3D (Reed et al. 2015) as sheets of 64x64 tiles: a row a (car, elevation), a column an azimuth.

    Rows come out by car, then elevation, then azimuth; factors (N, 3) = elevation 4, azimuth 24, car 183.
    """
    first = 0
    for name in sorted(n for n in files if n.endswith(".webp")):
        x = tiles(image(files[name], files[name]), 64, 64)
        row = np.arange(first, first + len(x))
        factors = np.stack([row // 24 % 4, row % 24, row // 96], 1).astype(np.int64)
        first += len(x)
        yield Chunk("train", {"x": x, "factors": factors})


def _hdf5(path: Path) -> Any:
    import h5py  # type: ignore[import-untyped]

    try:
        return h5py.File(path, "r")
    except OSError as e:
        raise UserError(f"truncated or damaged HDF5 file: {e}", where=path) from e


@loader("dsprites")
def load_dsprites(files: Files) -> Iterator[Chunk]:
    """dSprites (Matthey et al. 2017), the official HDF5 file: imgs (N, 64, 64) of 0 and 1, latents/classes (N, 6).

    The first factor, colour, has one value and is left out: factors (N, 5) = shape, scale, orientation, x, y.
    """
    path = next(iter(files.values()))
    with _hdf5(path) as file:
        images, classes = _dataset(file, "imgs", path), _dataset(file, "latents/classes", path)
        for start in range(0, len(images), _CHUNK):
            rows = slice(start, start + _CHUNK)
            yield Chunk("train", {"x": images[rows].astype(np.uint8), "factors": classes[rows, 1:].astype(np.int64)})


@loader("shapes3d")
def load_shapes3d(files: Files, sizes: list[int]) -> Iterator[Chunk]:
    """3D Shapes (Burgess & Kim 2018), the official HDF5 file: images (480000, 64, 64, 3) on the full grid."""
    path = next(iter(files.values()))
    grid = Grid(tuple(sizes))
    with _hdf5(path) as file:
        images = _dataset(file, "images", path)
        if len(images) != grid.size:
            raise UserError(f"{len(images)} images where the grid has {grid.size}", where=path)
        for start in range(0, len(images), _CHUNK):
            x = images[start : start + _CHUNK]
            yield Chunk("train", {"x": x, "factors": grid.factors(np.arange(start, start + len(x)))})


def _dataset(file: Any, name: str, path: Path) -> Any:
    if name not in file:
        raise UserError(f"no dataset {name!r} in this HDF5 file", where=path)
    return file[name]


@loader("mpi3d")
def load_mpi3d(files: Files, sizes: list[int]) -> Iterator[Chunk]:
    """MPI3D (Gondal et al. 2019), the official numpy archive: images (N, 64, 64, 3) on the full grid."""
    import io

    path = next(iter(files.values()))
    grid = Grid(tuple(sizes))
    for _, raw in archive.members(path, limit=1 << 35, wanted="images.npy".__eq__):
        images: np.ndarray = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False).reshape(-1, 64, 64, 3)
        if len(images) != grid.size:
            raise UserError(f"{len(images)} images where the grid has {grid.size}", where=path)
        for start in range(0, len(images), _CHUNK):
            x = images[start : start + _CHUNK]
            yield Chunk("train", {"x": x, "factors": grid.factors(np.arange(start, start + len(x)))})
        return
    raise UserError("no images in this archive", where=path)


_NORB_TYPES: dict[int, np.dtype[Any]] = {0x1E3D4C55: np.dtype("u1"), 0x1E3D4C54: np.dtype("<i4")}


def read_norb(path: Path) -> np.ndarray:
    """A matrix in the binary format of NORB (LeCun et al. 2004), gzipped or not.

    Magic number (type), number of dimensions, at least three sizes (unused ones 1), then the values, little-endian.

    Raises:
        UserError: truncated, or not such a file.
    """
    raw = archive.read(path)
    if len(raw) < 20:
        raise UserError("truncated NORB file", where=path)
    magic, rank = (int(v) for v in np.frombuffer(raw, "<i4", 2))
    if magic not in _NORB_TYPES or not 1 <= rank <= 8:
        raise UserError("not a NORB matrix of bytes or integers", where=path)
    shape = tuple(int(v) for v in np.frombuffer(raw, "<i4", rank, 8))
    dtype, start = _NORB_TYPES[magic], 8 + 4 * max(rank, 3)
    if len(raw) - start != math.prod(shape) * dtype.itemsize:
        raise UserError(f"{len(raw) - start} bytes of data do not fit the declared shape {shape}", where=path)
    return np.frombuffer(raw, dtype, offset=start).reshape(shape)


@loader("smallnorb")
def load_smallnorb(files: Files) -> Iterator[Chunk]:
    """smallNORB: stereo pairs x (N, 96, 96, 2), factors (N, 5) = category 5, instance 10, elevation 9, azimuth 18,
    lighting 6 (azimuths are stored as twice their number)."""
    for split, part in (("train", "46789x9x18x6x2x96x96-training"), ("test", "01235x9x18x6x2x96x96-testing")):
        stem = f"smallnorb-5x{part}"
        pairs = read_norb(files[f"{stem}-dat.mat.gz"])
        category = read_norb(files[f"{stem}-cat.mat.gz"]).astype(np.int64)
        info = read_norb(files[f"{stem}-info.mat.gz"]).astype(np.int64)
        factors = np.column_stack([category, info[:, 0], info[:, 1], info[:, 2] // 2, info[:, 3]])
        yield Chunk(split, {"x": np.ascontiguousarray(pairs.transpose(0, 2, 3, 1)), "factors": factors})
