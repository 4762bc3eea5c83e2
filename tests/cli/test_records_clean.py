"""`latentbench records clean`: weights of shared stages go when nothing would take them, and not before."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from safetensors.torch import load_file

from tests.project import Project

STAGED: dict[str, Any] = {
    "methods": {
        "narrow": {"model": "toy", "params": {"spread": 0.5}},
        "onward": {
            "model": "toy",
            "training": {"in_stages": [{"name": "first", "method": "narrow"}, {"name": "rest", "epochs": 1}]},
        },
    },
    "metrics": {"nll": {}},
    "tiers": {"cpu": {"seeds": 1, "methods": ["onward"]}},
    "claims": [],
}


@pytest.fixture
def staged(project: Project) -> Project:
    project.suite(STAGED)
    answer = project.run("small", "--seeds", "0,3")
    assert answer.code == 0, answer.err
    return project


def stages(project: Project) -> dict[str, dict[str, list[float]]]:
    """The numbers of the weights of each stage that is there."""
    files = (project.results / "stages").glob("*/weights/*.safetensors")
    return {p.parts[-3]: {k: v.flatten().tolist() for k, v in load_file(p).items()} for p in files}


def runs(project: Project) -> dict[Path, str]:
    """The hash of every file of the runs."""
    files = (p for p in (project.results / "runs").rglob("*") if p.is_file())
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_what_a_run_of_any_recorded_seed_takes_stays(staged):
    before = stages(staged)
    assert len(before) == 2, "a seed of the tier, and one that was asked for"
    answer = staged("records", "clean")
    assert (answer.code, stages(staged)) == (0, before)
    assert "nothing to remove; 2 that runs take are kept" in answer.out


def test_weights_of_a_stage_that_has_changed_go_and_those_of_runs_stay(staged):
    before, files = stages(staged), runs(staged)
    changed = {**STAGED["methods"], "narrow": {"model": "toy", "params": {"spread": 0.25}}}
    staged.suite({**STAGED, "methods": changed})
    assert staged.run("small").code == 0
    new = stages(staged).keys() - before.keys()
    assert len(new) == 1
    would = staged("records", "clean", "--dry-run")
    assert would.out.count("would be removed") == 2
    assert stages(staged).keys() == before.keys() | new
    done = staged("records", "clean")
    assert done.code == 0
    assert done.out.count(" removed") == 2
    assert "2 stages" in done.out.splitlines()[-1]
    assert "1 that runs take is kept" in done.out.splitlines()[-1]
    assert stages(staged).keys() == new
    assert sorted(p.name for p in (staged.results / "stages").iterdir()) == sorted(new), "nor an empty folder"
    assert files.items() <= runs(staged).items()


def test_all_go_but_one_in_training_and_come_again_to_the_same_bits(staged):
    before = stages(staged)
    held = min(before)
    with FileLock(staged.results / "stages" / held / "lock"):
        answer = staged("records", "clean", "--all")
    assert answer.code == 0
    assert f"{held}: left, for it is being trained" in answer.err
    assert stages(staged).keys() == {held}
    assert staged.run("small", "--seeds", "0,3", "--force").code == 0
    assert stages(staged) == before


def test_nothing_goes_while_a_suite_cannot_be_read(staged):
    before = stages(staged)
    (staged.root / "suites" / "broken.yaml").write_text("id: [")
    answer = staged("records", "clean")
    assert answer.code != 0
    assert "broken.yaml" in answer.err
    assert stages(staged) == before


def test_without_stages_there_is_nothing_to_do(project):
    project.suite()
    answer = project("records", "clean")
    assert (answer.code, answer.out) == (0, "nothing to remove; 0 that runs take are kept\n")
