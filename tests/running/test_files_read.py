"""What a plug-in takes from elsewhere: a lab's own package, files beside its code."""

from __future__ import annotations

import hashlib
import sys

import pytest
from latentbench.core import loaded, loose, plugins
from latentbench.core.reach import installed
from latentbench.planning.fingerprint import imported_by
from latentbench.running import code_watch
from latentbench.running.settings import Settings
from latentbench.scheduling.task import perform
from latentbench.spec import registry

MODEL = """
import json
from pathlib import Path

import labkit.scales
import torch
from torch import nn
from latentbench.declare import model

TABLE = json.loads((Path(__file__).parent / "tables" / "at-import.json").read_text())


@model("lab-model", "Trainable ExactLikelihood")
class Lab(nn.Module):
    def __init__(self, info):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(info.shape))
        with open(Path(__file__).with_name("start.json")) as f:
            self.start = json.load(f)
        for path in sorted(Path(__file__).parent.glob("*.txt")):
            self.start += float(path.read_text())

    def log_prob(self, x):
        return -labkit.scales.scale() * TABLE * self.start * ((x - self.mean) ** 2).flatten(1).sum(1)

    def loss(self, batch, generator):
        return {"loss": -self.log_prob(batch.x).mean()}
"""


@pytest.fixture
def lab(project, monkeypatch):
    """A plug-in that imports a package of the lab's from another folder, and reads files."""
    folder, kit = project.root / "lab-files", project.root / "elsewhere" / "labkit"
    (folder / "tables").mkdir(parents=True)
    kit.mkdir(parents=True)
    (folder / "mine.py").write_text(MODEL)
    (folder / "tables/at-import.json").write_text("0.5")
    (folder / "start.json").write_text("1.0")
    (folder / "unused.json").write_text("3.0")
    (folder / "found-when-it-runs.txt").write_text("0.25")
    (kit / "__init__.py").write_text("raise_if_imported_to_be_read = 1\n")
    (kit / "scales.py").write_text("from .deep import BASE\n\n\ndef scale():\n    return BASE\n")
    (kit / "deep.py").write_text("BASE = 2.0\n")
    (kit / "other.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(str(kit.parent))
    monkeypatch.setenv(plugins.VARIABLE, str(folder))
    monkeypatch.setattr(code_watch, "_looked_up", [])
    monkeypatch.setattr(installed, "_others", set())
    unload()
    registry.forget()
    installed.forget()
    yield project.root
    monkeypatch.delenv(plugins.VARIABLE)
    unload()
    registry.forget()
    installed.forget()


def unload():
    for name in [n for n in sys.modules if n.startswith(("latentbench.papers.lab_files", "labkit"))]:
        del sys.modules[name]
        loaded._made_from.pop(name, None)


def planned(project):
    changes = {"methods": {"lab": {"model": "lab-model"}}, "metrics": {"nll": {}}}
    return project.plan("cpu", changes, seeds=[0])[0]


def edit(path, text):
    path.write_text(text)
    installed.forget()


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("elsewhere/labkit/deep.py", "BASE = 2.5\n", True),
        ("elsewhere/labkit/deep.py", "BASE = (2.0)  # the same\n", False),
        ("elsewhere/labkit/other.py", "X = 2\n", False),
        ("lab-files/start.json", "1.5", True),
        ("lab-files/unused.json", "4.0", False),
    ],
)
def test_what_a_plug_in_takes_from_elsewhere_is_part_of_what_its_runs_depend_on(project, lab, file, text, changes):
    before = planned(project).code_hash
    assert "labkit" not in sys.modules, "it is read, not imported"
    edit(lab / file, text)
    assert (planned(project).code_hash != before) is changes


def test_hashes_that_were_kept_by_an_earlier_process_do_not_hide_an_edit(project, lab):
    """As `edit` and a new process, which takes what was kept as it finds it."""
    before = planned(project).code_hash
    installed.forget()
    assert planned(project).code_hash == before
    edit(lab / "lab-files/start.json", "7")
    assert planned(project).code_hash != before


def test_a_record_names_what_was_read(project, lab):
    record, _ = perform(planned(project), Settings(project.results))
    assert (record.status, record.error) == ("finished", None)
    read = {"lab-files/tables/at-import.json", "lab-files/start.json", "lab-files/found-when-it-runs.txt"}
    assert record.provenance.files.keys() == read
    for name, digest in record.provenance.files.items():
        assert digest == hashlib.sha256((lab / name).read_bytes()).hexdigest()
    assert record.provenance.depends == []
    again, _ = perform(project.plan("cpu", methods=["wide"], seeds=[0])[0], Settings(project.results))
    assert (again.method, dict(again.provenance.files)) == ("wide", {}), "a run of other code"
    assert perform(planned(project), Settings(project.results, force=True))[0].provenance.files.keys() == read, (
        "read at import, once a process"
    )


def test_a_lab_package_that_is_edited_after_it_was_loaded_gives_no_number(project, lab):
    assert perform(planned(project), Settings(project.results))[0].status == "finished"
    edit(lab / "elsewhere/labkit/deep.py", "BASE = 2.5\n")
    record, _ = perform(planned(project), Settings(project.results))
    assert record.status == "failed"
    assert "labkit.deep: the source was changed" in record.error


def test_packages_that_are_installed_are_known_by_their_versions(project, lab, tmp_path, monkeypatch):
    """Also in a folder of somebody's own, where a distribution was unpacked."""
    place = tmp_path / "unpacked"
    (place / "labdist").mkdir(parents=True)
    (place / "labdist/__init__.py").write_text("X = 1\n")
    (place / "labdist-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(place))
    assert loose.loose_root("labdist") is None
    assert loose.loose_root("labkit.scales") == lab / "elsewhere/labkit"
    assert [loose.loose_root(m) for m in ("torch.nn", "json", "numpy", "no_such_module", "pytest")] == [None] * 5
    assert imported_by(planned(project).roots()) == {"torch", "numpy"}
