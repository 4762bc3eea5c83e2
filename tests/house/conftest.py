"""A repository of the tests' own, with the working tree as its first commit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.changes import git
from tests.project import REPOSITORY


class Clone:
    """A repository in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def git(self, *args: str) -> str:
        own = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(("git", *own, *args), cwd=self.root, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def commit(self, text: str = "a change") -> str:
        """Commit all that is there; the revision."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", text)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """The files of this repository, records apart, as the first commit of another."""
    listed = git(REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if not listed:
        pytest.skip("needs git, and this repository's")
    monkeypatch.delenv("LATENTBENCH_BASE", raising=False)
    root = tmp_path / "clone"
    for name in listed.decode().rstrip("\0").split("\0"):
        if not name.startswith("results/reference/") and (REPOSITORY / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, root / name)
    found = Clone(root)
    found.git("init", "--quiet", "--initial-branch", "main")
    found.commit("as it is")
    return found
