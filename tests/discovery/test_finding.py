"""Declarations of the package and of folders beside it, kept by the state of each file."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from latentbench.core import plugins
from latentbench.core.errors import UserError
from latentbench.core.file_cache import STILL
from latentbench.discovery import finding, reading

MINE = """
from latentbench.declare import model

@model("mine", "Sampler", "{summary}")
class Mine: ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A plug-in folder with one model, and a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "plugins"))
    (tmp_path / "plugins").mkdir()
    write(tmp_path / "plugins" / "mine.py", MINE.format(summary="first"))
    finding.forget()
    yield tmp_path / "plugins"
    finding.forget()


def write(path: Path, text: str, age: float = 2 * STILL / 1e9) -> None:
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)


def summary() -> str:
    finding.forget()
    said: str = finding.found("model")["mine"].arguments["summary"]
    return said


def test_a_folder_s_declarations_join_ours(folder):
    found = finding.found("model")
    assert found["mine"].target == "latentbench.papers.plugins.mine:Mine"
    assert found["vae"].target == "latentbench.models.vae:VAE"


def test_an_edit_is_seen(folder):
    assert summary() == "first"
    write(folder / "mine.py", MINE.format(summary="second"))
    assert summary() == "second"


def test_what_stands_still_is_read_once(folder, monkeypatch):
    time.sleep(STILL / 1e9)  # inode changes count, and nobody can set them back
    finding.found("model")
    finding.forget()
    monkeypatch.setattr(finding, "declarations", lambda *_: pytest.fail("read again"))
    assert finding.found("model")["mine"].line == 4


def test_a_damaged_cache_counts_for_nothing(folder, tmp_path):
    finding.found("model")
    for file in (tmp_path / "cache" / "latentbench").glob("*.json"):
        file.write_text(json.dumps({"version": "?"}))
    assert summary() == "first"


def test_two_of_one_name_are_refused(folder):
    write(folder / "other.py", MINE.format(summary="again"))
    finding.forget()
    with pytest.raises(UserError, match=r"other\.py:4: model 'mine' is declared twice \(see .*mine\.py:4"):
        finding.found("model")


def test_every_declaration_of_ours_names_what_there_is():
    for kind in reading.KINDS:
        for declared in finding.found(kind).values():
            assert callable(finding.thing(declared))
