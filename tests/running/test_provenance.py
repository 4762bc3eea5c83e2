"""Where a run happened."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata

import pytest
import torch
from latentbench.core import plugins
from latentbench.running import provenance
from latentbench.spec import registry

from tests.project import REPOSITORY, SUITE


def test_time_is_utc_to_the_second():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", provenance.now())
    assert abs((datetime.fromisoformat(provenance.now()) - datetime.now(UTC)).total_seconds()) < 5


def test_packages_are_those_installed():
    assert provenance.packages()["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"numpy", "scipy", "lightning"} <= set(provenance.packages())


def test_the_revision_is_gits():
    forget()
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True)
    revision, dirty = provenance.git_state()
    assert revision == (asked.stdout.strip() if asked.returncode == 0 else None)
    assert (dirty is None) == (revision is None)


def forget():
    for known in (provenance.git_state, provenance.git_fault, provenance._asked_git):
        known.cache_clear()


@pytest.fixture
def somebody_elses(monkeypatch):
    """git refuses to say anything of a checkout that another user owns."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    forget()
    yield
    forget()


@pytest.mark.skipif(shutil.which("git") is None or not (REPOSITORY / ".git").exists(), reason="no git here")
def test_a_revision_that_git_does_not_tell_is_said(somebody_elses, project, monkeypatch):
    assert provenance.git_state() == (None, None)
    assert "the git revision is not known: fatal: detected dubious ownership" in provenance.git_fault()
    assert project.run(project.suite(), "--method", "floor", "--seeds", "1", "--quiet").code == 0
    (record,) = project.records().values()
    assert record.provenance.git_revision is None
    assert record.provenance.faults == [provenance.git_fault()]
    assert "dubious ownership" in project("doctor").out


def test_a_machine_without_git_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    forget()
    try:
        assert provenance.git_state() == (None, None)
        assert "git cannot be asked" in provenance.git_fault()
    finally:
        forget()


def test_the_command_says_what_not_where(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/somebody/secret/bin/latentbench", "run", "small"])
    assert provenance.command_line() == ["latentbench", "run", "small"]
    typed = ["--results", "/home/me/lab/out", "--plugins=/home/me/mine", "~/lab", "suites/small.yaml", "--cap", "3"]
    monkeypatch.setattr("sys.argv", ["/opt/bin/latentbench", "run", *typed])
    said = ["--results", "…/out", "--plugins=…/mine", "…/lab", "suites/small.yaml", "--cap", "3"]
    assert provenance.command_line() == ["latentbench", "run", *said], "where it lies is nobody else's matter"


def test_peak_memory_is_in_bytes():
    assert 10e6 < provenance.peak_memory("cpu") < 1e12


USES = """
import torch
from torch import nn
from latentbench.declare import model
from latentbench.papers.lab_uses.parts import far


@model("lab-uses", "Trainable ExactLikelihood")
class Lab(nn.Module):
    def __init__(self, info):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(info.shape))

    def log_prob(self, x):
        return -far(x - self.mean)

    def loss(self, batch, generator):
        return {"loss": -self.log_prob(batch.x).mean()}
"""
PARTS = """
def far(x):
    import PIL.Image  # Pillow's module has another name
    from torchdiffeq import odeint
    return (x**2).flatten(1).sum(1) + 0.0 * bool(PIL and odeint)


def unused():
    import ot
    return ot
"""


def test_a_run_names_the_packages_that_its_own_code_imports(project, monkeypatch):
    """By definition, wherever they are imported; not what merely stands in the same module."""
    folder = project.root / "lab-uses"
    folder.mkdir()
    (folder / "model.py").write_text(USES)
    (folder / "parts.py").write_text(PARTS)
    changes = {"methods": {"lab": {"model": "lab-uses"}, "floor": SUITE["methods"]["floor"]}}
    suite = project.suite(changes | {"metrics": {"nll": {}}})
    monkeypatch.setenv(plugins.VARIABLE, str(folder))
    registry.forget()
    said = project.run(suite, "--seeds", "1", "--quiet")
    monkeypatch.delenv(plugins.VARIABLE)
    registry.forget()
    assert said.code == 0, said.err
    made = {r.method: r.provenance for r in project.records().values()}
    assert made["lab"].depends == ["pillow", "torchdiffeq"]
    assert made["lab"].packages["torchdiffeq"] == metadata.version("torchdiffeq")
    assert made["floor"].depends == []
    assert "torchdiffeq" not in made["floor"].packages
