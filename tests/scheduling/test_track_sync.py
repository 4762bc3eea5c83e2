"""`latentbench track sync`, by what stands in the files that wandb writes offline."""

from __future__ import annotations

import csv
import json
import sys
import threading
import time
from pathlib import Path

import pytest
from latentbench.running.settings import Settings
from latentbench.scheduling.task import perform
from latentbench.scheduling.tracking import wandb_id

from tests.project import PATIENCE

wandb_pb2 = pytest.importorskip("wandb.proto.wandb_internal_pb2")

#: wandb's files: a header, then a log of LevelDB's form, in blocks.
HEADER, BLOCK = 7, 32_768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@pytest.fixture(autouse=True)
def hopeful(monkeypatch):
    """wandb has not been given up yet, and has the time that a busy machine takes."""
    monkeypatch.setattr("latentbench.scheduling.tracking._given_up", threading.Event())
    for name in ("INIT_TIMEOUT", "PATIENCE"):
        monkeypatch.setattr(f"latentbench.scheduling.tracking.{name}", 120.0)


def records_in(path: Path):
    """What a file of wandb's holds, in order."""
    content = path.read_bytes()
    assert content[:4] in (b"", b":W&B")
    at, whole = HEADER, b""
    while at + 7 <= len(content):
        if (room := BLOCK - at % BLOCK) < 7:
            at += room
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        if kind not in (FULL, FIRST, MIDDLE, LAST):
            return
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (FULL, LAST):
            record = wandb_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def whole(path: Path):
    """What a file of wandb's holds once its own process has written the end, which it does when it comes to it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := list(records_in(path))) or found[-1].WhichOneof("record_type") != "exit":
        assert time.monotonic() < deadline, f"{path.name} has no end"
        time.sleep(0.05)
    return found


class Run:
    """One run as wandb's offline file tells it."""

    def __init__(self, path: Path) -> None:
        self.history: list[dict] = []
        self.summary: dict = {}
        self.metrics: list = []
        for record in whole(path):
            match record.WhichOneof("record_type"):
                case "run":
                    self.run = record.run
                case "history":
                    items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
                    self.history.append(items)
                case "summary":
                    for i in record.summary.update:
                        self.summary[i.key or "/".join(i.nested_key)] = json.loads(i.value_json)
                case "metric":
                    self.metrics.append(record.metric)
                case _:
                    pass
        self.config = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in self.run.config.update}


def told(project) -> list[Run]:
    return [Run(path) for path in sorted((project.results / "wandb").rglob("*.wandb"))]


@pytest.mark.slow
def test_what_was_recorded_without_wandb_is_told_once(project):
    project.suite()
    project.run("small", "--tier", "cpu", "--method", "wide", "--seeds", "2", "--quiet")
    project.run("small", "--tier", "smoke", "--method", "wide", "--quiet")
    assert told(project) == []
    answer = project("track", "sync", "--mode", "offline", "--weights")
    assert (answer.code, answer.out) == (0, "2 runs told, 0 told before, 1 smoke runs left out (--smoke)\n")
    runs = told(project)
    by_seed = {r.config["seed"]: r for r in runs}
    assert sorted(by_seed) == [0, 1]
    record = project.records()["wide--line--cpu--s1"]
    run = by_seed[1]
    assert run.run.run_id == wandb_id(record.run_id, Settings(project.results))
    assert run.run.display_name == "wide on line, seed 1"
    assert run.run.run_group == "small v3, cpu: wide on line"
    assert run.config["units"] == {"nll": "nats", "bits_per_dim": "bits/dim"}
    assert run.config["run"] == record.run_id
    assert run.config["git_revision"] == record.provenance.git_revision
    curve = list(csv.DictReader((project.results / "runs/small" / record.run_id / "curve.csv").open()))
    assert [(row["_step"], row["epoch"], row["loss"]) for row in run.history] == [
        (int(float(line["step"])), float(line["epoch"]), pytest.approx(float(line["loss"]))) for line in curve
    ]
    assert {m.step_metric for m in run.metrics if m.glob_name == "*"} == {"epoch"}
    value = run.summary.get("metric/nll", run.summary.get("metric", {}))
    assert value == pytest.approx(record.value("nll").value)
    again = project("track", "sync", "--mode", "offline")
    assert again.out == "0 runs told, 2 told before, 1 smoke runs left out (--smoke)\n"
    assert len(told(project)) == 2, "a second time tells nothing twice"
    assert project("track", "sync", "small", "--mode", "offline", "--smoke").out.startswith("1 run told, 2 told before")


@pytest.mark.slow
def test_a_ledger_cut_short_tells_again_under_the_same_name(project):
    project.suite()
    project.run("small", "--tier", "cpu", "--method", "wide", "--seeds", "1", "--quiet")
    project("track", "sync", "--mode", "offline")
    ledger = project.results / "wandb/synced.jsonl"
    ledger.write_text(ledger.read_text()[:-9])
    assert project("track", "sync", "--mode", "offline").out == "1 run told, 0 told before\n"
    assert len({run.run.run_id for run in told(project)}) == 1


@pytest.mark.slow
def test_smoke_runs_are_left_out_unless_asked(project, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "latentbench.cli.sweep.Sweep._run", lambda self, plans, left, settings, screen: seen.append(settings)
    )
    project.suite()
    options = ("small", "--jobs", "1", "--device", "cpu", "--quiet")
    monkeypatch.setenv("WANDB_MODE", "offline")
    project("run", *options, "--tier", "smoke")
    project("run", *options, "--tier", "smoke", "--wandb", "offline")
    assert [s.wandb for s in seen] == ["disabled", "offline"]


def test_wandb_that_fails_is_one_line(project, monkeypatch):
    import latentbench.scheduling.track_sync as module

    from tests.project import write_made_up

    write_made_up(project.plan("cpu")[0], {"nll": 1.0})

    def fails(*_):
        raise RuntimeError("no network\nat all")

    monkeypatch.setattr(module, "start", fails)
    answer = project("track", "sync")
    assert answer.code == 2
    assert len(answer.errors) == 1
    assert "wandb login" in answer.errors[0]


@pytest.mark.parametrize(("broken", "again"), [("", 0), ("log", 1), ("finish", 1)])
def test_what_was_mirrored_while_it_ran_is_not_told_again(project, monkeypatch, broken, again):
    from tests.scheduling.test_tracking import Broken

    monkeypatch.setitem(sys.modules, "wandb", Broken(broken))
    (project.results / "wandb").mkdir(parents=True)
    perform(project.plan("cpu", methods=["wide"], seeds=[0])[0], Settings(project.results, wandb="online"))
    monkeypatch.setitem(sys.modules, "wandb", Broken(""))
    assert project("track", "sync").out.startswith(f"{again} run")
