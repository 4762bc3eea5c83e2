"""The wheel: installed into an empty environment, it brings all that an empty folder needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.project import OWN, REPOSITORY

pytestmark = pytest.mark.slow

pytest.importorskip("hatchling", reason="the build backend is not installed")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment that holds the wheel; what it depends on is looked for where the tests' own is."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = folder.glob("latentbench-*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env/bin/python"
    places = {"base": str(folder / "env"), "platbase": str(folder / "env")}
    site = Path(sysconfig.get_path("purelib", vars=places))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True)
    return folder / "env/bin/latentbench"


@pytest.fixture
def anywhere(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The installed command in an empty folder of somebody who has set nothing."""
    for name in [n for n in os.environ if n.startswith("LATENTBENCH_") or n == "PYTHONPATH"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    def call(*args: str) -> str:
        done = subprocess.run([installed, *args], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def test_it_shows_what_it_brings_and_leaves_nothing(anywhere):
    suites = {s["id"]: s["state"] for s in json.loads(anywhere("list", "--format", "json"))}
    assert set(suites) == {p.parent.name for p in REPOSITORY.glob("suites/*/suite.yaml")}
    assert suites["iwae"] == "verdict at cpu"
    assert "invalid" not in suites.values()
    catalogue = json.loads(anywhere("list", "papers", "--format", "json"))
    assert set(suites) - OWN <= {paper["id"] for paper in catalogue}
    datasets = {d["name"] for d in json.loads(anywhere("list", "datasets", "--format", "json"))}
    places = ("data/registry/*.yaml", "suites/*/data/*.yaml")
    assert datasets == {p.stem for place in places for p in REPOSITORY.glob(place)}
    (status,) = json.loads(anywhere("status", "vgae", "--tier", "cpu", "--format", "json"))
    assert status["reference"] == status["runs"] > 20
    assert list(Path.cwd().iterdir()) == []


def test_papers_bring_their_code(anywhere):
    code = [p for p in REPOSITORY.glob("suites/*/*.py") if not p.name.startswith("test_")]
    papers = sorted({p.parent.name for p in code})[:3]
    said = anywhere("validate", *papers)  # which builds every model
    assert said.splitlines() == [f"ok: {name}" for name in papers]


@pytest.mark.parametrize("command", ["verdict", "leaderboard", "show"])
def test_it_answers_as_a_clone_does(anywhere, monkeypatch, tmp_path, command):
    asked = (command, "real-nvp", *(("--tier", "cpu") if command != "show" else ()), "--format", "json")
    here = json.loads(anywhere(*asked))
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(tmp_path / "results"))  # not what was run in this clone
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "benchmarks"))
    done = subprocess.run([sys.executable, "-m", "latentbench", *asked], cwd=REPOSITORY, capture_output=True, text=True)
    assert here == json.loads(done.stdout), done.stderr
    if command == "verdict":
        assert "holds" in {claim["verdict"] for claim in here}


def test_the_quickstart_writes_its_results_here(anywhere):
    anywhere("run", "quickstart", "--tier", "smoke", "--quiet", "--wandb", "disabled", "--device", "cpu")
    records = [json.loads(p.read_bytes()) for p in Path("results/runs/quickstart").glob("*/record.json")]
    assert {r["status"] for r in records} == {"finished"}
    assert {r["provenance"]["git_revision"] for r in records} == {None}
    assert Path("data/prepared/digits").is_dir()


def test_a_suite_of_ones_own_stands_beside_the_shipped_ones(anywhere):
    anywhere("new", "suite", "my-paper")
    assert Path("suites/my-paper/suite.yaml").is_file()
    assert {"my-paper", "quickstart"} <= {s["id"] for s in json.loads(anywhere("list", "--format", "json"))}
    assert "my-paper" in anywhere("show", "my-paper")
