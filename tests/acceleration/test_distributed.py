"""One run over two processes: its record, and what happens when one of them fails, dies or is asked to stop."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from latentbench.acceleration.distributed import devices_for, why_on_one
from latentbench.acceleration.helpers import Lost
from latentbench.core import interrupts
from latentbench.core.errors import Diverged, UserError
from latentbench.planning.plan import plan
from latentbench.records.record import Record, is_intact, read_record, seal
from latentbench.running.experiment import run_experiment
from latentbench.running.observer import ProgressReport
from latentbench.running.settings import Settings
from latentbench.scheduling.task import perform
from latentbench.spec.loading import load_suite
from latentbench.training.sharded import InTurn
from lightning.fabric import Fabric

from tests.project import Project

#: Seconds within which a failure of one process must have ended the other, on however busy a machine; a sum that
#: nobody completes is waited for much longer.
SOON = 300.0


def settings(project: Project, **changes) -> Settings:
    return replace(Settings(project.results, devices=2), **changes)


def plan_of(project: Project, **params):
    method = {"model": "toy", "params": params}
    changes = {"methods": {"one": method}, "training.select": "best", "training.ema": 0.9, "claims": []}
    [spec] = project.plan("cpu", changes, seeds=[0])
    return spec


def failing(project: Project, rank: int, how: str) -> tuple[Record, float]:
    started = time.monotonic()
    record, _ = perform(plan_of(project, spoil=how, rank=rank), settings(project))
    return record, time.monotonic() - started


@pytest.mark.slow
def test_a_record_and_its_replay(project):
    spec = plan_of(project)
    record, _ = perform(spec, settings(project))
    assert record.status == "finished", record.error
    assert record.provenance.devices == 2
    fabric = Fabric(accelerator="cpu", devices=1, strategy=InTurn(2))
    fabric.launch()
    expected = run_experiment(spec, fabric)
    for key, value in expected.values.items():
        assert record.value(key).value == pytest.approx(value.value, rel=1e-5)
    assert record.cost.steps == expected.trained.steps
    alone, _ = perform(spec, Settings(project.root / "alone"))
    assert alone.value("nll").value != record.value("nll").value, "the shards draw other noise"

    answer = project("replay", "one--", "--format", "json")
    found = json.loads(answer.out)
    assert answer.code == 0, answer.err
    assert found["held"]
    assert {m["word"] for m in found["metrics"]} <= {"identical", "within tolerance"}
    assert any("2 devices" in note and "rounding" in note for note in found["notes"])


def test_a_record_of_one_device_is_as_before(project):
    record, _ = perform(plan_of(project), Settings(project.results))
    [path] = project.results.glob("runs/small/*/record.json")
    written = json.loads(path.read_text())
    assert "devices" not in written["provenance"], "so that the seals of older records hold"
    assert read_record(path, sealed=True) == record
    two = record.model_copy(update={"provenance": record.provenance.model_copy(update={"devices": 2})})
    assert seal(two) != record.seal
    assert not is_intact(two)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "how", "status", "says"),
    [
        (1, "raise", "failed", "device 1: RuntimeError: told to fail in two lines"),
        (1, "kill", "failed", "device 1: its process died (SIGKILL"),
        (1, "backward", "out-of-memory", "device 1"),
        (0, "raise", "failed", "told to fail"),
    ],
)
def test_what_befalls_one_process_ends_both_with_a_record(project, rank, how, status, says):
    record, seconds = failing(project, rank, how)
    assert (record.status, record.provenance.devices) == (status, 2)
    assert says in record.error
    assert seconds < SOON


def test_what_a_helper_says_of_its_end():
    errors = {
        "diverged": Diverged("the loss is nan"),
        "out-of-memory": RuntimeError("DefaultCPUAllocator: not enough memory: you tried"),
        "interrupted": KeyboardInterrupt(),
        "wrong input": UserError("no such file"),
        "failed": ValueError("two\nlines"),
    }
    raised = {kind: Lost.to(3, error) for kind, error in errors.items()}
    assert {kind: lost.kind for kind, lost in raised.items()} == {kind: kind for kind in errors}
    assert Lost.to(3, MemoryError()).kind == "out-of-memory"
    types = {kind: type(lost.as_error()) for kind, lost in raised.items()}
    assert types == {
        "diverged": Diverged,
        "out-of-memory": MemoryError,
        "interrupted": KeyboardInterrupt,
        "wrong input": UserError,
        "failed": RuntimeError,
    }
    assert str(raised["failed"].as_error()) == "device 3: ValueError: two lines"


@pytest.mark.slow
def test_interrupted_and_taken_up_again(project):
    """The leader is asked to stop in the middle; both save at the same step, and the run ends in the same bits."""
    spec = plan_of(project, pause=0.05)
    undisturbed, _ = perform(spec, settings(project, results=project.root / "undisturbed"))
    asked = []

    def report(what: ProgressReport) -> None:
        if what.step and not asked:
            asked.append(what.step)
            os.kill(os.getpid(), signal.SIGTERM)

    interrupts.install(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        perform(spec, settings(project), report)
    interrupts.install(signal.SIGTERM)
    assert len(list(project.results.glob("runs/small/*/checkpoint/*.safetensors"))) == 1
    record, _ = perform(spec, settings(project))
    assert record.provenance.resumed_from is not None
    assert record.provenance.resumed_from < record.cost.steps
    assert record.metrics == undisturbed.metrics
    assert record.files["weights.safetensors"] == undisturbed.files["weights.safetensors"]


def test_only_gradient_training_is_spread(project):
    specs = project.plan("cpu", seeds=[0])
    assert {s.method: devices_for(s, settings(project)) for s in specs} == {"wide": 2, "narrow": 2, "floor": 1}


@pytest.mark.parametrize(
    ("suite", "method", "why"),
    [
        ("beta-tcvae", "tcvae-4", "batch as a whole"),
        ("pic", "hclt-em-k8", "batch as a whole"),
        ("real-nvp", "real-nvp", "normalises batches"),
        ("iwae", "vae-k1-1l", None),
        ("iwae", "factorised", "fitted"),
    ],
)
def test_a_loss_of_the_whole_batch_is_not_divided(suite, method, why):
    runs = [r for r in plan(load_suite(suite), "cpu", seeds=[0]) if r.method.startswith(method)]
    assert runs
    reasons = {why_on_one(r) for r in runs}
    assert all((r is None) if why is None else why in r for r in reasons)


def test_more_gpus_than_there_are(project, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    project.suite()
    answer = project("run", "small", "--device", "cuda", "--devices", "2", "--wandb", "disabled")
    assert answer.code == 2
    assert "--devices: 2 GPUs" in answer.err


@pytest.mark.slow
def test_from_the_command_line(project):
    project.suite({"methods": {"one": {"model": "toy"}}, "claims": []})
    answer = project.run("small", "--devices", "2", "--seeds", "1", "--quiet")
    assert answer.code == 0, answer.err
    [record] = project.records().values()
    assert record.provenance.devices == 2
    assert Path(project.results).is_dir()
