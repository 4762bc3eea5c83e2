"""How runs are carried out; nothing here changes what they measure, but for the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latentbench.scheduling.tracking import Mode

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
        weights: keep each run's final weights beside its record.
        force: run again what has a record.
        checkpoint_seconds: time between two checkpoints of a training.
        compile: whether losses are compiled.
    """

    results: Path
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    wandb: Mode = "disabled"
    weights: bool = True
    force: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    devices: int = 1
    compile: Compile = "off"


@dataclass(frozen=True)
class Told:
    """What a run says of itself while it goes on."""

    cell: str
    phase: str
    step: int = 0
    steps: int = 0
    samples_per_second: float = 0.0
