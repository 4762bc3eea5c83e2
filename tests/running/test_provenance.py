"""Where a run happened."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import torch
from latentbench.running import provenance

from tests.project import REPOSITORY


def test_time_is_utc_to_the_second():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", provenance.now())
    assert abs((datetime.fromisoformat(provenance.now()) - datetime.now(UTC)).total_seconds()) < 5


def test_packages_are_those_installed():
    assert provenance.packages()["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"numpy", "scipy", "lightning"} <= set(provenance.packages())


def test_the_revision_is_gits():
    forget()
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True)
    revision, dirty = provenance.git_state()
    assert revision == (asked.stdout.strip() if asked.returncode == 0 else None)
    assert (dirty is None) == (revision is None)


def forget():
    for known in (provenance.git_state, provenance.git_fault, provenance._asked_git):
        known.cache_clear()


@pytest.fixture
def somebody_elses(monkeypatch):
    """git refuses to say anything of a checkout that another user owns."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    forget()
    yield
    forget()


@pytest.mark.skipif(shutil.which("git") is None or not (REPOSITORY / ".git").exists(), reason="no git here")
def test_a_revision_that_git_does_not_tell_is_said(somebody_elses, project, monkeypatch):
    assert provenance.git_state() == (None, None)
    assert "the git revision is not known: fatal: detected dubious ownership" in provenance.git_fault()
    assert project.run(project.suite(), "--method", "floor", "--seeds", "1", "--quiet").code == 0
    (record,) = project.records().values()
    assert record.provenance.git_revision is None
    assert record.provenance.faults == [provenance.git_fault()]
    assert "dubious ownership" in project("doctor").out


def test_a_machine_without_git_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    forget()
    try:
        assert provenance.git_state() == (None, None)
        assert "git cannot be asked" in provenance.git_fault()
    finally:
        forget()


def test_the_command_says_what_not_where(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/somebody/secret/bin/latentbench", "run", "small"])
    assert provenance.command_line() == ["latentbench", "run", "small"]


def test_peak_memory_is_in_bytes():
    assert 10e6 < provenance.peak_memory("cpu") < 1e12
