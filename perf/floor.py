"""`python -m perf.floor iwae --dataset mnist`: the arithmetic that a suite's trainings cannot do without.

Operations are counted on the real model's loss and gradient of one batch (`torch.utils.flop_counter`: matrix products
and convolutions, two operations a multiply-add), times the protocol's steps; bytes are the least that a step moves for
weights, gradients and Adam's two moments, and for a batch's rows. On a device with the given peaks no implementation is
faster than the larger of the two times, and where several runs train side by side their floors add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import click
import torch
from latentbench.core.imports import load
from latentbench.core.seeds import generator
from latentbench.core.types import Batch
from latentbench.planning.plan import RunSpec, plan
from latentbench.running.experiment import build_model
from latentbench.running.run_data import load_data
from latentbench.spec.loading import load_suite
from latentbench.spec.protocol import Training
from latentbench.training.order import total_steps
from torch.utils.flop_counter import FlopCounterMode

#: name -> (dense operations a second, bytes a second), from the makers' data sheets.
DEVICES = {
    "h200-fp32": (67e12, 4.8e12),
    "h200-tf32": (494e12, 4.8e12),
    "h200-bf16": (989e12, 4.8e12),
}
#: Reads of weight, gradient and two moments; writes of gradient, weight and the moments.
MOVED = 8


@dataclass(frozen=True)
class Work:
    """What one run's training needs: steps, operations, bytes."""

    steps: int
    flops: float
    bytes: float

    def seconds(self, device: str) -> float:
        rate, bandwidth = DEVICES[device]
        return max(self.flops / rate, self.bytes / bandwidth)


def work(spec: RunSpec) -> Work:
    """Counted on one batch; nothing is trained."""
    data = load_data(spec)
    training = Training.model_validate(spec.training)
    model = build_model(spec, data.info)
    rows = min(training.batch_size, len(data.splits["train"]))
    noise = generator(0, "noise")
    x, _ = data.pipeline.forward(data.splits["train"][:rows], noise)
    columns = {k: torch.from_numpy(v[:rows].copy()) for k, v in data.columns["train"].items()}
    with FlopCounterMode(display=False) as counter:
        model.loss(Batch(x, len(data.splits["train"]), 0, 0.0, columns), noise)["loss"].backward()
    steps = total_steps(training, len(data.splits["train"]))
    weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
    moved = 4.0 * (MOVED * weights + x.numel())
    return Work(steps, float(counter.get_total_flops()) * steps, moved * steps)


@click.command()
@click.argument("suite")
@click.option("--tier", type=click.Choice(["smoke", "cpu", "paper"]), default="paper", show_default=True)
@click.option("--method", multiple=True, help="Only these; a pattern, repeatable.")
@click.option("--dataset", multiple=True, help="Only these.")
@click.option("--device", type=click.Choice(list(DEVICES)), multiple=True, help="Peaks to divide by; all by default.")
def main(suite: str, tier: str, method: tuple[str, ...], dataset: tuple[str, ...], device: tuple[str, ...]) -> None:
    """Print steps, operations and the least seconds of each method's training, one seed, and their sum."""
    devices = device or tuple(DEVICES)
    click.echo(
        "  ".join([f"{'method':24}", f"{'steps':>10}", f"{'PFLOP':>8}", f"{'TB':>8}", *(f"{d:>10}" for d in devices)])
    )
    total = Work(0, 0.0, 0.0)
    seconds = dict.fromkeys(devices, 0.0)
    for spec in plan(load_suite(suite), tier, seeds=[0], methods=method, datasets=dataset):  # type: ignore[arg-type]
        if not hasattr(load(spec.target), "loss"):
            continue
        one = work(spec)
        _show(f"{spec.method} {spec.dataset}", one, {d: one.seconds(d) for d in devices})
        total = Work(total.steps + one.steps, total.flops + one.flops, total.bytes + one.bytes)
        seconds = {d: s + one.seconds(d) for d, s in seconds.items()}
    _show("all", total, seconds)


def _show(name: str, one: Work, seconds: dict[str, float]) -> None:
    times = (f"{s:>8.0f} s" for s in seconds.values())
    click.echo(
        "  ".join([f"{name:24}", f"{one.steps:>10,}", f"{one.flops / 1e15:>8.2f}", f"{one.bytes / 1e12:>8.1f}", *times])
    )


if __name__ == "__main__":
    main()
