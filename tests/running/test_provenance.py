"""Where a run happened."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime

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
    provenance.git_state.cache_clear()
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True)
    revision, dirty = provenance.git_state()
    assert revision == (asked.stdout.strip() if asked.returncode == 0 else None)
    assert (dirty is None) == (revision is None)


def test_the_command_says_what_not_where(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/somebody/secret/bin/latentbench", "run", "small"])
    assert provenance.command_line() == ["latentbench", "run", "small"]


def test_peak_memory_is_in_bytes():
    assert 10e6 < provenance.peak_memory("cpu") < 1e12
