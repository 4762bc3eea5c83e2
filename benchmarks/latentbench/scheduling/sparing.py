"""Reports of a run that goes on elsewhere: each change of phase at once, and of the rest as much as is read."""

from __future__ import annotations

import time

from latentbench.running.observer import ProgressReport, Report


def sparing(tell: Report, interval: float) -> Report:
    """`tell`, but within a phase of a run no more often than every `interval` seconds."""
    phase, told = ("", ""), 0.0

    def report(what: ProgressReport) -> None:
        nonlocal phase, told
        now = time.monotonic()
        if (what.cell, what.phase) != phase or now - told > interval:
            phase, told = (what.cell, what.phase), now
            tell(what)

    return report
