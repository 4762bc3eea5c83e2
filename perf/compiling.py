"""What compiling a loss gives: a step of a training that is compiled over a step of one that is not.

Both go through the whole training loop on the same rows, batches and noise; the first steps, in which torch compiles,
are left out of the ratio and kept as a detail. On a GPU the same as CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from latentbench.acceleration.compiling import WARM, Timed, timing_of

from perf.figures import Figure
from perf.harness import Model, quiet, trained
from perf.kinds import KINDS
from perf.model import PREPROCESS, ROWS, SIDE, build, generate
from perf.timing import interval

if TYPE_CHECKING:
    from latentbench.training.compiled import Way

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
            partial(_curve, build, images, PREPROCESS, images_column, batch, device),
        )
        for batch in (20, 100)
    }
    for name, kind in KINDS.items():
        column = {"shape": kind.shape, "dtype": "float32"}
        cases[name] = (
            f"{kind.what}, batch {kind.batch}",
            partial(_curve, kind.build, kind.rows(), [], column, kind.batch, device),
        )
    ways: tuple[Way, ...] = ("inductor", "graphs") if device == "cuda" else ("inductor",)
    steps = WARM + (40 if quick else 150)
    return [
        figure for name, (what, curve) in cases.items() for figure in _figures(name, what, curve, ways, steps, device)
    ]


def _figures(name: str, what: str, curve: Any, ways: tuple[Way, ...], steps: int, device: str) -> list[Figure]:
    times: dict[Way, list[Timed]] = {way: [] for way in ("eager", *ways)}
    for way in ways:
        curve(way, WARM + 1)  # what is compiled is at hand afterwards, as it is for all but the first run of a method
    for _ in range(REPEATS):
        for way, found in times.items():
            found.append(timing_of(curve(way, steps)))
    eager = np.array([t.step for t in times["eager"]])
    figures = []
    for way in ways:
        start, step = np.array([t.start for t in times[way]]), np.array([t.step for t in times[way]])
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


def _curve(
    make: Callable[[], Model],
    rows: torch.Tensor,
    preprocess: list[Any],
    column: dict[str, Any],
    batch: int,
    device: str,
    way: Way,
    steps: int,
) -> list[dict[str, float]]:
    """The curve of a training, a row a step."""
    from latentbench.data.registry import Column
    from latentbench.training.compiled import Compiled

    curve: list[dict[str, float]] = []
    strategy = None if way == "eager" else Compiled(way, device)
    trained(
        make(), rows, preprocess, Column(**column), batch, steps, on_log=curve.append, device=device, strategy=strategy
    )
    assert strategy is None or strategy.refused is None, strategy.refused
    return curve
