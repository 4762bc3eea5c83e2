"""What carries runs out somewhere else than in this process and its children."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from latentbench.planning.plan import RunSpec
from latentbench.running.observer import Report
from latentbench.running.settings import Settings
from latentbench.scheduling.local import OnDone

Device = Literal["cpu", "cuda"]


class Executor(Protocol):
    """Carries out runs somewhere else."""

    def device(self, wanted: Literal["auto", "cpu", "cuda"]) -> Device:
        """The device of its runs.

        Raises:
            UserError: it has no such one.
        """

    def preview(self, runs: Sequence[RunSpec], wanted: Literal["auto", "cpu", "cuda"]) -> str | None:
        """What it would hand over for `runs` on the device `wanted`, as text; None where there is no such thing."""

    def run_all(self, runs: Sequence[RunSpec], settings: Settings, report: Report, on_done: OnDone) -> None:
        """As `latentbench.scheduling.local.run_all`: each run once, its record in the results before `on_done`."""
