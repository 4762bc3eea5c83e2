"""A run as this machine does it: accelerated as its settings ask, mirrored to wandb, with pictures."""

from __future__ import annotations

from latentbench.acceleration.accelerated import Accelerated
from latentbench.planning.plan import RunSpec
from latentbench.records.record import Record
from latentbench.running import one
from latentbench.running.observer import Report
from latentbench.running.settings import Settings
from latentbench.scheduling.following import follow_run


def perform(
    spec: RunSpec, settings: Settings, report: Report = lambda _: None, *, wait: bool = True
) -> tuple[Record, bool]:
    """See `latentbench.running.one.perform`."""
    return one.perform(spec, settings, Accelerated(), report, follow_run, wait=wait)


def give_up(spec: RunSpec, settings: Settings, why: str) -> tuple[Record, bool]:
    """See `latentbench.running.one.give_up`."""
    return one.give_up(spec, settings, why, Accelerated())
