"""`latentbench fingerprints`: what a change redoes, run by run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from latentbench.planning.engines import todays_era
from latentbench.planning.plan import plan
from latentbench.spec.loading import load_suite

from tests.project import REPOSITORY


def test_a_file_a_suite(project):
    project.suite()
    project.write("broken", "id: [")
    folder = project.results / "fingerprints"
    folder.mkdir(parents=True)
    (folder / "gone.json").write_text("{}")
    assert project("fingerprints", "--tier", "cpu", "--write", str(folder)).code == 0
    assert sorted(p.name for p in folder.iterdir()) == ["broken.json", "small.json"]
    found = json.loads((folder / "small.json").read_text())
    runs = {r.cell: {"spec": r.spec_hash, "code": r.code_hash, "engine": todays_era()} for r in project.plan("cpu")}
    assert {cell: {k: h[k] for k in ("spec", "code", "engine")} for cell, h in found["runs"].items()} == runs
    assert "broken.yaml" in json.loads((folder / "broken.json").read_text())["fault"]
    assert project("fingerprints", "broken").code == 2


def test_only_what_counts_changes_the_file(project):
    def written() -> str:
        project("fingerprints", "--tier", "cpu", "--write", str(project.results))
        return (project.results / "small.json").read_text()

    project.suite()
    first = written()
    project.suite({"version": 4, "paper.title": "Another title", "tiers.smoke.seeds": 2})
    assert written() == first
    project.suite({"training.epochs": 4})
    assert written() != first


def test_table(project):
    project.suite()
    answer = project("fingerprints", "small", "--tier", "cpu")
    [line] = [line for line in answer.out.splitlines() if "wide--line--cpu--s1" in line]
    assert project.plan("cpu")[1].spec_hash[:12] in line


@pytest.mark.parametrize(
    ("module", "lines", "redone"),
    [
        ("models/coupling.py", "class CouplingFlow(CouplingFlow):\n    more = 1", True),
        ("models/coupling.py", "ONE_MORE = 1\n\n\ndef another() -> None: ...  # a remark", False),
        ("cli/listing.py", "command = None", False),
    ],
)
def test_a_change_redoes_the_runs_that_reach_it_and_no_others(tmp_path, module, lines, redone):
    for folder in ("benchmarks", "suites", "data/registry"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    names = ("real-nvp", "iwae", "quickstart")

    def hashes() -> dict[str, str]:
        own = {"PYTHONPATH": str(tmp_path / "benchmarks"), "LATENTBENCH_ROOT": str(tmp_path)}
        command = [sys.executable, "-m", "latentbench", "fingerprints", *names, "--tier", "cpu", "--format", "json"]
        done = subprocess.run(command, env=os.environ | own, cwd=tmp_path, capture_output=True, text=True, check=True)
        return {f"{s['suite']} {cell}": h["code"] for s in json.loads(done.stdout) for cell, h in s["runs"].items()}

    before = hashes()
    with (tmp_path / "benchmarks/latentbench" / module).open("a") as file:
        file.write(f"\n{lines}\n")
    after = hashes()
    changed = {run for run in before if before[run] != after[run]}
    runs = {f"{r.suite} {r.cell}": r for name in names for r in plan(load_suite(REPOSITORY / _path(name)), "cpu")}
    reaching = {run for run, spec in runs.items() if spec.model == "coupling-flow"}
    assert before.keys() == after.keys() == runs.keys()
    assert reaching
    assert reaching < runs.keys()
    assert changed == (reaching if redone else set())


def _path(name: str) -> str:
    return f"suites/{name}/suite.yaml"
