"""What compiling a loss gives: a step of a training that is compiled over a step of one that is not.

Both go through the whole training loop on the same rows, batches and noise; the first steps, in which torch compiles,
are left out of the ratio and kept as a detail. On a GPU the same as CUDA graphs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from bench.figures import Figure
from bench.harness import quiet
from bench.kinds import KINDS
from bench.model import LEARNING_RATE, PREPROCESS, ROWS, SIDE, build, generate
from bench.timing import interval
from benchmarks.runner.compiling import WARM

REPEATS = 5


def compiling(quick: bool) -> list[Figure]:
    """Each kind of model, each way of computing its loss."""
    quiet()
    torch.set_flush_denormal(True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.from_numpy(generate(ROWS, np.random.default_rng(0))["x"])
    images_column = {"shape": (SIDE, SIDE), "dtype": "uint8", "levels": 256}
    cases: dict[str, tuple[str, Any]] = {
        f"vae-{batch}": (
            f"IWAE's one-layer VAE, batch {batch}",
            partial(_curve, build, images, PREPROCESS, images_column, batch, LEARNING_RATE, device),
        )
        for batch in (20, 100)
    }
    for name, kind in KINDS.items():
        column = {"shape": kind.shape, "dtype": "float32"}
        cases[name] = (
            f"{kind.what}, batch {kind.batch}",
            partial(_curve, kind.build, kind.rows(), [], column, kind.batch, LEARNING_RATE, device),
        )
    ways = ("inductor", "graphs") if device == "cuda" else ("inductor",)
    steps = WARM + (40 if quick else 150)
    return [
        figure for name, (what, curve) in cases.items() for figure in _figures(name, what, curve, ways, steps, device)
    ]


def _figures(name: str, what: str, curve: Any, ways: tuple[str, ...], steps: int, device: str) -> list[Figure]:
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ("eager", *ways)}
    for way in ways:
        curve(way, WARM + 1)  # what is compiled is at hand afterwards, as it is for all but the first run of a method
    for _ in range(REPEATS):
        for way, found in times.items():
            found.append(_seconds(curve(way, steps)))
    eager = np.array([step for _, step in times["eager"]])
    figures = []
    for way in ways:
        start, step = (np.array(column) for column in zip(*times[way], strict=True))
        value, low, high = interval(step / eager)
        figures.append(
            Figure(
                f"compiling/{name}-{way}-{device}",
                f"{what} on {device}: a step by {way} over one by torch's own kernels",
                value,
                low,
                high,
                repeats=REPEATS,
                details={
                    "step_s": float(np.median(step)),
                    "eager_step_s": float(np.median(eager)),
                    "start_s": float(np.median(start)),
                },
            )
        )
    return figures


def _seconds(rows: list[dict[str, float]]) -> tuple[float, float]:
    """Seconds of the first `WARM` steps, and of one step after them."""
    begun, last = next(row for row in rows if row["step"] >= WARM), rows[-1]
    return begun["seconds"], (last["seconds"] - begun["seconds"]) / (last["step"] - begun["step"])


def _curve(
    make: Any,
    rows: torch.Tensor,
    preprocess: list[Any],
    column: dict[str, Any],
    batch: int,
    lr: float,
    device: str,
    way: str,
    steps: int,
) -> list[dict[str, float]]:
    """The curve of a training, a row a step."""
    from lightning.fabric import Fabric

    from benchmarks.data.preprocess import build as build_pipeline
    from benchmarks.data.registry import Column
    from benchmarks.spec.protocol import Optimizer, Training
    from benchmarks.training.compiled import Compiled
    from benchmarks.training.loop import train
    from benchmarks.training.source import Source

    strategy = None if way == "eager" else Compiled(way, device)  # type: ignore[arg-type]
    fabric = Fabric(accelerator=device, devices=1, **({"strategy": strategy} if strategy else {}))
    fabric.launch()
    source = Source(
        rows, {}, build_pipeline(preprocess, Column(**column)), fabric.device, rows[0].numel(), augment=True
    )
    spec = Training(optimizer=Optimizer(name="adam", lr=lr), batch_size=batch, steps=steps)
    out = train(make(), source, None, spec, fabric, seed=0)
    assert strategy is None or strategy.refused is None, strategy.refused
    return out.curve
