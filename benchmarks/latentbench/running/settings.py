"""How runs are carried out; nothing here changes what they measure, but for the device.

An attempt itself looks at none of `devices`, `compile`, `wandb`, `tensorboard` and `pictures`: those are for its
conductor and its observer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from latentbench.records.design import Design

#: What wandb does with a run.
Tracking = Literal["online", "offline", "disabled"]
#: Whether losses are compiled: never, where timing says so, always, or always and as CUDA graphs.
Compile = Literal["off", "auto", "on", "graphs"]
#: Seconds between two checkpoints of a training, where nobody says.
CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Settings:
    """See the module.

    Attributes:
        results: folder of the records.
        device: ``cpu`` or ``cuda``.
        threads: torch threads of a process.
        devices: that one run is spread over: GPUs, or processes on the CPU.
        wandb: tracking mode.
        tensorboard: write event files for TensorBoard.
        weights: keep each run's final weights beside its record.
        force: run again what has a record.
        checkpoint_seconds: time between two checkpoints of a training.
        compile: whether losses are compiled.
        designs: how many seeds were asked for, by suite, as records say it; unknown of a suite that is not named.
        pictures: make pictures of one seed of each method.
    """

    results: Path
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    wandb: Tracking = "disabled"
    weights: bool = True
    force: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    devices: int = 1
    compile: Compile = "off"
    designs: Mapping[str, Design] = field(default_factory=dict)
    pictures: bool = False
    tensorboard: bool = False
