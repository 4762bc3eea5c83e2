"""`latentbench run`, killed with SIGKILL in several phases and started again, ends in the same bits.

`python -m perf.kills` does it at length, on the shipped suites.
"""

from __future__ import annotations

import re
import time
from types import SimpleNamespace

import pytest

from perf.disturbed import CHECKPOINTING, EVALUATING, RECORDING, TRAINING, Watch, await_phase, curve, end, kill
from tests.project import PATIENCE, Project

pytestmark = pytest.mark.slow

CHANGES = {
    "methods": {
        "slow": {"model": "toy", "params": {"pause": 0.02}},
        "other": {"model": "toy", "params": {"pause": 0.01, "spread": 0.5}},
    },
    "metrics": {"nll": {}, "bits_per_dim": {}, "toy_metric": {"settings": {"pause": 0.5}}},
    "tiers": {"cpu": {"seeds": 1, "training": {"epochs": 25, "ema": 0.9, "select": "best"}}},
    "claims": [],
}
OPTIONS = ("--wandb", "disabled", "--device", "cpu", "--threads", "1", "--quiet")
AIMS = [CHECKPOINTING, EVALUATING, RECORDING]


def what_counts(project: Project) -> dict[str, object]:
    """Of every record: outcome, numbers, learning curve and weights."""
    found = {}
    for cell, record in project.records().items():
        folder = project.results / "runs/small" / record.run_id
        rows = [sorted(row.items()) for row in curve(folder)]
        found[cell] = record.status, record.metrics, rows, record.files["weights.safetensors"], record.cost.steps
    return found


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_killed_in_every_phase_and_moved(project, monkeypatch, jobs):
    project.suite(CHANGES)
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(project.root / "alone"))
    assert project.run("small", *OPTIONS[4:]).code == 0
    expected = what_counts(project)
    steps = {cell: record.cost.steps for cell, record in project.records().items()}
    assert len(expected) == 2

    monkeypatch.setenv("LATENTBENCH_RESULTS", str(project.root / "killed"))
    watch = Watch(SimpleNamespace(results=project.results, data=project.root / "data"), steps)
    command = ("run", "small", *OPTIONS, "--jobs", jobs, "--checkpoint-every", "0")
    aims = AIMS if jobs == "1" else [TRAINING]
    for aim in aims:
        watch.begin()
        process = project.start(*command)
        try:
            seen = await_phase(process, watch, aim, 120)
            assert seen or aim == RECORDING, f"never seen {aim}"  # a record is soon written
            kill(process, leader_alone=jobs == "2")  # its workers see that they are orphans
        finally:
            if jobs == "1":
                end(process)

    if jobs == "1":
        project.results.rename(project.root / "elsewhere")
        monkeypatch.setenv("LATENTBENCH_RESULTS", str(project.root / "elsewhere"))
    process = project.start(*command)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert what_counts(project) == expected
    resumed = [record.provenance.resumed_from for record in project.records().values()]
    assert any(resumed), "some went on from a checkpoint"
    assert all(record.provenance.faults == [] for record in project.records().values())
    deadline = time.monotonic() + PATIENCE  # an orphan may still be at its last step
    while (left := [*project.results.rglob(".*.part"), *project.results.rglob("checkpoint")]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    assert left == [], "nothing half done lies about"


def test_several_sweeps_share_the_runs(project):
    """Three commands at once on two suites: each run is done once, by whichever comes first."""
    slow = {"methods.wide.params": {"pause": 0.02}, "methods.narrow.params": {"pause": 0.02}}
    project.suite(slow)
    project.suite(slow, "second")
    command = ("run", "small", "second", "--seeds", "2", *OPTIONS)
    sweeps = [project.start(*command, "--jobs", jobs) for jobs in ("1", "1", "2")]
    done = [process.communicate(timeout=PATIENCE) for process in sweeps]
    assert [process.returncode for process in sweeps] == [0, 0, 0], done
    finished = [int(n) for _, err in done for n in re.findall(r"(\d+) finished", err)]
    there = [int(n) for _, err in done for n in re.findall(r"(\d+) there already", err)]
    assert sum(finished) == 12, "each run once"
    assert sum(there) == 2 * 12
    for suite in ("small", "second"):
        records = project.records(suite).values()
        assert len(records) == 6
        assert {r.status for r in records} == {"finished"}
    assert not [*project.results.rglob(".*.part"), *project.results.rglob("checkpoint")]
