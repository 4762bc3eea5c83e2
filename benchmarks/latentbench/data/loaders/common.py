"""What several loaders need: MATLAB and numpy files read safely, tiles, and text to numbers."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from latentbench.core.bounds import UNPACKED_BYTES, open_regular
from latentbench.core.errors import UserError
from latentbench.data import archive


def matlab(path: Path, *names: str) -> dict[str, Any]:
    """Variables of a MATLAB file (version 7 or older).

    Raises:
        UserError: damaged, or a variable is missing.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError
    from scipy.sparse import issparse

    try:
        _bounded(path)
        found: dict[str, Any] = loadmat(path, variable_names=list(names))
        for name in names:
            if issparse(found.get(name)):
                found[name].check_format(full_check=True)  # what reads it would follow its numbers anywhere
    except (MatReadError, zlib.error, *_DAMAGED) as e:
        raise UserError(f"truncated or damaged MATLAB file: {e}", where=path) from e
    missing = [n for n in names if n not in found]
    if missing:
        raise UserError(f"no variable {missing[0]!r} in this MATLAB file", where=path)
    return found


def _bounded(path: Path, limit: int = UNPACKED_BYTES) -> None:
    """Refuse a MATLAB file (version 5 to 7) whose compressed variables unpack to more than `limit` bytes together.

    Raises:
        UserError: it does.
    """
    with open_regular(path) as file:
        head = file.read(128)
        order: Literal["little", "big"] = "big" if head[126:128] == b"MI" else "little"
        while len(tag := file.read(8)) == 8:
            kind, size = (int.from_bytes(tag[i : i + 4], order) for i in (0, 4))
            if kind != _COMPRESSED:
                file.seek(size, 1)
                continue
            unpack = zlib.decompressobj()
            while size > 0 and (block := file.read(min(size, 1 << 16))):
                size -= len(block)
                while block:
                    limit -= len(unpack.decompress(block, 1 << 22))
                    if limit < 0:
                        raise UserError("its variables unpack to more than a dataset may hold", where=path)
                    block = unpack.unconsumed_tail


_COMPRESSED = 15
_DAMAGED = (ValueError, TypeError, OSError, EOFError, LookupError, MemoryError, NotImplementedError)


def npy(path: Path) -> np.ndarray:
    """The array of a .npy file, compressed by its ending or not; never pickled objects."""
    try:
        array: np.ndarray = np.lib.format.read_array(io.BytesIO(archive.read(path)), allow_pickle=False)
    except (ValueError, MemoryError) as e:  # the latter where its header claims more than it holds
        raise UserError(f"not a plain numpy file: {e}", where=path) from e
    return array


def npz(path: Path, *names: str, limit: int = 4 * archive.GIB) -> dict[str, np.ndarray]:
    """Arrays of a .npz file (all where no names are given); never pickled objects, nor more than `limit` bytes."""
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as file:
            if sum(info.file_size for info in file.zip.infolist()) > limit:  # zipfile holds a member to what it says
                raise UserError(f"unpacks to more than {limit} bytes", where=path)
            return {name: file[name] for name in (names or file.files)}
    except (ValueError, KeyError, EOFError, OSError, MemoryError, zipfile.BadZipFile, zlib.error) as e:
        raise UserError(f"not a plain numpy archive: {e}", where=path) from e


def image(path: Path | io.BytesIO, where: Path | str) -> np.ndarray:
    """Pixels of an image file: (H, W) uint8 if it is grey or black and white, else (H, W, 3).

    Raises:
        UserError: truncated, or not an image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert("L" if opened.mode in ("1", "L") else "RGB"), dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise UserError(f"truncated or damaged image: {e}", where=where) from e


def tiles(sheet: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cuts a sheet (R*height, C*width, channels) into its tiles, row by row: (R*C, height, width, channels)."""
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    cut = sheet[: rows * height, : columns * width].reshape(rows, height, columns, width, -1)
    return cut.transpose(0, 2, 1, 3, 4).reshape(rows * columns, height, width, -1)


def find(files: Mapping[str, Path], name: str) -> Path:
    """The file `name`, plain or gzipped. Raises KeyError where it is neither."""
    return files[name] if name in files else files[f"{name}.gz"]


def table(path: Path, delimiter: str | None = None, skip: int = 0, dtype: Any = np.float64) -> np.ndarray:
    """A text table of numbers, (rows, columns), compressed by its ending or not."""
    lines = archive.text(path).splitlines()[skip:]
    try:
        return np.loadtxt(lines, delimiter=delimiter, dtype=dtype, ndmin=2)
    except ValueError as e:
        raise UserError(f"not a table of numbers: {e}", where=path) from e


def upright(rows: np.ndarray, height: int, width: int) -> np.ndarray:
    """Images that MATLAB flattened column by column, (N, height*width) -> (N, height, width)."""
    return np.ascontiguousarray(rows.reshape(len(rows), width, height).transpose(0, 2, 1))


def bits(values: np.ndarray, where: Path | str) -> np.ndarray:
    """`values` as uint8 0 and 1. Raises UserError for anything else."""
    if not np.isin(values, (0, 1)).all():
        raise UserError("values other than 0 and 1", where=where)
    return values.astype(np.uint8)
