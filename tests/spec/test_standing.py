"""What `list` remembers of suites, and that no answer is stale."""

from __future__ import annotations

import json

import pytest
from latentbench.core import file_cache
from latentbench.core.plugins import VARIABLE
from latentbench.spec import loading, registry
from latentbench.spec.standing import papers, states, suites

PLUGIN = """\
from latentbench.declare import model

@model("mine", "Trainable ExactLikelihood", "mine")
class Mine:
    def __init__(self, info, *, size=1): ...
"""


@pytest.fixture
def remembered(project, own_data, monkeypatch):
    """A project whose files are all old enough to be remembered, with data entries of its own."""
    monkeypatch.setattr(file_cache, "STILL", -1)
    return project


@pytest.fixture
def read(monkeypatch):
    """The suites that are read."""
    seen = []
    true = loading.load_suite
    monkeypatch.setattr(loading, "load_suite", lambda path: seen.append(path.stem) or true(path))
    return seen


def test_a_suite_is_read_once(remembered, read):
    remembered.suite()
    remembered.suite(name="other")
    first = suites()
    assert suites() == first
    assert read == ["other", "small"]


def test_an_edited_suite_is_read_again_and_no_other(remembered, read):
    remembered.suite()
    remembered.suite(name="other")
    assert states() == {"other": "validates", "small": "validates"}
    remembered.suite({"methods.wide.model": "no-such-model"})
    assert states() == {"other": "validates", "small": "invalid"}
    remembered.suite({"version": 4})
    assert [s["version"] for s in suites()] == [3, 4]
    assert read == ["other", "small", "small", "small"]


def test_a_changed_data_entry_changes_the_state_at_once(remembered):
    remembered.suite()
    assert states() == {"small": "validates"}
    entry = remembered.root / "data/registry/line.yaml"
    text = entry.read_text()
    entry.write_text(text.replace("  all:", "  every:"))
    assert states() == {"small": "invalid"}
    entry.write_text(text)
    assert states() == {"small": "validates"}
    entry.unlink()
    assert states() == {"small": "invalid"}


def test_a_plug_in_that_is_added_counts_at_once(remembered, tmp_path, monkeypatch):
    remembered.suite({"methods": {"mine": {"model": "mine"}}, "metrics": {"nll": {}}})
    assert states() == {"small": "invalid"}
    folder = tmp_path / "plug-ins"
    folder.mkdir()
    (folder / "mine_too.py").write_text(PLUGIN)
    monkeypatch.setenv(VARIABLE, "")
    registry.add_folder(folder)
    assert states() == {"small": "validates"}
    remembered.suite({"methods": {"mine": {"model": "mine", "params": {"size": 2}}}, "metrics": {"nll": {}}})
    assert states() == {"small": "validates"}
    (folder / "mine_too.py").write_text(PLUGIN.replace(", *, size=1", ""))
    registry.forget()  # what another process would not know
    assert states() == {"small": "invalid"}


def test_what_cannot_be_read_is_not_remembered(remembered, read):
    remembered.write("broken", "id: [")
    assert [s["title"] for s in suites()] == [s["title"] for s in suites()]
    assert suites()[0]["title"].startswith("unreadable: suites/broken.yaml:")
    assert read == ["broken"] * 3


@pytest.mark.parametrize("text", ["", "{", '{"version": 1}'])
def test_a_damaged_memory_is_made_anew(remembered, text):
    remembered.suite()
    first = suites()
    file = remembered.results / "cache/suites.json"
    file.write_text(text)
    assert suites() == first
    assert json.loads(file.read_text())["known"]


def test_another_version_of_this_package_trusts_nothing(remembered, read, monkeypatch):
    remembered.suite()
    suites()
    monkeypatch.setattr("latentbench.spec.standing.__version__", "0.0.0")
    suites()
    assert read == ["small", "small"]


def test_papers_follow_their_file(remembered):
    entry = "- {id: small, title: A, family: vae, scope: core, priority: 1}\n"
    remembered.write("papers", entry)
    assert [p["state"] for p in papers()] == ["no suite"]
    remembered.suite()
    assert [(p["title"], p["state"]) for p in papers()] == [("A", "validates")]
    remembered.write("papers", entry.replace("A", "B"))
    assert [(p["title"], p["state"]) for p in papers()] == [("B", "validates")]
