"""How long steps report themselves: a callback, so that the command line may draw what it likes."""

from __future__ import annotations

from typing import Protocol

from latentbench.core.console import note


class Progress(Protocol):
    """Called as work goes on.

    Args of the call:
        what: what is being done, e.g. ``mnist: train-images-idx3-ubyte.gz``; stays the same while `done` rises.
        done, total: units done and to do (bytes or rows); `total` is None where unknown.
    """

    def __call__(self, what: str, done: int = 0, total: int | None = None) -> None: ...


def silent(what: str, done: int = 0, total: int | None = None) -> None:
    """Reports nothing."""


def to_stderr(what: str, done: int = 0, total: int | None = None) -> None:  # noqa: ARG001
    """One line at the start of each step."""
    if done == 0:
        note(what)
