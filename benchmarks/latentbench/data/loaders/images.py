"""Natural images: CIFAR-10, SVHN, CelebA, down-sampled ImageNet. x (N, H, W, 3) uint8, y (N,) int64 where labelled."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from latentbench.core.errors import UserError
from latentbench.data import archive
from latentbench.data.columns import Chunk
from latentbench.data.loaders.common import image, matlab, npy, npz, tiles
from latentbench.data.unpickle import arrays
from latentbench.declare import loader

Files = Mapping[str, Path]
_CHUNK = 1024


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _planes(rows: np.ndarray, side: int) -> np.ndarray:
    """(N, 3*side*side), all red before green before blue, to (N, side, side, 3)."""
    return rows.reshape(len(rows), 3, side, side).transpose(0, 2, 3, 1)


@loader("cifar10", pickles=True)
def load_cifar10(files: Files) -> Iterator[Chunk]:
    """The official archive of Python pickles (Krizhevsky 2009), of which nothing is called."""
    path = files["cifar-10-python.tar.gz"]
    wanted = {f"data_batch_{k}": "train" for k in range(1, 6)} | {"test_batch": "test"}
    found: dict[str, Chunk] = {}
    for name, raw in archive.members(path, limit=1 << 30, wanted=lambda name: _last(name) in wanted):
        content = arrays(raw, f"{path}:{name}")
        try:
            x = _planes(np.asarray(content["data"], np.uint8), 32)
            y = np.asarray(content["labels"], np.int64)
        except (TypeError, KeyError, ValueError, OverflowError, AttributeError) as e:
            raise UserError(f"no batch of CIFAR-10: {type(e).__name__}: {e}", where=f"{path}:{name}") from e
        found[_last(name)] = Chunk(wanted[_last(name)], {"x": x, "y": y})
    for batch in wanted:  # the archive has its own order
        if batch not in found:
            raise UserError(f"the archive has no {batch}", where=path)
        yield found.pop(batch)


@loader("cifar10-sheets")
def load_cifar10_sheets(files: Files) -> Iterator[Chunk]:
    """Sheets of 32x32 tiles, 100 a row, in the official order, with labels as .npy."""
    labels = npy(files["train_labels.npy"]).astype(np.int64)
    for k in range(5):
        path = files[f"train_batch_{k + 1}.webp"]
        x = tiles(image(path, path), 32, 32)
        yield Chunk("train", {"x": x, "y": labels[k * 10000 : k * 10000 + len(x)]})
    path = files["test_first1000.webp"]
    labels = npy(files["test_first1000_labels.npy"]).astype(np.int64)
    yield Chunk("test", {"x": tiles(image(path, path), 32, 32)[: len(labels)], "y": labels})


@loader("cifar10h-sheets")
def load_cifar10h_sheets(files: Files) -> Iterator[Chunk]:
    """As `load_cifar10_sheets`; test rows also have counts (10,) uint8, of people who chose each class (Peterson et al.
    2019)."""
    counts = npz(files["counts.npz"], "counts")["counts"]
    for chunk in load_cifar10_sheets(files):
        own = {"counts": np.ascontiguousarray(counts[: len(chunk.columns["y"])])} if chunk.split == "test" else {}
        yield Chunk(chunk.split, {**chunk.columns, **own})


@loader("svhn")
def load_svhn(files: Files) -> Iterator[Chunk]:
    """Format 2 of SVHN (Netzer et al. 2011): MATLAB X (32, 32, 3, N), y (N, 1) where 10 stands for the digit 0."""
    for name, path in files.items():
        content = matlab(path, "X", "y")
        x = np.ascontiguousarray(content["X"].transpose(3, 0, 1, 2))
        yield Chunk(name.split("_")[0], {"x": x, "y": content["y"].reshape(-1).astype(np.int64) % 10})


@loader("celeba")
def load_celeba(files: Files, crop: int, side: int) -> Iterator[Chunk]:
    """CelebA (Liu et al. 2015), aligned images 178x218: the central square of `crop` pixels, resized to `side`.

    Resizing is Pillow's antialiased bilinear filter. `attributes` (N, 40) uint8 are the annotations, -1 stored as 0.
    """
    from PIL import Image

    roles = dict(line.split() for line in archive.text(files["list_eval_partition.txt"]).splitlines() if line.strip())
    lines = archive.text(files["list_attr_celeba.txt"]).splitlines()[2:]
    attributes = {f[0]: np.array(f[1:], np.int8) for f in (line.split() for line in lines if line.strip())}
    splits = {"0": "train", "1": "valid", "2": "test"}
    path = files["img_align_celeba.zip"]
    for name, raw in archive.members(path, limit=1 << 34, wanted=lambda name: name.endswith(".jpg")):
        file = _last(name)
        pixels = image(io.BytesIO(raw), f"{path}:{name}")
        top, left = (pixels.shape[0] - crop) // 2, (pixels.shape[1] - crop) // 2
        square = Image.fromarray(pixels[top : top + crop, left : left + crop])
        small = np.asarray(square.resize((side, side), Image.Resampling.BILINEAR))
        marks = (attributes[file] > 0).astype(np.uint8)
        yield Chunk(splits[roles[file]], {"x": small[None], "attributes": marks[None]})


@loader("imagenet")
def load_imagenet(files: Files) -> Iterator[Chunk]:
    """Down-sampled ImageNet (van den Oord et al. 2016): tars of PNG images, without labels, in the archive's order."""
    for name, path in files.items():
        split, pending = name.split("_")[0], []
        for member, raw in archive.members(path, limit=1 << 36, wanted=lambda name: name.endswith(".png")):
            pending.append(image(io.BytesIO(raw), f"{path}:{member}"))
            if len(pending) == _CHUNK:
                yield Chunk(split, {"x": np.stack(pending)})
                pending = []
        if pending:
            yield Chunk(split, {"x": np.stack(pending)})
