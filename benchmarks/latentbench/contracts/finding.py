"""What a contract test says, and where in the author's own code its cause lies."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from latentbench.core.errors import LatentbenchError

Run = Callable[[], str | None]
"""A contract test: it returns what is wrong, or nothing; whatever it raises is a finding, too."""


@dataclass(frozen=True)
class Finding:
    """One test on one subject.

    Attributes:
        subject, test: what was tested, and for what.
        why: what is wrong; empty where the test holds.
        skipped: why there was nothing to test.
        where: ``file:line`` of the author's code that a fault comes from; empty where it is not known.
    """

    subject: str
    test: str
    why: str = ""
    skipped: str = ""
    where: str = ""

    @property
    def holds(self) -> bool:
        return not self.why


class NotApplicable(Exception):
    """A test says why it has nothing to test here."""


class Wrong(Exception):
    """A test says what is wrong from within a function that it calls."""


@dataclass(frozen=True)
class Check:
    """A contract test and those that must hold before it means anything."""

    run: Run
    after: tuple[str, ...] = ()


def source_of(thing: object) -> str:
    """``file:line`` where a class or function is defined; empty where nobody knows."""
    try:
        target = inspect.unwrap(thing) if callable(thing) else thing
        return f"{inspect.getsourcefile(target)}:{inspect.getsourcelines(target)[1]}"  # type: ignore[arg-type]
    except (TypeError, OSError):
        return ""


def frame_of(error: BaseException, files: frozenset[str]) -> str:
    """The innermost frame of an error's traceback that lies in one of `files`, as ``file:line``; empty if none does."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if str(Path(f.filename).resolve()) in files]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def attempt(subject: str, test: str, run: Run, source: str = "", files: frozenset[str] = frozenset()) -> Finding:
    """Run a test.

    Args:
        subject, test: what is tested, and for what.
        run: the test.
        source: where the author's definition stands, for faults that no exception locates.
        files: the author's files, in whose frames an exception is located.
    """
    try:
        why = run() or ""
        return Finding(subject, test, why, where=source if why else "")
    except NotApplicable as e:
        return Finding(subject, test, skipped=str(e))
    except Wrong as e:
        return Finding(subject, test, str(e), where=source)
    except Exception as e:  # the author's code is what is tested
        said = " ".join(str(e).split())[:300]
        why = said if isinstance(e, LatentbenchError) else f"{type(e).__name__}: {said}"
        return Finding(subject, test, why, where=frame_of(e, files) or source)


def attempts(
    subject: str, tests: dict[str, Run | Check], source: str = "", files: frozenset[str] = frozenset()
) -> Iterator[Finding]:
    """`attempt` for each, in order, and each cause once.

    A test whose condition (`Check.after`) does not hold is skipped, and so is one that stops at the same error.
    """
    failed: set[str] = set()
    causes: dict[str, str] = {}
    for name, test in tests.items():
        run, after = (test.run, test.after) if isinstance(test, Check) else (test, ())
        if first := next((a for a in after if a in failed), None):
            failed.add(name)
            yield Finding(subject, name, skipped=f"it waits for: {first}")
            continue
        found = attempt(subject, name, run, source, files)
        if found.holds:
            yield found
            continue
        failed.add(name)
        cause = found.where if found.where != source else found.why  # a frame, or else the words
        if cause in causes:
            yield Finding(subject, name, skipped=f"it stops where this does: {causes[cause]}")
        else:
            causes[cause] = name
            yield found
