"""Sources that change under a sweep: no result of one code is recorded under the hash of another."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from latentbench.core import loaded, plugins
from latentbench.core.opened import sha256_of
from latentbench.core.reach import installed
from latentbench.discovery import finding
from latentbench.running import code_watch
from latentbench.running.settings import Settings
from latentbench.scheduling.local import run_all
from latentbench.scheduling.task import perform
from latentbench.spec import registry

from tests.project import SUITE

MODEL = """
import torch
from torch import nn
from latentbench.declare import model
from latentbench.papers.lab_code.parts import scale


@model("lab-model", "Trainable ExactLikelihood")
class Lab(nn.Module):
    def __init__(self, info):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(info.shape))

    def log_prob(self, x):
        return -scale() * ((x - self.mean) ** 2).flatten(1).sum(1)

    def loss(self, batch, generator):
        return {"loss": -self.log_prob(batch.x).mean()}
"""
PARTS = "def scale():\n    return 0.5\n"


@pytest.fixture
def lab(project, monkeypatch):
    """A plug-in folder with a model in two modules; writes one of them anew."""
    folder = project.root / "lab-code"
    folder.mkdir()

    def write(name: str, text: str) -> None:
        (folder / f"{name}.py").write_text(text)

    write("mine", MODEL)
    write("parts", PARTS)
    monkeypatch.setenv(plugins.VARIABLE, str(folder))
    monkeypatch.setattr(code_watch, "_looked_up", [])
    refresh()
    yield write
    monkeypatch.delenv(plugins.VARIABLE)
    refresh()


def refresh():
    """As a new process would see things, but for the modules that are loaded."""
    plugins.forget()
    installed.forget()
    for module in (finding, registry):
        for known in vars(module).values():
            if hasattr(known, "cache_clear"):
                known.cache_clear()


def unload():
    for name in [n for n in sys.modules if n.startswith("latentbench.papers.lab_code")]:
        del sys.modules[name]
        loaded._made_from.pop(name, None)


def planned(project):
    methods = {"lab": {"model": "lab-model"}}
    return project.plan("cpu", {"methods": methods, "metrics": {"nll": SUITE["metrics"]["nll"]}}, seeds=[0])[0]


@pytest.fixture(autouse=True)
def nothing_loaded():
    unload()
    yield
    unload()


def test_what_is_loaded_is_known_by_its_bytes(project, lab):
    record, _ = perform(planned(project), Settings(project.results))
    assert (record.status, record.error) == ("finished", None)
    path, made = loaded.made_from()["latentbench.papers.lab_code.parts"]
    assert made == sha256_of(path) == dict(code_watch._looked_up[0][1])[path]


@pytest.mark.parametrize("module", ["mine", "parts"])
def test_a_source_that_is_edited_before_it_is_loaded_gives_no_number(project, lab, module):
    """As a worker that starts late: what it would import is not what its runs were planned with."""
    spec = planned(project)
    assert spec.code_hash
    lab(module, {"mine": MODEL.replace("zeros", "ones"), "parts": PARTS.replace("0.5", "0.7")}[module])
    record, _ = perform(spec, Settings(project.results))
    assert record.status == "failed"
    assert "the code of lab was changed after its runs were planned" in record.error
    assert all(m.value is None for m in record.metrics)


def test_a_process_that_loaded_the_code_before_it_was_edited_gives_no_number_for_the_new(project, lab):
    """As a worker on another machine that waits for runs."""
    assert perform(planned(project), Settings(project.results))[0].status == "finished"
    lab("parts", PARTS.replace("0.5", "0.7"))
    installed.forget()
    record, _ = perform(planned(project), Settings(project.results))
    assert record.status == "failed"
    assert "latentbench.papers.lab_code.parts: the source was changed, and other code was loaded" in record.error


def test_an_edit_while_it_trains_costs_nothing_as_all_is_loaded(project, lab):
    spec = planned(project)

    def edit(what) -> None:
        if what.phase == "training":
            lab("parts", PARTS.replace("0.5", "0.7"))

    record, _ = perform(spec, Settings(project.results), edit)
    assert (record.status, record.error) == ("finished", None)
    assert record.hashes["code"] == spec.code_hash


def test_an_edit_of_what_a_run_does_not_reach_costs_nothing(project, lab):
    spec = planned(project)
    lab("other", "x = 1\n")
    lab("parts", PARTS + "\n\ndef unused():\n    return 1\n")
    assert replace(spec).code_hash == spec.code_hash
    assert perform(spec, Settings(project.results))[0].status == "finished"


def test_runs_carry_the_hash_of_the_code_that_they_were_planned_with(project, lab):
    """A worker that starts late would otherwise find out its own, of what it finds by then."""
    spec = planned(project)
    project.results.mkdir(parents=True, exist_ok=True)
    done = []

    def report(what) -> None:
        if not done and what.phase == "data":
            done.append(lab("parts", PARTS.replace("0.5", "0.7")))

    records = []
    run_all([spec], Settings(project.results), 1, report, lambda _, record, __: records.append(record))
    assert done
    assert [r.status for r in records] == ["failed"]
    assert "after its runs were planned" in records[0].error
