"""What the processes that runs start have in common."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from latentbench.core.interrupts import OF_THE_GROUP


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


@contextmanager
def without_interrupts() -> Iterator[None]:
    """A process started inside the block holds Ctrl-C, and whatever else the group gets, back until it ignores it
    (`latentbench.core.interrupts.leave_to_parent`); here it comes after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_THE_GROUP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_MEANING = {
    "SIGKILL": "the system kills a process that takes too much memory",
    "SIGBUS": "a file that it was reading, such as prepared data, was cut short; `latentbench data verify` says which",
}


def exit_description(code: int | None) -> str:
    """How a process ended that gave no answer, by its exit code as `multiprocessing` has it."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}; {_MEANING[name]}" if name in _MEANING else name
    return f"exit code {code}"
