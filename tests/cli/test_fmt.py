"""`latentbench fmt`: suites laid out one way, and left alone where that cannot be done."""

from __future__ import annotations

from latentbench.core import yamlformat
from latentbench.data.registry import load_entry
from latentbench.spec.loading import load_suite

from tests.project import REPOSITORY
from tests.spec.suites import TEXT

LONG = TEXT.replace("params: {spread: 2.0}", f"params: {{spread: 2.0}}  # as printed\n    label: {'wide ' * 30}")


def test_check_names_what_would_change_and_changes_nothing(project):
    path = project.write("small", LONG)
    project.write("other", TEXT.replace("id: small", "id: other"))
    answer = project("fmt", "--check")
    assert (answer.code, answer.out) == (1, f"would change: suites/{path.name}\n")
    assert path.read_text() == LONG
    assert project("fmt", "other", "--check").code == 0


def test_a_suite_says_the_same_afterwards(project):
    path = project.write("small", LONG)
    before = load_suite(path).suite
    answer = project("fmt", "small")
    assert (answer.code, answer.out) == (0, f"changed: suites/{path.name}\n")
    assert load_suite(path).suite == before
    assert "# as printed" in path.read_text()
    assert max(map(len, path.read_text().splitlines())) <= 120
    assert project("fmt", "--check").code == 0
    assert project("fmt").out == ""


def test_entries_of_datasets_are_laid_out_too(project):
    entry = (REPOSITORY / "data/registry/mnist.yaml").read_text()
    path = project.root / "data/registry/mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(entry.replace("name: mnist\n", f"name: mine\n# {'why ' * 5}\n").replace("\n  Proc", " Proc"))
    before = load_entry("mine")
    assert (project("fmt", "--check").code, max(map(len, path.read_text().splitlines())) > 120) == (1, True)
    answer = project("fmt")
    assert (answer.code, answer.out) == (0, "changed: data/registry/mine.yaml\n")
    assert load_entry("mine") == before
    assert max(map(len, path.read_text().splitlines())) <= 120


def test_what_is_no_yaml_is_left_alone(project):
    path = project.write("small", TEXT.replace("version: 3", "version: [3"))
    answer = project("fmt")
    assert answer.code == 2
    assert f"suites/{path.name}:3: not YAML" in answer.errors[0]
    assert project("fmt", "smal").code == 2


def test_a_layout_that_would_change_the_data_is_not_written(project, monkeypatch):
    path = project.write("small", LONG)
    monkeypatch.setattr(yamlformat, "formatted", lambda text: text.replace("spread: 2.0", "spread: 2.5"))
    answer = project("fmt", "small")
    assert answer.code == 2
    assert "without changing what it says" in answer.errors[0]
    monkeypatch.setattr(yamlformat, "formatted", lambda text: text.replace("  # as printed", ""))
    assert project("fmt", "small").code == 2, "nor one that loses a comment"
    assert path.read_text() == LONG
