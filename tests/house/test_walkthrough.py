"""CONTRIBUTING's walkthrough does what it says: its marked blocks run as they stand, one after another, in a clone."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.project import REPOSITORY

pytestmark = pytest.mark.slow

BLOCKS = re.findall(
    r"^<!-- walkthrough -->\n```sh\n(.*?)^```", (REPOSITORY / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE
)


@pytest.fixture
def shell(clone, tmp_path, monkeypatch):
    """Run a script in the clone, where `latentbench` is the clone's own."""
    for name in [n for n in os.environ if n.startswith("LATENTBENCH_")]:
        monkeypatch.delenv(name)
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/latentbench"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m latentbench "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(clone.root / "benchmarks"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            cwd=clone.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    return run


def test_every_block_runs(shell, clone):
    assert len(BLOCKS) == 3
    said = [shell(block) for block in BLOCKS]
    assert "flow-beats-gaussian" in said[0]
    assert re.search(r"^\S*\s*mine\b", said[2], re.MULTILINE), "the leaderboard has the method beside the others"
    assert "mine--digits--smoke--s0: its smoke run finishes with every metric" in said[1]
    changed = clone.git("status", "--porcelain").splitlines()
    assert changed
    assert all(line.startswith("?? ") for line in changed), "nothing that is there already is edited"
