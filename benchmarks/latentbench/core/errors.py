"""Errors that a user can mend, and how they are worded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from latentbench.core.bounds import shortened


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
        return shortened(" ".join(f"{place}{self.what}{fix}".split()))


class Diverged(LatentbenchError):
    """Training or a metric produced NaN or an infinite value: an outcome, kept in the record."""


#: Characters of a name for which others are looked up that are like it: what takes time in its square.
LONGEST_NAME = 100


def did_you_mean(name: str, known: Iterable[str], shown_by: str = "`latentbench list`") -> str:
    """A hint for a misspelt name: the nearest known ones, or all of them where they are few, or what shows them.

    Case, hyphens, underscores and spaces count for nothing: ``Beta_TCVAE`` is near ``beta-tcvae``.
    """
    known = sorted(known)
    near = nearest(name[:LONGEST_NAME], known)
    if near:
        return "did you mean " + " or ".join(repr(n) for n in near) + "?"
    if len(known) <= 12:
        return "known: " + (", ".join(known) or "none")
    return f"{len(known)} are known; {shown_by} shows them"


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Up to `n` names that are spelt most like `name`, those with the same letters and digits first."""
    by_letters: dict[str, list[str]] = {}
    for one in known:
        by_letters.setdefault(_letters(one), []).append(one)
    wanted = _letters(name)
    close = difflib.get_close_matches(wanted, by_letters, n=n, cutoff=0.6) if wanted else []
    if len(wanted) >= 3:  # a part of the name, or a name with more to it
        close += [k for k in by_letters if k not in close and (wanted in k or (len(k) >= 4 and k in wanted))]
    return [one for letters in close for one in by_letters[letters]][:n]


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
