"""pythae's default VAE on MNIST through our whole trainer, and by pythae's own.

Both train the same network (784-512-16-512-784, a Gaussian of unit variance on sigmoid means) with Adam on the same
rows in batches of 64. First both are given the same weights, order and noise, and their losses are compared step by
step; then each runs as it comes. The rest shows what a step gains from each thing that can be had around the
arithmetic.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from functools import partial
from typing import Any

import numpy as np
import torch
from latentbench.core.seeds import generator
from latentbench.core.types import Batch
from torch import Generator, Tensor, nn
from torch.nn import functional

from perf.figures import Figure
from perf.harness import quiet, step_by_step, trained
from perf.model import SIDE, generate
from perf.timing import Times, interleaved, ratio

LATENT, BATCH, RATE = 16, 64, 1e-4
ROWS = 12_800
#: Steps of the first epoch whose losses are compared, and the largest relative difference allowed (issue 7).
COMPARED, CLOSE = 40, 1e-5


class Copied(nn.Module):
    """A pythae VAE's network and loss, written for our trainer: the same parameters in the same order.

    Args:
        theirs: whose weights are copied.
    """

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        encoder, decoder = copy.deepcopy(theirs.encoder), copy.deepcopy(theirs.decoder)
        self.hidden, self.mean, self.log_var = encoder.layers[0][0], encoder.embedding, encoder.log_var
        self.back, self.out = decoder.layers[0][0], decoder.layers[1][0]

    def loss(self, batch: Batch, noise: Generator) -> dict[str, Tensor]:
        """Half the squared error plus the KL divergence, nats per sample up to a constant."""
        return {"loss": self.value(batch.x.flatten(1), torch.randn((len(batch.x), LATENT), generator=noise))}

    def value(self, x: Tensor, draws: Tensor) -> Tensor:
        """That of rows (N, 784) with draws (N, 16) of the noise."""
        h = functional.relu(self.hidden(x))
        mean, log_var = self.mean(h), self.log_var(h)
        z = torch.addcmul(mean, torch.exp(0.5 * log_var), draws)
        pixels = torch.sigmoid(self.out(functional.relu(self.back(z))))
        error = 0.5 * (pixels - x).square().sum(-1)
        kl = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(-1)
        return (error + kl).mean()


def pythae(quick: bool) -> list[Figure]:
    """Time a sample of our trainer over pythae's, and over its inner loop fed with ready batches; and what helps."""
    quiet()
    torch.set_flush_denormal(True)
    images, which = _images(ROWS // (5 if quick else 1))
    difference = _largest_difference(images)
    assert difference < CLOSE, f"the losses differ by {difference:.2g}"
    steps = len(images) // BATCH
    known = {"steps": steps, "batch": BATCH, "data": which, "largest_relative_difference_of_losses": difference}
    with tempfile.TemporaryDirectory(prefix="latentbench-pythae-") as folder:
        contenders: dict[str, Callable[[], Any]] = {
            "ours": lambda: _ours(images, steps),
            "pythae": lambda: _theirs(images, folder).train(),
            "its loop": lambda: _bare(_theirs(images, folder), images),
        }
        with redirect_stderr(io.StringIO()):  # its progress bar is a part of it, and nobody needs to see it
            times = interleaved(contenders)
    for name in contenders:
        known[f"{name}: samples a second"] = round(len(images) / float(np.median(times[name].wall)))
    what = f"default VAE on {which}, batch {BATCH}, an epoch of {len(images)} rows: our trainer over"
    known["load_average"] = [round(x, 2) for x in os.getloadavg()]
    return [
        ratio("pythae/trainer", f"{what} pythae's", times["ours"], times["pythae"], target=1.0, **known),
        ratio("pythae/loop", f"{what} pythae's training step fed with ready batches", times["ours"], times["its loop"]),
        *_what_helps(images, steps),
    ]


def _images(n: int) -> tuple[Tensor, str]:
    """(n, 28, 28) uint8, and which they are."""
    if os.environ.get("LATENTBENCH_MIRROR"):
        from latentbench.data.dataset import open_dataset

        return torch.from_numpy(open_dataset("mnist").split("train")["x"][:n].copy()), "MNIST"
    return torch.from_numpy(generate(n, np.random.default_rng(0))["x"]), "grey images of MNIST's shape"


def _their_model(seed: int = 0) -> Any:
    from pythae.models import VAE, VAEConfig

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return VAE(VAEConfig(input_dim=(1, SIDE, SIDE), latent_dim=LATENT))


def _theirs(images: Tensor, folder: str) -> Any:
    """pythae's trainer for an epoch, silent, which keeps its files below `folder`."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.base_trainer import base_trainer

    logging.getLogger(base_trainer.__name__).setLevel(logging.ERROR)
    logging.getLogger("pythae").setLevel(logging.ERROR)
    data = BaseDataset(images[:, None].float() / 255, torch.zeros(len(images)))
    config = BaseTrainerConfig(
        output_dir=folder,
        per_device_train_batch_size=BATCH,
        num_epochs=1,
        learning_rate=RATE,
        no_cuda=True,
    )
    return BaseTrainer(_their_model(), data, training_config=config)


def _bare(trainer: Any, images: Tensor) -> None:
    """pythae's training step over batches that are selected by index, without its files."""
    rows = images[:, None].float() / 255

    class Ready:
        dataset = rows

        def __iter__(self) -> Iterator[dict[str, Tensor]]:
            return ({"data": rows[index]} for index in torch.randperm(len(rows)).split(BATCH))

        def __len__(self) -> int:
            return -(-len(rows) // BATCH)

    trainer.train_loader = Ready()
    trainer.set_optimizer()
    trainer.set_scheduler()
    trainer._setup_callbacks()
    trainer.callback_handler.on_train_begin(trainer.training_config, model_config=trainer.model_config)
    trainer.train_step(1)


def _ours(images: Tensor, steps: int, on_log: Callable[[dict[str, float]], None] = lambda _: None) -> nn.Module:
    from latentbench.data.registry import Column

    column = Column(shape=(SIDE, SIDE), dtype="uint8", levels=256)
    return trained(Copied(_their_model()), images, ["to_unit"], column, BATCH, steps, RATE, on_log)


def _largest_difference(images: Tensor) -> float:
    """Largest relative difference of the losses of `COMPARED` steps, with our order and noise given to pythae."""
    losses: list[float] = []
    _ours(images, COMPARED, lambda row: losses.append(row["loss"]))
    model, noise = _their_model(), generator(0, "noise")

    def draw(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        eps = torch.randn(mean.shape, generator=noise)
        return mean + eps * std, eps

    model._sample_gauss = draw
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    rows = images[:, None].float() / 255
    order = torch.randperm(len(rows), generator=generator(0, "order", 0))
    differences = []
    for ours, index in zip(losses, order.split(BATCH), strict=False):
        out = model({"data": rows[index]})
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        differences.append(abs(ours - out.loss.item()) / out.loss.item())
    assert len(differences) == COMPARED
    return max(differences)


def _what_helps(images: Tensor, steps: int) -> list[Figure]:
    """Time of a loop with one thing changed over the plain one, whose optimiser is fused and which is not compiled."""
    rows = images.flatten(1).float() / 255
    loops = {
        "plain": partial(_loop, rows, steps),
        "default-adam": partial(_loop, rows, steps, fused=False),
        "gradients-kept": partial(_loop, rows, steps, keep=True),
        "transposed-weights": partial(_loop, rows, steps, transposed=True),
    }
    words = {
        "default-adam": "torch's default Adam instead of the fused one",
        "gradients-kept": "gradients set to zero instead of to none",
        "transposed-weights": "weights stored transposed",
        "compiled": "the loss compiled",
        "no-huge-pages": "without transparent huge pages",
    }
    try:
        compiled = torch.compile(Copied.value)
        _loop(rows, 5, compiled=compiled)
    except Exception as error:  # no compiler, or one that this version of torch does not know
        words["compiled"] += f": not here ({type(error).__name__})"
    else:
        loops["compiled"] = partial(_loop, rows, steps, compiled=compiled)
    times = interleaved(loops, repeats=5)
    times |= _huge_pages(len(images))
    pairs = {name: (name, "plain") for name in loops if name != "plain"} | {"no-huge-pages": ("off", "on")}
    return [
        ratio(f"pythae/{name}", f"a step: {words[name]}, over the plain loop", times[a], times[b])
        for name, (a, b) in pairs.items()
    ]


def _loop(
    rows: Tensor,
    steps: int,
    *,
    fused: bool = True,
    keep: bool = False,
    transposed: bool = False,
    compiled: Callable[..., Tensor] | None = None,
) -> None:
    model: Any = Copied(_their_model())
    if transposed:
        for layer in (m for m in model.modules() if isinstance(m, nn.Linear)):
            layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())
    if compiled is not None:
        model.loss = lambda batch, noise: {
            "loss": compiled(model, batch.x, torch.randn((len(batch.x), LATENT), generator=noise))
        }
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=fused)
    if keep:
        optimizer.zero_grad = partial(optimizer.zero_grad, set_to_none=False)  # type: ignore[method-assign]
    step_by_step(model, optimizer, rows, BATCH, steps)


def _huge_pages(n: int) -> dict[str, Times]:
    """The plain loop in processes of their own, since torch reads the setting when it starts."""
    wall: dict[str, list[float]] = {"on": [], "off": []}
    for _ in range(3):
        for name, value in (("on", "1"), ("off", "0")):
            environment = os.environ | {"THP_MEM_ALLOC_ENABLE": value}
            done = subprocess.run(
                [sys.executable, "-m", "perf.pythae_vae", str(n)], env=environment, capture_output=True, check=True
            )
            wall[name].append(float(done.stdout))
    return {name: Times(np.array(seconds), np.array(seconds)) for name, seconds in wall.items()}


def _timed_loop(n: int) -> float:
    """Seconds of the plain loop on `n` images, after a short one."""
    torch.set_flush_denormal(True)
    rows = _images(n)[0].flatten(1).float() / 255
    _loop(rows, 20)
    started = time.perf_counter()
    _loop(rows, n // BATCH)
    return time.perf_counter() - started


if __name__ == "__main__":
    print(_timed_loop(int(sys.argv[1])))
