"""A progress bar for each run that is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.core.console import Bar, Display

if TYPE_CHECKING:
    from benchmarks.runner.settings import Told


class RunBars:
    """Bars on a screen, by the run's cell."""

    def __init__(self, screen: Display) -> None:
        self._screen = screen
        self._bars: dict[str, Bar] = {}

    def told(self, what: Told) -> None:
        """Show what a run says of itself; its bar appears with its first word."""
        bar = self._bars.get(what.cell) or self._bars.setdefault(what.cell, self._screen.bar(what.cell))
        speed = f", {what.samples_per_second:,.0f} samples/s" if what.samples_per_second else ""
        bar.update(what.step, what.steps or None, what.phase + speed)

    def close(self, cell: str) -> None:
        """Take the bar of a run that has ended off the screen."""
        if (bar := self._bars.pop(cell, None)) is not None:
            bar.close()
