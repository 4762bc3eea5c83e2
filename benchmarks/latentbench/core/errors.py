"""Errors that a user can mend, and how they are worded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class LatentbenchError(Exception):
    """Base of every error that this package raises on purpose."""


class UserError(LatentbenchError):
    """Wrong input: one line that says where, what and how to mend it (exit code 2).

    Args:
        what: what is wrong, in one clause.
        where: a file, or a command-line option; `line` is added to a file as ``file:line``.
        fix: how to mend it, in one clause.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        line: int | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.line, self.fix = what, where, line, fix
        #: What else is wrong in the same place, where more than the first fault is known.
        self.also: tuple[UserError, ...] = ()
        super().__init__(str(self))

    def __str__(self) -> str:
        place = ""
        if self.where is not None:
            place = f"{self.where}:{self.line}: " if self.line is not None else f"{self.where}: "
        fix = f" ({self.fix})" if self.fix else ""
        return " ".join(f"{place}{self.what}{fix}".split())


class Diverged(LatentbenchError):
    """Training or a metric produced NaN or an infinite value: an outcome, kept in the record."""


def did_you_mean(name: str, known: Iterable[str], shown_by: str = "`latentbench list`") -> str:
    """A hint for a misspelt name: the nearest known ones, or all of them where they are few, or what shows them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(n) for n in near) + "?"
    if len(known) <= 12:
        return "known: " + ", ".join(known)
    return f"{len(known)} are known; {shown_by} shows them"
