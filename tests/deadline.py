"""Tests for which no time is left are skipped, counted and named as such.

``LATENTBENCH_TESTS_UNTIL``, seconds since 1970, says until when tests may begin: on a machine on which all of them
would outlast the patience of whoever waits, some answer is better than none. Those of what changed come first, slow
ones last (`tests.selection`).
"""

from __future__ import annotations

import os
import time

import pytest

VARIABLE = "LATENTBENCH_TESTS_UNTIL"
WHY = f"no time was left ({VARIABLE})"
#: Outcomes of the tests that ran.
_ran: set[str] = set()


def pytest_configure(config: pytest.Config) -> None:
    try:
        _until()
    except ValueError:
        raise pytest.UsageError(f"{VARIABLE} is {os.environ[VARIABLE]!r}: give seconds since 1970") from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if time.time() > _until():
        pytest.skip(WHY)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where not one test began in time, nothing was tested, and that is a failure."""
    if time.time() > _until() and not _ran:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the process that gathers what workers report."""
    if report.when == "call":
        _ran.add(report.outcome)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if left := sum(WHY in str(report.longrepr) for report in skipped):
        terminalreporter.write_line(f"{left} tests were not run: {WHY}")


def _until() -> float:
    return float(os.environ.get(VARIABLE) or "inf")
