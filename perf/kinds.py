"""What the harness costs for other kinds of model than the VAE: a coupling flow on vectors, a small U-Net on images.

Held against the shortest hand-written loop, as in `perf.harness`: the same model class, data, order, optimiser and
threads, and the same bits after the first steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from latentbench.core.seeds import derive
from latentbench.core.types import DataInfo
from latentbench.models.coupling import CouplingFlow
from latentbench.models.diffusion.vdm import VDM
from torch import Tensor

from perf.figures import Figure
from perf.harness import COMPARED, TARGET, Model, quiet, step_by_step, trained
from perf.model import LEARNING_RATE
from perf.timing import interleaved, ratio


@dataclass(frozen=True)
class Kind:
    """A model and what it trains on.

    Attributes:
        what: the model and its data, in words.
        shape: of a row; rows are standard normal, and enter as they are.
        make: the model.
        batch, steps: of training.
    """

    what: str
    shape: tuple[int, ...]
    make: Callable[[DataInfo], Model]
    batch: int
    steps: int

    def rows(self) -> Tensor:
        """(4096, *shape) float32."""
        return torch.from_numpy(np.random.default_rng(0).standard_normal((4096, *self.shape), dtype=np.float32))

    def build(self) -> Model:
        """With the initial weights of a run with seed 0."""
        with torch.random.fork_rng():
            torch.manual_seed(derive(0, "init"))
            return self.make(DataInfo(self.shape, "real", 4096))


KINDS = {
    "flow": Kind("coupling flow (8 couplings, 64-64) on 2 coordinates", (2,), CouplingFlow, 200, 400),
    "unet": Kind(
        "diffusion with a U-Net (16 channels, 2 resolutions) on 1x8x8 images",
        (1, 8, 8),
        partial(VDM, network={"unet": {"width": 16}}),
        32,
        100,
    ),
}


def kinds(quick: bool) -> list[Figure]:
    """The training loop over the hand-written one, both with fused Adam."""
    quiet()
    torch.set_flush_denormal(True)  # as in every run: for both
    figures = []
    for name, kind in KINDS.items():
        rows, steps = kind.rows(), kind.steps // (5 if quick else 1)
        harness = partial(_through_loop, kind, rows)
        hand = partial(_by_hand, kind, rows)
        ours, theirs = (torch.cat([p.detach().flatten() for p in f(COMPARED).parameters()]) for f in (harness, hand))
        assert torch.equal(ours, theirs), f"{name}: the loops do not end in the same bits"
        times = interleaved({"harness": partial(harness, steps), "hand": partial(hand, steps)})
        what = f"{kind.what}, batch {kind.batch}, {steps} steps: training loop over hand-written loop"
        figures.append(
            ratio(f"kinds/{name}", what, times["harness"], times["hand"], target=TARGET, steps=steps, batch=kind.batch)
        )
    return figures


def _by_hand(kind: Kind, rows: Tensor, steps: int) -> Model:
    model = kind.build()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    return step_by_step(model, optimizer, rows, kind.batch, steps)


def _through_loop(kind: Kind, rows: Tensor, steps: int) -> Model:
    from latentbench.data.registry import Column

    return trained(kind.build(), rows, [], Column(shape=kind.shape, dtype="float32"), kind.batch, steps)
