"""Data: batches against torch's DataLoader, rendering, generation, preparation, opening."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from latentbench.data.generated import rooms, sprites
from latentbench.data.preprocess import build
from latentbench.data.registry import Column, load_entry, resolve
from latentbench.scheduling.local import cores
from latentbench.training.source import Source
from torch.utils.data import DataLoader, Dataset

from perf.figures import Figure
from perf.timing import interleaved, ratio, seconds

BATCH = 128
Steps = list[str | Mapping[str, Any]]
SHAPES: dict[str, tuple[tuple[int, ...], Steps]] = {
    "mnist": ((28, 28), ["flatten", {"binarise": "dynamic"}]),
    "cifar10": ((32, 32, 3), ["flatten", "dequantise"]),
}
PLANAR = ("eight-gaussians", "two-moons", "checkerboard", "two-spirals", "rings", "pinwheel")


def data(quick: bool) -> list[Figure]:
    """All figures of this module."""
    rows = 10_000 if quick else 50_000
    return [f for name in SHAPES for f in _batches(name, rows)] + _rendering(quick) + _planar() + _preparation(rows)


class _Rows(Dataset[tuple[torch.Tensor, int]]):
    """One prepared row at a time, as a DataLoader reads it: channels first, flat, float32 in 0 .. 1 or with noise."""

    def __init__(self, x: np.ndarray, y: np.ndarray, noise: str | None) -> None:
        self.x, self.y, self.noise = x, y, noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = torch.from_numpy(self.x[index])
        if pixels.dim() == 3:
            pixels = pixels.permute(2, 0, 1)
        row = pixels.flatten().to(torch.float32)
        if self.noise == "binarise":
            row = torch.bernoulli(row.div_(255))
        elif self.noise == "dequantise":
            row = row.add_(torch.rand_like(row))
        else:
            row = row.div_(255)
        return row, int(self.y[index])


def _epochs(source: Source) -> Iterator[object]:
    noise = torch.Generator().manual_seed(0)
    while True:
        for index in torch.randperm(len(source), generator=noise).split(BATCH):
            yield source.batch(index, noise, 0, 0.0)


def _forever(loader: DataLoader[tuple[torch.Tensor, int]]) -> Iterator[object]:
    while True:
        yield from loader


def _take(batches: Iterator[object], n: int) -> Callable[[], None]:
    def call() -> None:
        for _ in range(n):
            next(batches)

    return call


def _batches(name: str, rows: int) -> list[Figure]:
    """100 batches of 128 from data in memory, ours against the DataLoader's with 0 and 2 workers, the same work done
    to each row: plain (to 0 .. 1), and with the noise that this kind of data gets. Random numbers cost both sides
    the same, so with noise the ratio says how little else there is to save. Once with all cores, as a run alone on a
    machine has them, and once with one thread, where copying 1.5 MB a batch of CIFAR-10 is nearly all of our time."""
    shape, noisy = SHAPES[name]
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (rows, *shape), dtype=np.uint8), rng.integers(0, 10, rows)
    figures = []
    plain: Steps = ["flatten", "to_unit"]
    for kind, steps in (("plain", plain), ("noisy", noisy)):
        pipeline = build(steps, Column(shape=shape, dtype="uint8", levels=256))
        pipeline.fit(x)
        columns = {"y": torch.as_tensor(y)}
        source = Source(torch.as_tensor(x), columns, pipeline, torch.device("cpu"), x[0].size, augment=False)
        noise = None if kind == "plain" else "binarise" if name == "mnist" else "dequantise"
        _check_same_work(source, _Rows(x, y, noise), exact=kind == "plain")
        contenders: dict[str, Callable[[], None]] = {"ours": _take(_epochs(source), 100)}
        for workers in (0, 2):
            loader = DataLoader(
                _Rows(x, y, noise), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
            )
            contenders[f"{workers}-workers"] = _take(_forever(loader), 100)
        for threads in (cores(), 1):
            with _threads(threads):
                times = interleaved(contenders)
            figures += [
                ratio(
                    f"data/{name}-{kind}-over-dataloader-{workers}-threads-{threads}",
                    f"100 batches of {name}'s shape, {kind}, over torch's DataLoader with {workers} workers; torch "
                    f"threads of either: {threads}",
                    times["ours"],
                    times[f"{workers}-workers"],
                    target=0.1 if kind == "plain" and threads == cores() else None,
                    batches_per_second=100 / float(np.median(times["ours"].wall)),
                )
                for workers in (0, 2)
            ]
    return figures


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """So many torch threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_same_work(source: Source, rows: _Rows, *, exact: bool) -> None:
    """Both sides hand out the same rows; with noise, such as lie no further apart than two draws may."""
    index = torch.arange(64)
    ours = source.batch(index, torch.Generator().manual_seed(0), 0, 0.0)
    theirs = torch.stack([rows[int(k)][0] for k in index])
    same = (ours.x - theirs).abs().max() < 1e-6 if exact else (ours.x - theirs).abs().max() <= 1
    same &= ours.columns["y"].tolist() == [rows[int(k)][1] for k in index]
    if not same:
        raise RuntimeError("the two loaders do not hand out the same rows")


def _rendering(quick: bool) -> list[Figure]:
    """Seconds for as many random images as are to come in a second (20,000 in two dimensions, 2,000 in three), in a
    process that has rendered nothing before, and in one that has."""
    figures = []
    scenes: tuple[tuple[str, sprites.Sprites | rooms.Rooms, int], ...] = (
        ("sprites2d", sprites.Sprites(), 20_000),
        ("rooms3d", rooms.Rooms(), 2_000),
    )
    for name, scene, n in scenes:
        factors = scene.grid.factors(np.random.default_rng(0).integers(0, scene.grid.size, n // (4 if quick else 1)))

        def cold(scene: sprites.Sprites | rooms.Rooms = scene, factors: np.ndarray = factors) -> None:
            sprites.forget()
            rooms.forget()
            scene.render(factors)

        def warm(scene: sprites.Sprites | rooms.Rooms = scene, factors: np.ndarray = factors) -> None:
            scene.render(factors)

        for state, times in interleaved({"cold": cold, "warm": warm}).items():
            best = len(factors) / float(times.wall.min())
            figures.append(
                seconds(
                    f"data/{name}-{state}",
                    f"{len(factors)} random images of {name}, {state}",
                    times,
                    target=len(factors) / n,
                    best_images_per_second=best,
                )
            )
    return figures


def _planar() -> list[Figure]:
    """Seconds for a million points of the plane."""

    def make(name: str) -> Callable[[], object]:
        entry = load_entry(name)
        return lambda: resolve("generator", str(entry.generate))(1_000_000, np.random.default_rng(0), **entry.params)

    times = interleaved({name: make(name) for name in PLANAR}, repeats=3)
    return [seconds(f"data/million-{n}", f"a million points of {n}", t, target=1.0) for n, t in times.items()]


_OPEN = """
from latentbench.data.dataset import open_dataset
open_dataset("mnist-shaped").split("train")["x"][:128].astype("float32")
"""
_PREPARE = """
from latentbench.data.prepare import prepare
from latentbench.data.registry import load_entry
prepare(load_entry({name!r}), force=True)
print(open("/proc/self/status").read())
"""


def _preparation(rows: int) -> list[Figure]:
    """Preparing data of the shape of CIFAR-10 and MNIST from files in the official formats, each in a fresh process,
    with its peak memory where /proc tells it; and a fresh process up to MNIST's first batch."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "data" / "registry").mkdir(parents=True)
        (place / "mirror").mkdir()
        env = {"LATENTBENCH_DATA": str(place / "data"), "LATENTBENCH_MIRROR": str(place / "mirror")}
        _declare(
            place, "cifar10-shaped", "cifar10", {"cifar-10-python.tar.gz": _cifar_archive(rows // 5)}, rows, rows // 5
        )
        _declare(place, "mnist-shaped", "mnist", _mnist_files(rows, rows // 5), rows, rows // 5)
        peaks: list[float] = []

        def cifar10() -> None:
            # not ru_maxrss, which a child takes over from its parent
            peak = re.search(r"VmHWM:\s+(\d+) kB", _python(_PREPARE.format(name="cifar10-shaped"), env))
            peaks.extend([int(peak[1]) / 2**20] if peak else [])

        times = interleaved(
            {
                "cifar10": cifar10,
                "mnist": lambda: _python(_PREPARE.format(name="mnist-shaped"), env),
                "open": lambda: _python(_OPEN, env),
            },
            repeats=3,
        )
    figures = [
        seconds("data/prepare-cifar10", f"preparing {rows * 6 // 5} rows of CIFAR-10's shape", times["cifar10"]),
        seconds("data/prepare-mnist", f"preparing {rows * 6 // 5} rows of MNIST's shape", times["mnist"]),
        seconds("data/first-batch", "a fresh process to the first batch of prepared MNIST", times["open"], target=1.0),
    ]
    if peaks:
        what = "peak memory of preparing data of CIFAR-10's shape"
        peak = float(np.median(peaks))
        figures.append(Figure("data/prepare-memory", what, peak, min(peaks), max(peaks), "GiB", 1.0, len(peaks)))
    return figures


def _python(code: str, env: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | env
    )
    return done.stdout


def _declare(place: Path, name: str, like: str, files: Mapping[str, bytes], train: int, test: int) -> None:
    """An entry as `like`, on other files of the same format."""
    entry = load_entry(like).model_dump(mode="json", exclude={"hub", "content_hash", "protocols"}, exclude_none=True)
    declared = []
    for file, raw in files.items():
        (place / "mirror" / file).write_bytes(raw)
        declared.append({"name": file, "mirror": file, "sha256": hashlib.sha256(raw).hexdigest()})
    entry |= {"name": name, "splits": {"train": {"rows": train}, "test": {"rows": test}}}
    entry["forms"] = [{"loader": entry["forms"][0]["loader"], "files": declared}]
    (place / "data" / "registry" / f"{name}.yaml").write_text(yaml.safe_dump(entry))


def _cifar_archive(rows: int) -> bytes:
    """Noise in the format of cifar-10-python.tar.gz, `rows` a batch."""
    rng = np.random.default_rng(0)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as file:
        for name in [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]:
            x = rng.integers(0, 256, (rows, 3072), dtype=np.uint8)
            raw = pickle.dumps({"data": x, "labels": rng.integers(0, 10, rows).tolist()}, 2)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(raw)
            file.addfile(info, io.BytesIO(raw))
    return out.getvalue()


def _mnist_files(train: int, test: int) -> dict[str, bytes]:
    """Noise in the format of MNIST's four files."""
    rng = np.random.default_rng(0)
    files = {}
    for prefix, rows in (("train", train), ("t10k", test)):
        for kind, shape, high in (("images-idx3", (rows, 28, 28), 256), ("labels-idx1", (rows,), 10)):
            head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
            values = rng.integers(0, high, shape, dtype=np.uint8)
            files[f"{prefix}-{kind}-ubyte.gz"] = gzip.compress(head + values.tobytes(), 1)
    return files
