"""Settings of sbatch as a command line gives them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.core.errors import UserError

Setting = str | int


def settings_of(given: Sequence[str]) -> dict[str, Setting]:
    """``key=value``, several of them with commas between, as settings of sbatch; ``time`` in minutes or ``D-HH:MM:SS``.

    Raises:
        UserError: one has no value, or the time is none.
    """
    found: dict[str, Setting] = {}
    for part in (p for text in given for p in text.split(",") if p.strip()):
        key, equals, value = part.partition("=")
        key, value = key.strip().lstrip("-").replace("-", "_"), value.strip()
        if not equals or not key.isidentifier() or not value or not value.isprintable():
            raise UserError(f"{part!r} is no setting", where="--slurm", fix="e.g. --slurm partition=a100,time=4:00:00")
        found[key] = _minutes(value) if key == "time" else int(value) if value.isdigit() else value
    return found


def _minutes(text: str) -> int:
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(p.isdigit() for p in parts) or (days and not days.isdigit()) or len(parts) > 3:
        raise UserError(f"{text!r} is no time", where="--slurm time", fix="e.g. 240, 4:00:00 or 1-12:00:00")
    numbers = [int(p) for p in parts]
    if days:  # D-HH[:MM[:SS]]
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:  # MM[:SS]
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    return max(1, int(days or 0) * 1440 + hours * 60 + minutes + (seconds > 0))
