"""What training side by side gives: S members of IWAE's one-layer VAE as one program, over one run of it.

All contenders go through the whole training loop on the same images with batches of 20, k = 1. On the CPU the
arithmetic of a step grows with S, so the ratio is near S; on a GPU a step waits for its kernels to be launched, and S
members share the launches. A network of a few units shows the same on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from latentbench.core.seeds import derive
from latentbench.core.types import DataInfo
from latentbench.models.vae import VAE
from torch import Tensor

from perf.figures import Figure
from perf.model import LEARNING_RATE, PREPROCESS, ROWS, SIDE, build, generate
from perf.timing import interleaved, ratio

BATCH, SIZES = 20, (1, 4, 16)
#: Draws a row of runs that are stacked though they differ in them; each step is one of the most draws.
DRAWS = (1, 2, 4)
#: The most that 16 seeds may take on an H200, in times of one (issue 7). There is no target for the CPU.
TARGET = {"cuda": 2.0}

Builder = Callable[[int], torch.nn.Module]


def stacking(quick: bool) -> list[Figure]:
    """S = 1, 4, 16 stacked members over one run; members of differing k over as many runs."""
    torch.set_flush_denormal(True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.from_numpy(generate(ROWS, np.random.default_rng(0))["x"])
    steps = (2000 if device == "cuda" else 100) // (10 if quick else 1)
    figures = []
    for name, make, what in (("iwae", build, "IWAE's one-layer VAE, k=1"), ("small", _small, "a VAE of 8 units")):
        contenders: dict[str, Callable[[], Any]] = {"alone": partial(_alone, make, images, steps, device)}
        contenders |= {str(s): partial(_stacked, [make] * s, images, steps, device) for s in SIZES}
        times = interleaved(contenders, repeats=3 if quick else 5)
        figures += [
            ratio(
                f"stacking/{name}-{size}-{device}",
                f"{what}, batch {BATCH}, {steps} steps on {device}: {size} stacked over one run",
                times[str(size)],
                times["alone"],
                target=TARGET.get(device) if (name, size) == ("iwae", 16) else None,
                steps=steps,
                members=size,
            )
            for size in SIZES
        ]
    return [*figures, _differing_draws(images, steps, device, repeats=3 if quick else 5)]


def _differing_draws(images: Tensor, steps: int, device: str, repeats: int) -> Figure:
    """Three stacked runs of the small VAE that differ in k over the three one after another."""
    makers = [partial(_small, k=k) for k in DRAWS]

    def one_by_one() -> None:
        for make in makers:
            _alone(make, images, steps, device)

    contenders = {"stacked": partial(_stacked, makers, images, steps, device, draws="k"), "alone": one_by_one}
    times = interleaved(contenders, repeats=repeats)
    ks = ", ".join(map(str, DRAWS))
    return ratio(
        f"stacking/small-draws-{device}",
        f"a VAE of 8 units, batch {BATCH}, {steps} steps on {device}: k = {ks} stacked over one after another",
        times["stacked"],
        times["alone"],
        steps=steps,
        members=len(DRAWS),
    )


def _small(seed: int, k: int = 1) -> VAE:
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "init"))
        return VAE(DataInfo((SIDE * SIDE,), "binary", ROWS, levels=2), latent_dim=2, hidden=[8], k=k)


def _setting(images: Tensor, steps: int, device: str) -> tuple[Any, Any, Any]:
    """Fabric, source and protocol."""
    from latentbench.data.preprocess import build as build_pipeline
    from latentbench.data.registry import Column
    from latentbench.spec.protocol import Optimizer, Training
    from latentbench.training.source import Source
    from lightning.fabric import Fabric

    pipeline = build_pipeline(PREPROCESS, Column(shape=(SIDE, SIDE), dtype="uint8", levels=256))
    fabric = Fabric(accelerator=device, devices=1)
    fabric.launch()
    source = Source(images, {}, pipeline, fabric.device, SIDE * SIDE, augment=True)
    return fabric, source, Training(optimizer=Optimizer(name="adam", lr=LEARNING_RATE), batch_size=BATCH, steps=steps)


def _alone(make: Builder, images: Tensor, steps: int, device: str) -> None:
    from latentbench.training.loop import train

    fabric, source, spec = _setting(images, steps, device)
    train(make(0), source, None, spec, fabric, seed=0)


def _stacked(makers: Sequence[Builder], images: Tensor, steps: int, device: str, draws: str = "") -> None:
    from latentbench.training.member import Member
    from latentbench.training.stacked import train_stacked

    fabric, source, spec = _setting(images, steps, device)
    members = [Member(make(seed), spec, seed) for seed, make in enumerate(makers)]
    train_stacked(members, source, None, fabric, draws=draws)
