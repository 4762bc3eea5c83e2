"""What a contract test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from latentbench.core.errors import LatentbenchError


@dataclass(frozen=True)
class Finding:
    """One test on one subject. `why` is empty where it holds; `skipped` where it does not apply, with the reason."""

    subject: str
    test: str
    why: str = ""
    skipped: str = ""

    @property
    def holds(self) -> bool:
        return not self.why


class NotApplicable(Exception):
    """A test says why it has nothing to test here."""


def attempt(subject: str, test: str, run: Callable[[], str | None]) -> Finding:
    """Run a test: it returns what is wrong, or nothing; whatever it raises is a finding, too."""
    try:
        return Finding(subject, test, run() or "")
    except NotApplicable as e:
        return Finding(subject, test, skipped=str(e))
    except LatentbenchError as e:
        return Finding(subject, test, str(e))
    except Exception as e:  # the author's code is what is tested
        return Finding(subject, test, f"{type(e).__name__}: {' '.join(str(e).split())[:300]}")


def attempts(subject: str, tests: dict[str, Callable[[], str | None]]) -> Iterator[Finding]:
    """`attempt` for each, in order."""
    for name, run in tests.items():
        yield attempt(subject, name, run)
