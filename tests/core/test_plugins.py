"""Folders of code as packages: whose code runs, what each is called, and that other processes find it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from latentbench.core import plugins
from latentbench.core.errors import UserError
from latentbench.core.imports import load, module_file
from latentbench.core.trust import VARIABLE
from latentbench.spec import registry

MODULE = "import sys\nsys.stderr.write('it runs ')\nclass Thing:\n    size = 3\n"


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A project of somebody else's with a paper that has code."""
    root = tmp_path / "their-project"
    folder = root / "suites" / "their-paper"
    folder.mkdir(parents=True)
    (root / "suites" / "papers.yaml").write_text("[]\n")
    (folder / "thing.py").write_text(MODULE)
    monkeypatch.setenv("LATENTBENCH_ROOT", str(root))
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.delenv(VARIABLE, raising=False)
    registry.forget()
    yield folder
    monkeypatch.undo()
    registry.forget()


THING = "latentbench.papers.their_paper.thing:Thing"


def test_a_strangers_paper_does_not_run_unless_the_user_says_so(stranger, monkeypatch, capsys):
    with pytest.raises(UserError, match=r"their-paper: it holds code from outside latentbench .*--plugins"):
        load(THING)
    assert module_file(THING.partition(":")[0]) == stranger / "thing.py", "reading it is harmless"
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(VARIABLE, "1")
    assert load(THING).size == 3
    assert capsys.readouterr().err == "it runs "


def test_naming_the_folder_is_consent(stranger):
    registry.add_folder(stranger)
    assert load(THING).size == 3


def test_other_processes_find_what_was_pickled(stranger):
    registry.add_folder(stranger)
    pickled = pickle.dumps(load(THING))
    script = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).size)"
    done = subprocess.run([sys.executable, "-c", script], input=pickled, capture_output=True, check=True)
    assert done.stdout == b"3\n"


def test_our_papers_need_no_consent():
    found = plugins.paper_folders()
    assert found["gumbel_softmax"].name == "gumbel-softmax"
    assert import_module("latentbench.papers.gumbel_softmax").__path__ == [str(found["gumbel_softmax"])]


def test_a_folder_is_not_on_the_path(stranger):
    registry.add_folder(stranger)
    assert str(stranger) not in sys.path
    with pytest.raises(ModuleNotFoundError):
        import_module("thing")


def test_modules_of_a_folder_that_is_gone_are_forgotten(stranger, tmp_path, monkeypatch):
    registry.add_folder(stranger)
    assert load(THING).size == 3
    other = tmp_path / "their-paper"
    other.mkdir()
    (other / "thing.py").write_text(MODULE.replace("3", "4"))
    monkeypatch.setenv("LATENTBENCH_ROOT", str(tmp_path))
    monkeypatch.setenv(plugins.VARIABLE, str(other))
    registry.forget()
    assert load(THING).size == 4


def test_two_folders_of_one_name_are_refused(stranger, tmp_path):
    other = tmp_path / "their_paper"
    other.mkdir()
    with pytest.raises(UserError, match=r"their_paper: it has the name of a paper's folder"):
        registry.add_folder(other)


def test_a_module_that_cannot_be_imported_is_told_with_its_file(stranger, monkeypatch):
    (stranger / "broken.py").write_text("1 / 0\n")
    registry.add_folder(stranger)
    with pytest.raises(UserError, match=r"broken\.py: cannot be imported: ZeroDivisionError"):
        load("latentbench.papers.their_paper.broken:Thing")


@pytest.mark.parametrize(
    ("folder", "name"), [("gumbel-softmax", "gumbel_softmax"), ("my plug-ins", "my_plug_ins"), ("3d", "_3d")]
)
def test_names_of_packages(folder, name):
    assert plugins.package_name(Path(folder)) == name
