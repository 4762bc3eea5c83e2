"""A progress bar for each run that is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentbench.core.console import Bar, Display

if TYPE_CHECKING:
    from latentbench.running.observer import ProgressReport

#: Phases of a run that go by their own name; the others are metrics.
PHASES = ("data", "training", "evaluation")


class RunBars:
    """Bars on a screen, by the run's cell."""

    def __init__(self, screen: Display) -> None:
        self._screen = screen
        self._bars: dict[str, Bar] = {}

    def show(self, what: ProgressReport) -> None:
        """Show what a run says of itself; its bar appears with its first word."""
        bar = self._bars.get(what.cell) or self._bars.setdefault(what.cell, self._screen.bar(what.cell))
        speed = f", {what.samples_per_second:,.0f} samples/s" if what.samples_per_second else ""
        if what.steps:
            bar.update(what.step, what.steps, what.phase + speed)
        else:  # a phase that counts no steps: those of the training say nothing of it
            bar.update(None, text=what.phase if what.phase in PHASES else f"evaluating {what.phase}")

    def close(self, cell: str) -> None:
        """Take the bar of a run that has ended off the screen."""
        if (bar := self._bars.pop(cell, None)) is not None:
            bar.close()
