"""Binary and grey images of drawings: OMNIGLOT, Caltech-101 silhouettes, static MNIST, Frey faces."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk
from latentbench.data.loaders.common import bits, image, matlab, npy, npz, upright
from latentbench.data.splits import partition
from latentbench.data.unpickle import arrays
from latentbench.declare import loader

Files = Mapping[str, Path]
_SIDE = 105
_CHUNK = 2000


@loader("chardata")
def load_chardata(files: Files, shuffle_seed: int) -> Iterator[Chunk]:
    """chardata.mat of Burda et al. (2016): grey 28x28 OMNIGLOT, intensities 0 .. 1, columns are images.

    The training rows are permuted by numpy's RandomState(`shuffle_seed`), as the authors do, so that the last 1,345
    are their validation set.
    """
    content = matlab(files["chardata.mat"], "data", "testdata")
    for split, name in (("train", "data"), ("test", "testdata")):
        rows = content[name].T
        if split == "train":
            rows = rows[np.random.RandomState(shuffle_seed).permutation(len(rows))]
        yield Chunk(split, {"x": upright(np.ascontiguousarray(rows, np.float32), 28, 28)})


def _drawings(files: Files) -> tuple[np.ndarray, np.ndarray]:
    """All drawings, background set first: rows packed to bits (N, 105, 14) uint8 with 1 for ink, and who, what, where.

    From a packed numpy file with its index, or from the official zips of PNG files
    ``<set>/<alphabet>/character<k>/<character id>_<drawer>.png``, sorted by path.
    """
    if "omniglot_index.npy" in files:
        return npy(files["omniglot_105x105_packed.npy.xz"]), npy(files["omniglot_index.npy"])
    fields = [(name, np.int64) for name in ("set", "alphabet", "character_id", "drawer")]
    packed, index, alphabets = [], [], 0
    for number, archived in enumerate(("images_background.zip", "images_evaluation.zip")):
        path = files[archived]
        images = dict(archive.members(path, wanted=lambda name: name.endswith(".png")))
        names = sorted({name.split("/")[1] for name in images})
        for name in sorted(images):
            ink = image(io.BytesIO(images[name]), f"{path}:{name}") == 0
            character, drawer = name.rsplit("/", 1)[1].removesuffix(".png").split("_")
            packed.append(np.packbits(ink, axis=1))
            index.append((number, alphabets + names.index(name.split("/")[1]), int(character), int(drawer)))
        alphabets += len(names)
    return np.stack(packed), np.array(index, dtype=fields)


def _rows(packed: np.ndarray, index: np.ndarray, rows: np.ndarray, side: int) -> Iterator[dict[str, np.ndarray]]:
    """Columns of the drawings `rows`, some at a time; reduced where `side` is less than 105."""
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        x = np.unpackbits(packed[part], axis=2)[:, :, :_SIDE]
        yield {
            "x": x if side == _SIDE else shrink(x, side),
            "alphabet": index["alphabet"][part].astype(np.int64),
            "y": index["character_id"][part].astype(np.int64) - 1,  # counted from 1
            "drawer": index["drawer"][part].astype(np.int64),
        }


@loader("omniglot")
def load_omniglot(files: Files) -> Iterator[Chunk]:
    """All drawings at 105x105, in the official two sets: background and evaluation."""
    packed, index = _drawings(files)
    for number, split in enumerate(("background", "evaluation")):
        for columns in _rows(packed, index, np.flatnonzero(index["set"] == number), _SIDE):
            yield Chunk(split, columns)


@loader("omniglot28")
def load_omniglot28(files: Files, sizes: Mapping[str, int], split_seed: int) -> Iterator[Chunk]:
    """The drawings reduced to 28x28 grey by the mean ink of the area under each pixel, partitioned by hashed row."""
    packed, index = _drawings(files)
    for split, rows in partition(len(index), sizes, split_seed).items():
        for columns in _rows(packed, index, rows, 28):
            yield Chunk(split, columns)


def shrink(bitmaps: np.ndarray, side: int) -> np.ndarray:
    """Area means of square bitmaps: (N, S, S) of 0 and 1 to (N, side, side) uint8, 255 where all is ink.

    Exact: pixel i covers [i, i + 1) * S / side of the input, cut pixels in proportion; means round half to even.
    """
    size = bitmaps.shape[1]
    fine = side // math.gcd(size, side)  # in parts of 1/fine input pixel all overlaps are whole numbers
    edges = np.arange(side + 1) * (size * fine // side)
    lower = np.arange(size) * fine
    overlap = np.minimum(edges[1:, None], lower + fine) - np.maximum(edges[:-1, None], lower)
    weight = np.clip(overlap, 0, None).astype(np.float32)  # (side, S); sums of whole numbers are exact
    across = (bitmaps.reshape(-1, size).astype(np.float32) @ weight.T).reshape(len(bitmaps), size, side)
    area = np.matmul(weight, across)
    return np.rint(area.astype(np.float64) * (255 / edges[1] ** 2)).astype(np.uint8)


@loader("silhouettes")
def load_silhouettes(files: Files, sizes: Mapping[str, int], split_seed: int) -> Iterator[Chunk]:
    """Caltech-101 silhouettes (Marlin et al. 2010), the unsplit file, partitioned by hashed row; labels 0 .. 100."""
    path = files["caltech101_silhouettes_28.mat"]
    content = matlab(path, "X", "Y")
    x = upright(bits(content["X"], path), 28, 28)
    y = content["Y"].reshape(-1).astype(np.int64) - 1
    for split, rows in partition(len(x), sizes, split_seed).items():
        yield Chunk(split, {"x": x[rows], "y": y[rows]})


@loader("silhouettes-split")
def load_silhouettes_split(files: Files) -> Iterator[Chunk]:
    """The official split file: {train,val,test}_data (N, 784) and _labels 1 .. 101."""
    path = files["caltech101_silhouettes_28_split1.mat"]
    content = matlab(path, *(f"{s}_{part}" for s in ("train", "val", "test") for part in ("data", "labels")))
    for split, theirs in (("train", "train"), ("valid", "val"), ("test", "test")):
        x = upright(bits(content[f"{theirs}_data"], path), 28, 28)
        yield Chunk(split, {"x": x, "y": content[f"{theirs}_labels"].reshape(-1).astype(np.int64) - 1})


@loader("amat")
def load_amat(files: Files) -> Iterator[Chunk]:
    """Static binarised MNIST (Larochelle & Murray 2011): text, one image of 784 bits a line, separated by spaces."""
    for split in ("train", "valid", "test"):
        path = files[f"binarized_mnist_{split}.amat"]
        for block in _blocks_of_lines(archive.read(path), 5000):
            marks = np.frombuffer(bytes(block), np.uint8)
            digits = marks[marks > ord(" ")] - ord("0")
            if digits.size % 784:
                raise UserError(f"a line does not hold 784 bits, or the file is cut short ({split})", where=path)
            yield Chunk(split, {"x": bits(digits, path).reshape(-1, 28, 28)})


def _blocks_of_lines(raw: bytes, lines: int) -> Iterator[memoryview]:
    ends = np.flatnonzero(np.frombuffer(raw, np.uint8) == ord("\n"))[lines - 1 :: lines] + 1
    starts = np.concatenate([np.zeros(1, np.int64), ends])
    view = memoryview(raw)
    for start, end in zip(starts, np.append(ends, len(raw))):
        if end > start:
            yield view[start:end]


def _faces(frames: np.ndarray, sizes: Mapping[str, int], split_seed: int) -> Iterator[Chunk]:
    for split, rows in partition(len(frames), sizes, split_seed).items():
        yield Chunk(split, {"x": np.ascontiguousarray(frames[rows]), "frame": rows})


@loader("frey")
def load_frey(files: Files, sizes: Mapping[str, int], split_seed: int) -> Iterator[Chunk]:
    """Frey faces as a numpy archive: images (1965, 28, 20) uint8 in the order of the film."""
    return _faces(npz(files["freyfaces.npz"], "images")["images"], sizes, split_seed)


@loader("frey-matlab")
def load_frey_matlab(files: Files, sizes: Mapping[str, int], split_seed: int) -> Iterator[Chunk]:
    """Roweis' frey_rawface.mat: ff (560, 1965) uint8, a column a frame, written row by row."""
    frames = matlab(files["frey_rawface.mat"], "ff")["ff"].T
    return _faces(frames.reshape(-1, 28, 20).astype(np.uint8), sizes, split_seed)


@loader("frey-pickle", pickles=True)
def load_frey_pickle(files: Files, sizes: Mapping[str, int], split_seed: int) -> Iterator[Chunk]:
    """freyfaces.pkl, as the VAE papers pass it round: (1965, 560), of which nothing is called.

    Intensities in 0 .. 1 are taken back to the 8-bit values that they came from.
    """
    path = files["freyfaces.pkl"]
    content = np.asarray(arrays(path.read_bytes(), path))
    if content.dtype.kind == "f":
        content = np.rint(content * (255 if content.max() <= 1 else 1))
    return _faces(content.reshape(-1, 28, 20).astype(np.uint8), sizes, split_seed)
