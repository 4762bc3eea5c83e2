"""Where a project's folders are, and names that stay inside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.core.paths import data_dir, project_root, results_dir, safe_name, shown, suites_dir


@given(st.one_of(st.text(), st.text("./\\-a:~\0 ", max_size=10), st.from_regex(r"(\.\./)+[a-z]*")))
@example("..")
@example("." * 200)
@example("a" * 119 + "..")
@example("a" * 119 + ".b")
@example("-rf")
@example("")
def test_safe_name_is_one_component_below_its_folder(text):
    name = safe_name(text)
    assert 0 < len(name) <= 120
    assert name not in (".", "..")
    assert (Path("/base") / name).parent == Path("/base")
    assert Path("/base", name).resolve() == Path("/base") / name
    assert name.isascii()
    assert name.isprintable()
    assert safe_name(name) == name, "it is left alone the second time"


def test_ordinary_names_stay_as_they_are():
    for name in ("iwae-k50", "beta-tcvae_0.5", "mnist+omniglot", "a"):
        assert safe_name(name) == name


def test_folders_follow_the_environment(tmp_path, monkeypatch):
    (tmp_path / "suites").mkdir()
    for name in ("LATENTBENCH_DATA", "LATENTBENCH_RESULTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LATENTBENCH_ROOT", str(tmp_path))
    assert (project_root(), suites_dir()) == (tmp_path, tmp_path / "suites")
    assert (data_dir(), results_dir()) == (tmp_path / "data", tmp_path / "results")
    monkeypatch.setenv("LATENTBENCH_DATA", str(tmp_path / "d"))
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(tmp_path / "r"))
    assert (data_dir(), results_dir()) == (tmp_path / "d", tmp_path / "r")


def test_a_root_without_suites_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTBENCH_ROOT", str(tmp_path))
    with pytest.raises(UserError, match=r"LATENTBENCH_ROOT: .* has no folder suites/"):
        project_root()


def test_the_root_is_found_from_below(tmp_path, monkeypatch):
    monkeypatch.delenv("LATENTBENCH_ROOT", raising=False)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites/papers.yaml").write_text("[]\n")
    (tmp_path / "some/folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "some/folder")
    assert project_root() == tmp_path


def test_paths_are_shown_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a/b.yaml") == "a/b.yaml"
    assert shown(Path("/elsewhere/b.yaml")) == "/elsewhere/b.yaml"
