"""Times taken side by side: A, B, A, B …, so that what else the machine does falls on both alike."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perf.figures import Figure

REPEATS = 7
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Times:
    """Seconds of one contender's repeats: wall clock, and processor time of this process and its children."""

    wall: np.ndarray
    cpu: np.ndarray


class Laps:
    """Seconds since the last lap, or the start, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def __call__(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._since, 4)
        self._since = now


def interleaved(
    contenders: Mapping[str, Callable[[], Any]], *, repeats: int = REPEATS, warm_up: int = 1
) -> dict[str, Times]:
    """Run the contenders in turn, `warm_up` rounds untimed and `repeats` rounds timed."""
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warm_up + repeats):
        for name, call in contenders.items():
            gc.collect()
            spent, started = _processor(), time.perf_counter()
            call()
            seconds, work = time.perf_counter() - started, _processor() - spent
            if turn >= warm_up:
                wall[name].append(seconds)
                cpu[name].append(work)
    return {name: Times(np.array(wall[name]), np.array(cpu[name])) for name in contenders}


def _processor() -> float:
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Median and its 95 % percentile-bootstrap interval; the same for the same values."""
    values = np.asarray(values, dtype=float)
    draws = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def ratio(name: str, what: str, ours: Times, theirs: Times, *, target: float | None = None, **details: Any) -> Figure:
    """Our time over theirs: median of the ratios within a round. Details hold the same of processor time."""
    value, low, high = interval(ours.wall / theirs.wall)
    return Figure(
        name,
        what,
        value,
        low,
        high,
        target=target,
        repeats=len(ours.wall),
        details={
            "cpu_ratio": float(np.median(ours.cpu / theirs.cpu)),
            "ours_s": float(np.median(ours.wall)),
            "theirs_s": float(np.median(theirs.wall)),
            **details,
        },
    )


def seconds(name: str, what: str, times: Times, *, target: float | None = None, **details: Any) -> Figure:
    """Wall seconds; details hold processor seconds, which other people's load does not stretch."""
    value, low, high = interval(times.wall)
    return Figure(
        name,
        what,
        value,
        low,
        high,
        unit="s",
        target=target,
        repeats=len(times.wall),
        details={"cpu_s": float(np.median(times.cpu)), "best_s": float(times.wall.min()), **details},
    )
