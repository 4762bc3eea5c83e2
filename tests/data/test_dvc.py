"""Prepared data through a DVC remote: pushed from one checkout, pulled into another, and used there as they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from latentbench.data.api import status, verify
from latentbench.data.dataset import open_dataset

from tests.project import REPOSITORY

pytestmark = pytest.mark.slow

pytest.importorskip("dvc", reason="DVC is not installed")

ENTRY = {
    "name": "few-moons",
    "title": "Few moons",
    "kind": "generated",
    "modality": "vector",
    "about": "Rows for a test.",
    "citation": "none",
    "licence": "none",
    "generate": "latentbench.data.generated.planar:two_moons",
    "params": {"scale": 1.0, "noise": 0.1},
    "splits": {"train": {"rows": 40}, "test": {"rows": 10}},
    "columns": {"x": {"shape": [2], "dtype": "float32"}},
}


class Checkout:
    """The project's DVC pipeline over one tiny dataset, in a folder of its own."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root, self._scratch = root, scratch
        (root / ".dvc").mkdir(parents=True)
        for name in ("dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".gitignore", "suites/papers.yaml"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, root / name)
        parameters = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
        parameters["datasets"] = {ENTRY["name"]: f"data/registry/{ENTRY['name']}.yaml"}
        (root / "params.yaml").write_text(yaml.safe_dump(parameters))
        (root / "data/registry").mkdir(parents=True)
        (root / "data/registry/few-moons.yaml").write_text(yaml.safe_dump(ENTRY))
        subprocess.run(["git", "init", "--quiet", root], check=True)

    @property
    def prepared(self) -> Path:
        return self.root / "data/prepared/few-moons"

    def dvc(self, *args: str) -> str:
        """`dvc ARGS`, with this interpreter as `python` and no settings of the user's."""
        own = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(REPOSITORY / "benchmarks"),
            "LATENTBENCH_ROOT": str(self.root),
            "LATENTBENCH_DATA": str(self.root / "data"),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self._scratch / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(self._scratch / "global"),
            "DVC_SYSTEM_CONFIG_DIR": str(self._scratch / "system"),
        }
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *args], cwd=self.root, env=os.environ | own, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_push_and_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = tmp_path / "remote"
    mine = Checkout(tmp_path / "mine", tmp_path)
    mine.dvc("repro", "--quiet", "prepare@few-moons")
    mine.dvc("remote", "add", "--local", "--default", "own", str(remote))
    mine.dvc("push", "--quiet", "prepare@few-moons")
    assert any(remote.rglob("*"))
    monkeypatch.setenv("LATENTBENCH_DATA", str(mine.root / "data"))
    first = open_dataset("few-moons")
    x = first.split("train")["x"].copy()

    theirs = Checkout(tmp_path / "theirs", tmp_path)
    shutil.copy(mine.root / "dvc.lock", theirs.root)
    theirs.dvc("remote", "add", "--local", "--default", "own", str(remote))
    theirs.dvc("pull", "--quiet", "prepare@few-moons")
    assert sorted(p.relative_to(theirs.prepared) for p in theirs.prepared.rglob("*")) == sorted(
        p.relative_to(mine.prepared) for p in mine.prepared.rglob("*")
    )

    monkeypatch.setenv("LATENTBENCH_DATA", str(theirs.root / "data"))
    checks = verify("few-moons")
    assert checks
    assert all(check.ok for check in checks)
    steps: list[object] = []
    pulled = open_dataset("few-moons", lambda *step: steps.append(step))
    assert not steps, "nothing is prepared again"
    assert status("few-moons").have == "prepared"
    assert pulled.content_hash == first.content_hash
    assert (pulled.split("train")["x"] == x).all()
    assert "didn't change" in theirs.dvc("repro", "prepare@few-moons")
