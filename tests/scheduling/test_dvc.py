"""A pipeline that is killed inside DVC, and a lock file that was cut in half: finished runs are not done again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.project import PATIENCE, REPOSITORY, Project

pytestmark = pytest.mark.slow

pytest.importorskip("dvc", reason="DVC is not installed")

CHANGES = {
    "methods": {"floor": {"model": "factorised"}, "slow": {"model": "toy", "params": {"pause": 0.05}}},
    "metrics": {"nll": {}},
    "tiers": {"cpu": {"seeds": 1, "training": {"epochs": 20}}},
    "claims": [],
}


@pytest.fixture
def pipeline(project: Project, shared_data, monkeypatch) -> Project:
    """The shipped pipeline on one small suite, in a folder that DVC knows."""
    root = project.root
    project.suite(CHANGES)
    shutil.copytree(shared_data / "registry", root / "data/registry")
    for name in ("dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".gitignore"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    (root / "benchmarks/latentbench").mkdir(parents=True)
    (root / "benchmarks/latentbench/code.txt").write_text("a dependency; the code itself is on the path")
    parameters = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    parameters |= {"suites": ["small"], "jobs": 1}
    (root / "params.yaml").write_text(yaml.safe_dump(parameters))
    subprocess.run(["git", "init", "--quiet", root], check=True)
    for name, value in {
        "LATENTBENCH_DATA": root / "data",
        "LATENTBENCH_RESULTS": root / "results",
        "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": root / "scratch/site",
        "DVC_GLOBAL_CONFIG_DIR": root / "scratch/global",
        "DVC_SYSTEM_CONFIG_DIR": root / "scratch/system",
        "WANDB_MODE": "disabled",
        "CUDA_VISIBLE_DEVICES": "",
    }.items():
        monkeypatch.setenv(name, str(value))
    return project


def repro(project: Project, *stages: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dvc", "repro", *(stages or ("bench@small",))]
    return subprocess.Popen(
        command, cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def is_a_lock(text: str) -> bool:
    """Whether DVC itself takes the text for a lock file; one cut where it still reads well is mended by DVC alone."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(text))
    except (Invalid, yaml.YAMLError):
        return False
    return True


def test_killed_inside_dvc_and_a_lock_cut_in_half(pipeline):
    process = repro(pipeline)
    try:
        deadline = time.monotonic() + PATIENCE
        while not pipeline.records() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.communicate()
    kept = {cell: record.provenance.started for cell, record in pipeline.records().items()}
    assert list(kept) == ["floor--line--cpu--s0"], "killed between the first run's record and the second's"

    lock = pipeline.root / "dvc.lock"
    whole = lock.read_text()
    cuts = [whole[:n] for n in range(0, len(whole), 3)]
    refused = [text for text in cuts if not is_a_lock(text)]
    assert len(refused) > 10
    for text in refused[:: len(refused) // 10]:
        lock.write_text(text)
        told = json.loads(pipeline("doctor", "--format", "json").out)
        (finding,) = (f for f in told if f["what"] == "dvc.lock")
        assert finding["level"] == "problem", text
        assert "delete it and run `dvc repro`" in finding["fix"]

    lock.unlink()
    process = repro(pipeline)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    records = pipeline.records()
    assert set(records) == {"floor--line--cpu--s0", "slow--line--cpu--s0"}
    assert {cell: records[cell].provenance.started for cell in kept} == kept, "what was done is not done again"
    assert set(yaml.safe_load(lock.read_text())["stages"]) == {"fingerprints", "bench@small"}


def redone(project: Project) -> set[str]:
    """The stages that `dvc repro` starts."""
    process = repro(project, "bench@small", "bench@other")
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    return set(re.findall(r"^Running stage '(.*)':", said, re.MULTILINE))


def test_a_stage_starts_where_something_that_its_runs_depend_on_has_changed(pipeline):
    quick = CHANGES | {"methods": {"floor": {"model": "factorised"}}}
    pipeline.suite(quick)
    pipeline.suite(quick, name="other")
    parameters = yaml.safe_load((pipeline.root / "params.yaml").read_text())
    (pipeline.root / "params.yaml").write_text(yaml.safe_dump(parameters | {"suites": ["small", "other"]}))
    assert redone(pipeline) == {"fingerprints", "bench@small", "bench@other"}
    assert redone(pipeline) == set(), "nothing has changed"

    (pipeline.root / "benchmarks/latentbench/code.txt").write_text("code that no run imports")
    pipeline.suite(quick | {"paper.title": "Another title"})
    assert redone(pipeline) == {"fingerprints"}

    pipeline.suite(quick | {"training.batch_size": 20})
    assert redone(pipeline) == {"fingerprints", "bench@small"}

    entry = pipeline.root / "data/registry/line.yaml"
    entry.write_text(entry.read_text().replace("rows: 120", "rows: 110"))
    assert redone(pipeline) == {"fingerprints", "bench@small", "bench@other"}

    shutil.rmtree(pipeline.root / "results/runs/other")
    assert redone(pipeline) == {"bench@other"}
    assert len(pipeline.records("other")) == 1


def test_the_name_of_a_suite_brings_its_datasets(pipeline):
    """A faulty suite keeps no other from its data."""
    pipeline.suite(CHANGES | {"methods": {"floor": {"model": "factorised"}}})
    parameters = {"tier": "cpu", "jobs": 1, "suites": ["small", "absent"]}
    (pipeline.root / "params.yaml").write_text(yaml.safe_dump(parameters))
    process = repro(pipeline, "fingerprints")
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "absent: its data are not prepared" in said
    assert (pipeline.root / "data/prepared/line").is_dir()
    written = json.loads((pipeline.root / "results/fingerprints/small.json").read_text())
    assert all(run["data"] for run in written["runs"].values()), "what was prepared is part of the fingerprint"


def plotted(project: Project) -> dict[str, list[dict]]:
    """What `dvc plots diff HEAD` draws: by plot, the rows with their revisions."""
    said = subprocess.run(
        [sys.executable, "-m", "dvc", "plots", "diff", "HEAD", "--json", "--split"],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    drawn = json.loads(said)
    assert not drawn.get("errors"), drawn["errors"]
    found = {}
    for name, parts in drawn["data"].items():
        (part,) = parts
        data = part["anchor_definitions"]["<DVC_METRIC_DATA>"]
        found[name] = json.loads(data) if isinstance(data, str) else data
    return found


def test_plots_of_two_revisions_lie_over_each_other(pipeline):
    def git(*args: str) -> None:
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *author, *args], cwd=pipeline.root, check=True, capture_output=True)

    def tabulate() -> None:
        process = repro(pipeline, "bench@small", "leaderboard")
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said

    (pipeline.results / "reference").mkdir(parents=True)
    shutil.copytree(REPOSITORY / ".dvc/plots", pipeline.root / ".dvc/plots")
    few = CHANGES | {"methods": {"wide": {"model": "toy"}}}
    pipeline.suite(few)
    tabulate()
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    pipeline.suite(few | {"training.batch_size": 20, "tiers.cpu.training.epochs": 10})
    tabulate()
    found = plotted(pipeline)
    assert set(found) == {"leaderboard", "learning curves"}
    for name, rows in found.items():
        assert {r["rev"] for r in rows} == {"HEAD", "workspace"}, name
    means = {r["rev"]: float(r["mean"]) for r in found["leaderboard"] if r["metric"] == "nll"}
    assert means["HEAD"] != means["workspace"]
    last = {
        r["rev"]: max(float(x["epoch"]) for x in found["learning curves"] if x["rev"] == r["rev"])
        for r in found["learning curves"]
    }
    assert last == {"HEAD": 20.0, "workspace": 10.0}
