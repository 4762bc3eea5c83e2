"""Job arrays through submitit, with its local executor in Slurm's place."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from latentbench.core import interrupts
from latentbench.core.errors import UserError
from latentbench.running.settings import Settings
from latentbench.scheduling.executors.sbatch import SBATCH, SUBMITIT, settings_of
from latentbench.scheduling.executors.slurm import LISTS, SlurmExecutor

from tests.project import PATIENCE, Project

pytest.importorskip("submitit", reason="the extra `slurm` is not installed")

pytestmark = pytest.mark.slow

CHANGES = {
    "methods": {"slow": {"model": "toy", "params": {"pause": 0.03}}, "floor": {"model": "factorised"}},
    "metrics": {"nll": {}},
    "tiers": {"cpu": {"seeds": 1, "training": {"epochs": 40}}},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("latentbench.scheduling.executors.slurm_sweep.POLL", 0.3)
    # how long submitit looks for the results of a task that is over; here no network file system holds them up
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 1)
    yield
    interrupts.install()


def run(project: Project, specs, jobs: int = 1):
    done, told = [], []
    executor = SlurmExecutor({"time": 5}, cluster="local", jobs=jobs)
    settings = Settings(project.results, checkpoint_seconds=0)
    executor.run_all(specs, settings, told.append, lambda spec, record, cached: done.append((spec, record, cached)))
    return done


def _tasks() -> list[int]:
    """Processes of submitit that do a share of the runs, as children of its controllers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"submitit.core._submit" in (folder / "cmdline").read_bytes():
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                grandparent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
                if grandparent == os.getpid():
                    found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def test_a_warned_task_saves_its_state_goes_back_into_the_queue_and_ends(project):
    specs = project.plan("cpu", CHANGES)
    warned: list[int] = []

    def warn():
        deadline = time.monotonic() + PATIENCE
        while not list(project.results.rglob("checkpoint/*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in _tasks():
            warned.append(pid)
            os.kill(pid, signal.SIGUSR2)

    thread = threading.Thread(target=warn)
    thread.start()
    done = run(project, specs)
    thread.join()
    assert len(warned) == 1
    assert {spec.cell: record.status for spec, record, _ in done} == {s.cell: "finished" for s in specs}
    slow = project.records()[specs[0].cell]
    assert slow.provenance.resumed_from, "it went on from what the warned task had saved"
    assert not list(project.results.rglob("checkpoint"))
    assert not list((project.results / "leases").rglob("*.json"))
    assert not (project.results / "slurm").exists(), "nor are there logs of what went well"
    assert [cached for *_, cached in run(project, specs)] == [True, True], "nothing is submitted again"


def test_interrupted_the_tasks_save_their_state_and_end(project):
    specs = project.plan("cpu", CHANGES | {"tiers.cpu.training": {"epochs": 1000}}, methods=["slow"])
    interrupts.install(signal.SIGTERM)
    pids: list[int] = []

    def stop():
        deadline = time.monotonic() + PATIENCE
        while not list(project.results.rglob("checkpoint/*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.05)
        pids.extend(_tasks())
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(project, specs)
    thread.join()
    interrupts.install()
    assert len(pids) == 1
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pids[0]}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pids[0]}").exists()
    assert list(project.results.rglob("checkpoint/*.safetensors"))
    assert not list((project.results / "leases").rglob("*.json"))
    assert not list(project.results.rglob("record.json"))


def test_a_task_that_dies_is_tried_again_and_then_given_up(project):
    changes = CHANGES | {"methods": {"deadly": {"model": "toy", "params": {"spoil": "kill"}}}}
    [(_, record, _)] = run(project, project.plan("cpu", changes))
    assert record.status == "failed"
    assert "its task died 2 times" in record.error


def test_the_script_is_shown(project):
    """With what the command line says, and what Slurm needs for requeueing and for the warning."""
    project.suite(CHANGES | {"tiers.cpu.seeds": 3})
    settings = "partition=a100,time=1-02:30:00,gpus-per-node=1,reservation=mine"
    answer = project("run", "small", "--executor", "slurm", "--slurm", settings, "--threads", "4", "--jobs", "2",
                     "--memory-per-run", "3G", "--dry-run")  # fmt: skip
    assert answer.code == 0
    lines = answer.out.splitlines()
    for line in (
        "#!/bin/bash",
        "#SBATCH --partition=a100",
        "#SBATCH --time=1590",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --reservation=mine",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=3072M",
        "#SBATCH --array=0-5%2",
        "#SBATCH --requeue",
        "#SBATCH --signal=USR2@120",
    ):
        assert line in lines, answer.out


def test_the_script_is_for_what_is_left_on_the_device_asked_for(project):
    project.suite(CHANGES | {"tiers.cpu.seeds": 3})
    assert project.run("small", "--method", "floor", "--quiet").code == 0
    answer = project("run", "small", "--executor", "slurm", "--device", "cuda", "--dry-run")
    lines = answer.out.splitlines()
    assert sum(line.endswith("there already") for line in lines) == 3
    assert {"#SBATCH --array=0-2%3", "#SBATCH --gpus-per-node=1"} <= set(lines), answer.out
    answer = project("run", "small", "--method", "floor", "--executor", "slurm", "--dry-run")
    assert "#SBATCH" not in answer.out, "nothing is left to hand over"


@pytest.mark.parametrize(
    ("text", "minutes"), [("90", 90), ("30:10", 31), ("4:00:00", 240), ("2-0", 2880), ("1-12:30", 2190), ("0:0:1", 1)]
)
def test_times_as_sbatch_reads_them(text, minutes):
    assert settings_of([f"time={text}"]) == {"time": minutes}


@pytest.mark.parametrize("text", ["partition", "=x", "time=soon", "time=1:2:3:4", "a b=c", "x=\n"])
def test_what_is_no_setting(text):
    with pytest.raises(UserError, match="--slurm"):
        settings_of([text])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("partion=a100", "did you mean 'partition'? +partion=a100 hands it over as it is"),
        ("--cpu-per-task=4", "'cpus-per-task'"),
        ("zzz=1", "`man sbatch` shows them; +zzz=1 hands it over as it is"),
        ("setup=module load", "+setup=module load"),
        ("array=0-3", "+array=0-3"),
    ],
)
def test_a_parameter_that_sbatch_does_not_have(project, text, hint):
    project.suite()
    answer = project("run", "small", "--executor", "slurm", "--slurm", text, "--dry-run")
    assert (answer.code, len(answer.errors), answer.out) == (2, 1, ""), answer.err
    assert hint in answer.errors[0]


def test_a_parameter_of_the_site_is_handed_over_as_it_is(project):
    project.suite()
    slurm = "+container-image=torch.sqsh,reservation=night,cpus_per_task=3,+setup=x"
    answer = project("run", "small", "--executor", "slurm", "--slurm", slurm, "--dry-run")
    lines = answer.out.splitlines()
    for line in ("container-image=torch.sqsh", "reservation=night", "cpus-per-task=3", "setup=x"):
        assert f"#SBATCH --{line}" in lines, answer.out


def test_every_parameter_of_submitit_that_is_text_is_known():
    from submitit.slurm.slurm import _get_default_parameters

    ours = {"num_gpus"} | LISTS  # an older name of gpus_per_node, and what is no text
    assert {k.replace("_", "-") for k in set(_get_default_parameters()) - ours} <= SBATCH | SUBMITIT


def test_options_without_use_are_refused(project):
    project.suite()
    for options in (
        ("--store", "x"),
        ("--executor", "slurm", "--address", "auto"),
        ("--executor", "ray", "--slurm", "partition=a"),
        ("--executor", "slurm", "--gpus-per-run", "0.5"),
        ("--executor", "ray", "--memory-per-run", "much"),
    ):
        answer = project("run", "small", *options, "--dry-run")
        assert (answer.code, len(answer.errors)) == (2, 1), options
    assert project("run", "small", "--executor", "slurm").code == 2, "there is no Slurm here"


def test_what_is_handed_over_is_for_the_sender_alone(project):
    """Credentials of stores and trackers go along."""
    folder = project.root / "slurm/array"
    with pytest.raises(UserError):
        SlurmExecutor({}).submit([], [], Settings(project.results), folder)
    assert folder.stat().st_mode & 0o077 == 0
