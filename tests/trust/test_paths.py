"""No name from outside leads out of the folder that it belongs to, and neither does a link."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.bounds import read_at_most
from latentbench.core.errors import UserError
from latentbench.core.paths import safe_name, stays_inside
from latentbench.data.registry import load_entry
from latentbench.records.archive import collect, lock_path, run_folder, running
from latentbench.results.gather import gather
from latentbench.results.tables import curves
from latentbench.running.checkpoints import Checkpoints

from tests.trust.tampering import edit, record_of
from tests.trust.tampering import run_folder as results_of_runs

CLIMBING = ["..", "../x", "../../../etc/passwd", "/etc/passwd", "a/../../x", "C:\\x", "\\\\host\\x", "a\\..\\..\\x"]
CLIMBING += ["nul\0byte", "x" * 5000, "\u2025/x", "\uff0e\uff0e/x", "\u202e", "~root", "$HOME", ".", "", " ", "-rf"]


@given(st.text(max_size=300) | st.sampled_from(CLIMBING))
def test_a_safe_name_is_one_part_of_a_path(text):
    name = safe_name(text)
    assert name
    assert Path(name).name == name
    assert name not in (".", "..")
    assert len(name.encode()) <= 120
    assert name.isascii()
    assert safe_name(name) == name


@pytest.mark.parametrize("name", CLIMBING)
def test_no_suite_method_dataset_or_metric_is_called_so(project, name):
    for change in ({"id": name}, {"methods": {name: {"model": "toy"}}}, {"datasets": {name: {"source": "line"}}}):
        answer = project("validate", project.suite(change))
        assert answer.code == 2, change
    answer = project("validate", project.suite({"metrics": {name: {"metric": "nll"}}}))
    assert answer.code == 2


@pytest.mark.parametrize("name", CLIMBING)
def test_no_dataset_is_looked_up_so(project, name):
    with pytest.raises(UserError, match="no dataset"):
        load_entry(name)
    if name:  # an empty one stands for none
        assert project("validate", project.suite({"datasets.line.source": name})).code == 2
    assert project("data", "describe", f"--={name}" if name.startswith("-") else name).code == 2


def test_every_run_stays_in_the_results(project):
    """Also where a specification did not come from a suite, and names what no suite may."""
    from dataclasses import replace

    spec = project.plan("cpu")[0]
    root = project.results.resolve()
    for name in CLIMBING:
        for odd in (replace(spec, suite=name), replace(spec, method=name), replace(spec, dataset=name)):
            assert run_folder(odd, "0" * 64).resolve().is_relative_to(root / "runs")
            assert lock_path(odd, "0" * 64, project.results).resolve().is_relative_to(root / "locks")


@pytest.fixture
def elsewhere(tmp_path_factory):
    """A folder of the user's, outside the results, that stays as it is."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "precious").write_text("precious")
    yield folder
    assert [p.name for p in folder.rglob("*")] == ["precious"]
    assert (folder / "precious").read_text() == "precious"


LINKS = ["runs", "runs/small", "locks", "locks/small"]


@pytest.mark.parametrize("place", LINKS)
def test_a_link_leads_nothing_out(project, elsewhere, place):
    project.suite()
    link = project.results / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere, target_is_directory=True)
    answer = project.run("small", "--seeds", "1", "--method", "wide", "-q")
    assert answer.code == 2
    assert "a link leads out of the folder" in answer.errors[0]


def test_a_link_in_place_of_a_runs_folder(project, elsewhere):
    spec = project.plan("cpu", methods=["wide"], seeds=[0])[0]
    from latentbench.data.dataset import open_dataset

    folder = run_folder(spec, open_dataset("line").content_hash)
    folder.parent.mkdir(parents=True)
    folder.symlink_to(elsewhere, target_is_directory=True)
    assert project.run("small", "--seeds", "1", "--method", "wide", "-q").code == 2


@pytest.mark.parametrize("name", ["record.json", "curve.csv", "weights.safetensors"])
def test_a_link_in_place_of_a_file_is_replaced_not_followed(project, elsewhere, name):
    project.suite()
    command = ("small", "--seeds", "1", "--method", "wide", "-q")
    assert project.run(*command).code == 0
    path = record_of(project.results).with_name(name)
    path.unlink()
    path.symlink_to(elsewhere / "precious")
    assert project.run(*command, "--force").code == 0
    assert not path.is_symlink()


def test_a_link_in_place_of_a_lock_empties_nothing(project, elsewhere):
    spec = project.plan("cpu", methods=["wide"], seeds=[0])[0]
    from latentbench.data.dataset import open_dataset

    lock = lock_path(spec, open_dataset("line").content_hash, project.results)
    lock.parent.mkdir(parents=True)
    lock.symlink_to(elsewhere / "precious")
    assert running(project.results) == {}
    assert project("status", "small").code == 0
    answer = project.run("small", "--seeds", "1", "--method", "wide", "-q")
    assert answer.code == 2
    assert "a link leads out" in answer.errors[0]


def test_the_results_folder_itself_may_be_a_link(project, tmp_path_factory, monkeypatch):
    there = tmp_path_factory.mktemp("disk")
    project.results.symlink_to(there, target_is_directory=True)
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(project.results))
    project.suite()
    assert project.run("small", "--seeds", "1", "--method", "wide", "-q").code == 0
    assert len(list(there.glob("runs/small/*/record.json"))) == 1


def test_stays_inside(tmp_path):
    assert stays_inside(tmp_path / "a/b", tmp_path) == tmp_path / "a/b"
    for out in (tmp_path / "../x", tmp_path.parent, Path("/")):
        with pytest.raises(UserError, match="leads out"):
            stays_inside(out, tmp_path)


def test_checkpoints_that_are_links_or_pipes_are_not_read(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    name = f"{3:012d}-{'0' * 64}.safetensors"
    (folder / name).symlink_to("/dev/zero")
    assert Checkpoints(folder, "f" * 64, 1.0).latest() is None
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert Checkpoints(folder, "f" * 64, 1.0).latest() is None
    for odd in ("²²²²²²²²²²²²-x.safetensors", "000000000001.safetensors", "../x.safetensors".replace("/", "_")):
        (folder / odd).write_bytes(b"x")
    assert Checkpoints(folder, "f" * 64, 1.0).last_step() is None


def test_endless_files(tmp_path):
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "zero", tmp_path / "pipe"):
        with pytest.raises(OSError, match="not a regular file"):
            read_at_most(path, 1000)
    with open(tmp_path / "holes", "wb") as file:
        file.truncate(12 << 30)
    assert read_at_most(tmp_path / "holes", 1000) is None
    (tmp_path / "some").write_bytes(b"x" * 1000)
    assert read_at_most(tmp_path / "some", 1000) == b"x" * 1000
    assert read_at_most(tmp_path / "some", 999) is None


def test_suites_that_are_no_files(project):
    path = project.root / "suites/endless.yaml"
    path.symlink_to("/dev/zero")
    answer = project("validate", "endless")
    assert answer.code == 2
    assert "not a regular file" in answer.errors[0]
    path.unlink()
    os.mkfifo(path)
    assert project("validate", "endless").code == 2


def test_a_curve_is_found_beside_its_record_whatever_the_record_says(project, tmp_path_factory):
    results_of_runs(project, tmp_path_factory.mktemp("kept"))
    whole = curves([gather(project.load(), "cpu", project.results)])
    assert whole.count("\n") > 3
    edit(record_of(project.results), lambda d: d.update(curve="../../../../etc/passwd"), reseal=True)
    edit(record_of(project.results, "wide--line--cpu--s1"), lambda d: d.update(curve="/etc/passwd"), reseal=True)
    assert curves([gather(project.load(), "cpu", project.results)]) == whole


def test_records_that_name_their_cell_otherwise_count_for_nothing(project, tmp_path_factory):
    results_of_runs(project, tmp_path_factory.mktemp("kept"))
    plan = project.plan("cpu", methods=["wide"], seeds=[0])
    assert len(collect(plan).found) == 1
    for name in ("wide\0", "wide\n", "../wide", "wide/", "=wide"):
        edit(record_of(project.results), lambda d, name=name: d.update(method=name), reseal=True)
        assert collect(plan).found == {}


def test_a_record_of_an_unknown_metric_is_left_out_and_said(project, tmp_path_factory):
    results_of_runs(project, tmp_path_factory.mktemp("kept"))
    edit(record_of(project.results), lambda d: d["metrics"][0].update(metric="no-such"), reseal=True)
    answer = project("leaderboard", "small", "--format", "json")
    assert answer.code == 0
    assert json.loads(answer.out)
    assert "a metric that is not registered, 'no-such'" in "\n".join(collect(project.plan("cpu")).unreadable)
