"""What the harness costs: a VAE trained through it, and by the shortest loop that ends in the same weights.

Both sides have the same model class, data on the device, order, binarisation noise, optimiser settings, number of steps
and threads, and the weights that come out of the first steps are compared bit for bit before anything is timed.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from latentbench.core.seeds import generator
from latentbench.core.types import Batch
from torch import Generator, Tensor

from perf.figures import Figure
from perf.model import LEARNING_RATE, PREPROCESS, ROWS, SIDE, build, generate
from perf.timing import interleaved, ratio

if TYPE_CHECKING:
    from latentbench.data.registry import Column
    from lightning.fabric.strategies import Strategy

#: The most that the harness may cost (issue 2).
TARGET = 1.10
BATCHES = (20, 100)
#: Steps after which weights are compared, and how close they are where only the optimiser's kernel differs: rounding
#: grows from step to step.
COMPARED, CLOSE = 50, 1e-4

Model = torch.nn.Module


def by_hand(images: Tensor, batch: int, steps: int, *, fused: bool | None, seed: int = 0) -> Model:
    """The shortest loop: (N, 28, 28) uint8 `images`, binarised anew each time, Adam."""
    model = build(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=fused)

    def binarise(rows: Tensor, noise: Generator) -> Tensor:
        grey = rows.float() / 255
        return (torch.rand(grey.shape, generator=noise) < grey).float()

    return step_by_step(model, optimizer, images.flatten(1), batch, steps, binarise, seed=seed)


def step_by_step(
    model: Model,
    optimizer: torch.optim.Optimizer,
    rows: Tensor,
    batch: int,
    steps: int,
    prepare: Callable[[Tensor, Generator], Tensor] | None = None,
    *,
    seed: int = 0,
) -> Model:
    """A loop with nothing in it but the steps; `prepare` makes the model's input of the rows of a batch."""
    noise, done, epoch = generator(seed, "noise"), 0, 0
    while done < steps:
        order = torch.randperm(len(rows), generator=generator(seed, "order", epoch))
        for index in order.split(batch)[: steps - done]:
            x = rows[index] if prepare is None else prepare(rows[index], noise)
            loss = model.loss(Batch(x, len(rows), done, done / steps), noise)["loss"]  # type: ignore[operator]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
        epoch += 1
    return model


def through_loop(images: Tensor, batch: int, steps: int) -> Model:
    """The same through the harness."""
    from latentbench.data.registry import Column

    column = Column(shape=(SIDE, SIDE), dtype="uint8", levels=256)
    return trained(build(), images, PREPROCESS, column, batch, steps)


def trained(
    model: Model,
    rows: Tensor,
    preprocess: list[Any],
    column: Column,
    batch: int,
    steps: int,
    lr: float = LEARNING_RATE,
    on_log: Callable[[dict[str, float]], None] = lambda _: None,
    device: str = "cpu",
    strategy: Strategy | None = None,
) -> Model:
    """`latentbench.training.loop.train`: Fabric, on its plain strategy or another, a source on the device, curve and
    progress."""
    from latentbench.data.preprocess import build as build_pipeline
    from latentbench.spec.protocol import Optimizer, Training
    from latentbench.training.loop import train
    from latentbench.training.source import Source
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator=device, devices=1, **({} if strategy is None else {"strategy": strategy}))
    fabric.launch()
    source = Source(rows, {}, build_pipeline(preprocess, column), fabric.device, rows[0].numel(), augment=True)
    spec = Training(optimizer=Optimizer(name="adam", lr=lr), batch_size=batch, steps=steps)
    train(model, source, None, spec, fabric, seed=0, on_log=on_log)
    return model


def through_trainer(images: Tensor, batch: int, steps: int) -> Model:
    """Lightning's Trainer around the least module, all its extras off; index batches as the loops have them."""
    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader, IterableDataset

    model, rows, noise = build(), images.flatten(1), generator(0, "noise")

    class Indices(IterableDataset[Tensor]):
        epoch = 0

        def __iter__(self) -> Iterator[Tensor]:
            order = torch.randperm(len(rows), generator=generator(0, "order", self.epoch))
            self.epoch += 1
            return iter(order.split(batch))

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, index: Tensor, _: int) -> Tensor:
            grey = rows[index].float() / 255
            x = (torch.rand(grey.shape, generator=noise) < grey).float()
            return self.model.loss(Batch(x, len(rows)), noise)["loss"]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE, fused=True)

    off: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "barebones"), False
    )
    trainer = Trainer(accelerator="cpu", devices=1, max_steps=steps, **off)
    trainer.fit(Module(), DataLoader(Indices(), batch_size=None))
    return model


def loop(quick: bool) -> list[Figure]:
    """The training loop alone, and Lightning's Trainer beside it."""
    quiet()
    torch.set_flush_denormal(True)  # as in every run: for all contenders
    images = torch.from_numpy(generate(ROWS, np.random.default_rng(0))["x"])
    figures = []
    for batch in BATCHES:
        steps = {20: 800, 100: 400}[batch] // (10 if quick else 1)
        contenders: dict[str, Callable[[int], Model]] = {
            "harness": partial(through_loop, images, batch),
            "hand, fused Adam": partial(by_hand, images, batch, fused=True),
            "hand": partial(by_hand, images, batch, fused=None),
            "Trainer": partial(through_trainer, images, batch),
        }
        distance = _distances(contenders)
        times = interleaved({name: partial(train, steps) for name, train in contenders.items()})
        known: dict[str, Any] = {"steps": steps, "batch": batch, "largest_difference_of_weights": distance}
        against = f"batch {batch}, {steps} steps: training loop over hand-written loop"
        figures += [
            ratio(
                f"loop/batch-{batch}-fused",
                f"{against}, both with fused Adam",
                times["harness"],
                times["hand, fused Adam"],
                target=TARGET,
                **known,
            ),
            ratio(
                f"loop/batch-{batch}-default",
                f"{against} with torch's default Adam",
                times["harness"],
                times["hand"],
                target=TARGET,
                **known,
            ),
            ratio(
                f"loop/batch-{batch}-trainer",
                f"batch {batch}, {steps} steps: Lightning's Trainer over hand-written loop, both with fused Adam",
                times["Trainer"],
                times["hand, fused Adam"],
                **known,
            ),
        ]
    return figures


def _distances(contenders: dict[str, Callable[[int], Model]]) -> dict[str, float]:
    """Largest difference of any weight from the first contender's after `COMPARED` steps.

    Raises:
        AssertionError: they did not train the same model.
    """
    weights = {
        name: torch.cat([p.detach().flatten() for p in train(COMPARED).parameters()])
        for name, train in contenders.items()
    }
    first, *others = weights
    distance = {name: float((weights[name] - weights[first]).abs().max()) for name in others}
    assert distance.get("hand, fused Adam", 0.0) == 0.0, "the loops do not end in the same bits"
    assert max(distance.values()) < CLOSE, f"the loops do not train the same model: {distance}"
    return distance


def quiet() -> None:
    """No word from Lightning."""
    import lightning.pytorch  # noqa: F401  it sets its loggers' levels when it is imported

    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
