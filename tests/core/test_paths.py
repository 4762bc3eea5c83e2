"""Where a project's folders are, and names that stay inside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from latentbench.core import paths
from latentbench.core.errors import UserError
from latentbench.core.paths import (
    cache_dir,
    catalogue_file,
    checkout,
    data_dir,
    project_root,
    reference_dirs,
    registry_dirs,
    results_dir,
    safe_name,
    shipped_root,
    shown,
    suites_dirs,
)
from latentbench.spec.files import suite_files

from tests.project import whole


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


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty working directory, with nothing said by the environment and the package in no checkout."""
    for name in ("LATENTBENCH_ROOT", "LATENTBENCH_DATA", "LATENTBENCH_RESULTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "_PACKAGE", tmp_path / "site-packages/latentbench")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def shipped(nowhere, tmp_path):
    """The folder of what comes with an installed package."""
    return tmp_path / "site-packages/latentbench/_shipped"


def test_folders_follow_the_environment(nowhere, tmp_path, monkeypatch):
    whole(tmp_path)
    monkeypatch.setenv("LATENTBENCH_ROOT", str(tmp_path))
    assert (project_root(), suites_dirs()) == (tmp_path, [tmp_path / "suites"])
    assert (data_dir(), results_dir()) == (tmp_path / "data", tmp_path / "results")
    monkeypatch.setenv("LATENTBENCH_DATA", str(tmp_path / "d"))
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(tmp_path / "r"))
    assert (data_dir(), results_dir()) == (tmp_path / "d", tmp_path / "r")
    assert registry_dirs() == [tmp_path / "d/registry", tmp_path / "data/registry"]
    assert reference_dirs() == [tmp_path / "r/reference", tmp_path / "results/reference"]


def test_a_root_that_is_no_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTBENCH_ROOT", str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"LATENTBENCH_ROOT: .* is no folder"):
        project_root()


@pytest.mark.parametrize("sign", ["suites/papers.yaml", "suites/my-paper/suite.yaml"])
def test_a_project_is_found_from_below(nowhere, monkeypatch, sign):
    (nowhere / sign).parent.mkdir(parents=True)
    (nowhere / sign).write_text("[]\n")
    (nowhere / "some/folder").mkdir(parents=True)
    monkeypatch.chdir(nowhere / "some/folder")
    assert project_root() == nowhere


def test_a_checkout_ships_what_it_holds(nowhere, tmp_path, monkeypatch):
    clone = whole(nowhere)
    monkeypatch.setattr(paths, "_PACKAGE", clone / "benchmarks/latentbench")
    monkeypatch.chdir(tmp_path)
    assert (checkout(), shipped_root(), project_root()) == (clone, clone, clone)
    assert suites_dirs() == [clone / "suites"]


def test_what_was_installed_is_seen_from_an_empty_folder(nowhere, shipped):
    assert checkout() is None
    assert project_root() == nowhere
    assert suites_dirs() == [nowhere / "suites", shipped / "suites"]
    assert catalogue_file() == shipped / "suites/papers.yaml"
    assert registry_dirs() == [nowhere / "data/registry", shipped / "data/registry"]
    assert reference_dirs() == [nowhere / "results/reference", shipped / "results/reference"]
    assert reference_dirs(nowhere / "theirs") == [nowhere / "theirs/reference"]


def test_looking_leaves_nothing_in_a_folder_that_is_no_project(nowhere, tmp_path):
    assert cache_dir() == tmp_path / "cache/latentbench"
    (nowhere / "results").mkdir()
    assert cache_dir() == nowhere / "results/cache"


def test_a_project_sees_its_own_suites_and_the_shipped_ones(nowhere, shipped):
    for place in (shipped / "suites/one", shipped / "suites/two", nowhere / "suites/two", nowhere / "suites/three"):
        place.mkdir(parents=True)
        (place / "suite.yaml").touch()
    assert suite_files() == {
        "one": shipped / "suites/one/suite.yaml",
        "three": nowhere / "suites/three/suite.yaml",
        "two": nowhere / "suites/two/suite.yaml",
    }
    whole_project = nowhere / "suites/papers.yaml"
    whole_project.write_text("[]\n")
    assert list(suite_files()) == ["three", "two"], "a catalogue of its own: nothing is looked for elsewhere"


def test_paths_are_shown_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a/b.yaml") == "a/b.yaml"
    assert shown(Path("/elsewhere/b.yaml")) == "/elsewhere/b.yaml"
