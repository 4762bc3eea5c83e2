"""Tests that may not begin any more are skipped and counted, and a run of none is a failure."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests import deadline


@pytest.fixture(autouse=True)
def nothing_ran(monkeypatch):
    monkeypatch.setattr(deadline, "_ran", set())


@pytest.mark.parametrize("until", [None, "", "inf", "1e12"])
def test_they_run_while_there_is_time(monkeypatch, until):
    monkeypatch.delenv(deadline.VARIABLE, raising=False)
    if until is not None:
        monkeypatch.setenv(deadline.VARIABLE, until)
    deadline.pytest_runtest_setup(SimpleNamespace())
    session = SimpleNamespace(exitstatus=pytest.ExitCode.OK)
    deadline.pytest_sessionfinish(session)
    assert session.exitstatus == pytest.ExitCode.OK


@pytest.mark.parametrize(("ran", "status"), [("passed", pytest.ExitCode.OK), (None, pytest.ExitCode.TESTS_FAILED)])
def test_none_begins_after_it_and_that_is_told(monkeypatch, ran, status):
    monkeypatch.setenv(deadline.VARIABLE, "1")
    with pytest.raises(pytest.skip.Exception, match="no time was left") as skipped:
        deadline.pytest_runtest_setup(SimpleNamespace())
    if ran:
        deadline.pytest_runtest_logreport(SimpleNamespace(when="call", outcome=ran))
    deadline.pytest_runtest_logreport(SimpleNamespace(when="setup", outcome="skipped"))
    session = SimpleNamespace(exitstatus=pytest.ExitCode.OK)
    deadline.pytest_sessionfinish(session)
    assert session.exitstatus == status
    lines: list[str] = []
    others = [SimpleNamespace(longrepr=("file", 3, "Skipped: needs data"))]
    reports = [SimpleNamespace(longrepr=("file", 3, str(skipped.value)))] * 2
    stats = {"skipped": [*others, *reports]}
    deadline.pytest_terminal_summary(SimpleNamespace(stats=stats, write_line=lines.append))
    assert lines == [f"2 tests were not run: {deadline.WHY}"]


def test_what_is_no_time_is_refused(monkeypatch):
    monkeypatch.setenv(deadline.VARIABLE, "soon")
    with pytest.raises(pytest.UsageError, match="'soon': give seconds"):
        deadline.pytest_configure(SimpleNamespace())
