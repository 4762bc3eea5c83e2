"""Which of the records on disk count for a suite as it stands."""

from __future__ import annotations

import codecs
import json
import os
from dataclasses import replace

import pytest
from filelock import FileLock
from latentbench.audit.verify import verify
from latentbench.data.dataset import open_dataset
from latentbench.data.progress import silent
from latentbench.planning.plan import plan
from latentbench.records.archive import collect, finished, lock_path, running, suites_with_records
from latentbench.running.one import record_at
from latentbench.spec import registry

from tests.project import write_made_up


@pytest.fixture
def runs(project):
    return project.plan("cpu")


def test_a_record_is_found_by_the_cell_that_it_answers(project, runs):
    path = write_made_up(runs[0], {"nll": 1.0})
    collected = collect(runs)
    assert list(collected.found) == [runs[0].cell]
    assert collected.path(runs[0].cell) == path
    assert (collected.stale_code, collected.outdated, collected.unreadable) == ([], {}, [])


def test_nothing_on_disk_is_no_record(project, runs):
    assert collect(runs).found == {}


def value(collected, run) -> float:
    return collected.found[run.cell].metrics[0].value


def test_todays_code_goes_before_older_code_however_new(project, runs):
    write_made_up(runs[0], {"nll": 1.0}, code="f" * 64, ended="2030-01-01T00:00:00+00:00")
    assert value(collect(runs), runs[0]) == 1.0
    assert collect(runs).stale_code == [runs[0].cell], "it counts, and is named"
    write_made_up(runs[0], {"nll": 2.0}, ended="2020-01-01T00:00:00+00:00")
    assert value(collect(runs), runs[0]) == 2.0
    assert collect(runs).stale_code == []


def test_a_failure_of_todays_code_is_not_hidden_by_an_older_success(project, runs):
    write_made_up(runs[0], {"nll": 1.0}, code="f" * 64)
    write_made_up(runs[0], {"nll": None}, status="failed")
    assert collect(runs).found[runs[0].cell].status == "failed"


def test_among_equals_a_finished_one_goes_first_then_the_newest(project, runs):
    write_made_up(runs[0], {"nll": 1.0}, code="f" * 64, ended="2021-01-01T00:00:00+00:00")
    write_made_up(runs[0], {"nll": 2.0}, code="e" * 64, ended="2022-01-01T00:00:00+00:00")
    write_made_up(runs[0], {"nll": None}, code="d" * 64, ended="2023-01-01T00:00:00+00:00", status="failed")
    assert value(collect(runs), runs[0]) == 2.0


def test_records_of_another_specification_never_count(project, runs):
    write_made_up(runs[0], {"nll": 1.0}, asked="f" * 64)
    collected = collect(runs)
    assert collected.found == {}
    assert len(collected.outdated) == 1
    write_made_up(runs[0], {"nll": 2.0}, code="f" * 64)
    collected = collect(runs)
    assert value(collected, runs[0]) == 2.0, "stale goes before outdated"
    assert len(collected.outdated) == 1


def test_a_change_of_the_suite_outdates_what_it_touches(project, runs):
    for run in runs:
        write_made_up(run, {"nll": 1.0})
    after = project.plan("cpu", {"methods.wide.params.spread": 2.5})
    collected = collect(after)
    assert {cell.split("--")[0] for cell in collected.found} == {"narrow", "floor"}
    assert len(collected.outdated) == 3
    assert all(name.startswith("wide--") for name in collected.outdated)
    assert set(collected.outdated.values()) == {"the suite has changed: params"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"metrics.nll": None, "metrics.exact": {"metric": "nll"}}, "metric exact was not asked for"),
        ({"metrics.toy_metric.settings.scale": 2.0}, "the settings of metric toy_metric have changed"),
        ({"training.epochs": 4, "datasets.line.preprocess": []}, "the suite has changed: data, training"),
    ],
)
def test_it_is_told_what_has_changed(project, changes, why):
    base = {"metrics.toy_metric": {"settings": {"scale": 1.0}}}
    before = project.plan("cpu", base, methods=["wide"], seeds=[0])[0]
    write_made_up(before, {"nll": 1.0})
    collected = collect(project.plan("cpu", base | changes, methods=["wide"], seeds=[0]))
    assert list(collected.outdated.values()) == [why]


def test_a_new_version_of_a_metric_is_named(project, monkeypatch):
    before = project.plan("cpu", methods=["wide"], seeds=[0])[0]
    write_made_up(before, {"nll": 1.0})
    monkeypatch.setitem(registry.metrics(), "nll", replace(registry.metrics()["nll"], version=7))
    collected = collect(project.plan("cpu", methods=["wide"], seeds=[0]))
    assert list(collected.outdated.values()) == ["metric nll was version 1 and is 7"]


def test_broken_files_are_left_out_and_named(project, runs):
    good, bad = write_made_up(runs[0], {"nll": 1.0}), write_made_up(runs[1], {"nll": 1.0})
    bad.write_text("{")
    collected = collect(runs)
    assert list(collected.found) == [runs[0].cell]
    assert collected.path(runs[0].cell) == good
    assert len(collected.unreadable) == 1
    assert bad.parent.name in collected.unreadable[0]


def test_other_things_in_the_folder_do_no_harm(project, runs):
    folder = write_made_up(runs[0], {"nll": 1.0}).parent.parent
    (folder / "stray.txt").write_text("x")
    (folder / "empty--cpu--folder").mkdir()
    (folder / "a--b--cpu--s0--x" / "record.json").mkdir(parents=True)
    assert list(collect(runs).found) == [runs[0].cell]
    assert collect(runs).unreadable == []


def test_other_tiers_are_left_alone(project, runs):
    broken = write_made_up(project.plan("smoke")[0], {"nll": 1.0})
    broken.write_text("{")
    collected = collect(runs)
    assert (collected.found, collected.unreadable) == ({}, [])


def test_a_record_in_the_folder_of_another_run_is_named_and_counts_for_no_command(project, runs):
    open_dataset("line", silent)
    """A folder is named after its run: what was copied into another one by mistake says nothing of either."""
    own = write_made_up(runs[0], {"nll": 1.0})
    other = write_made_up(runs[1], {"nll": 2.0})
    other.write_bytes(own.read_bytes())
    for _ in range(2):  # also where the bytes are known
        collected = collect(runs)
        assert list(collected.found) == [runs[0].cell]
        assert f"it is the record of {own.parent.name}" in collected.unreadable[0]
        assert finished(runs) == {runs[0].cell}
    assert record_at(own)[0] is not None
    record, damage = record_at(other)
    assert record is None
    assert "under another name" in damage


def test_a_record_among_those_of_another_suite_is_named_and_counts_for_neither(project, runs):
    path = write_made_up(runs[0], {"nll": 1.0})
    place = project.results / "runs/other" / path.parent.name / path.name
    place.parent.mkdir(parents=True)
    path.rename(place)
    twin = project.load(name="other")
    collected = collect(plan(twin, "cpu"))
    assert not collected.found
    assert "suite small" in collected.unreadable[0]


def test_records_that_come_with_the_repository_count_after_those_run_here(project, runs):
    path = write_made_up(runs[0], {"nll": 1.0}, folder=project.root / "elsewhere")
    reference = project.results / "reference/small" / f"{path.parent.name}.json"
    reference.parent.mkdir(parents=True)
    path.rename(reference)
    assert value(collect(runs), runs[0]) == 1.0
    write_made_up(runs[0], {"nll": 2.0})
    assert value(collect(runs), runs[0]) == 2.0


def test_running_tells_whose_lock_is_held(project, runs):
    lock = lock_path(runs[0], "0" * 64, project.results)
    assert running(project.results) == {}
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        assert running(project.results) == {"small": [lock.stem]}
    assert running(project.results) == {}


def test_another_users_lock_is_seen_and_left_as_it_is(project, runs, monkeypatch, capfd):
    """Whoever only looks may not write there."""
    lock = lock_path(runs[0], "0" * 64, project.results)
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        lock.write_text("theirs")
        opened = os.open

        def only_read(path, flags, *more, **named):
            if str(path).endswith(".lock") and flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT):
                raise PermissionError(13, "Permission denied", path)
            return opened(path, flags, *more, **named)

        def hidden(path, *more, **named):
            if str(path).endswith(".lock"):
                raise PermissionError(13, "Permission denied", path)
            return opened(path, *more, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", only_read)
            assert running(project.results) == {"small": [lock.stem]}
            assert lock.read_text() == "theirs"
            patch.setattr(os, "open", hidden)
            assert running(project.results) == {}
    assert "1 of another user cannot be read" in capfd.readouterr().err


def test_what_a_mac_puts_beside_records_is_none(project, runs):
    path = write_made_up(runs[0], {"nll": 1.0})
    packed = write_made_up(runs[1], {"nll": 2.0}, folder=project.root / "elsewhere")
    reference = project.results / "reference/small" / f"{packed.parent.name}.json"
    reference.parent.mkdir(parents=True)
    packed.rename(reference)
    with_companions(project.results)
    collected = collect(runs)
    assert (len(collected.found), collected.unreadable) == (2, [])
    assert path.is_file()
    answer = project("verify", project.results, "--format", "json")
    assert len(json.loads(answer.out)) == 2
    assert suites_with_records(project.results) == ["small"]


def with_companions(folder):
    """What Finder and its archives add to every file of a folder."""
    for one in [p for p in folder.rglob("*") if p.name[0] != "."]:
        one.with_name(f"._{one.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
        one.with_name(".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    double = folder / "__MACOSX" / "reference" / "small"
    double.mkdir(parents=True)
    (double / "._x--y--cpu--s0--0.json").write_bytes(b"\0\5\x16\7")


def test_files_of_windows_editors_begin_with_a_mark(project, runs):
    """UTF-8's mark is no part of a record, a pack, a suite or a declaration."""
    path = write_made_up(runs[0], {"nll": 1.0})
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert collect(runs).unreadable == []
    assert value(collect(runs), runs[0]) == 1.0
    assert all("not a record" not in fault for c in verify(project.results) for fault in c.faults)
    suite = project.root / "suites/small.yaml"
    suite.write_bytes(codecs.BOM_UTF8 + suite.read_bytes())
    assert project("validate", "small").code == 0


def test_records_of_other_data_never_count(project, runs):
    open_dataset("line", silent)  # once it is here, its content is known
    write_made_up(runs[0], {"nll": 1.0}, data_hash="1" * 64)
    collected = collect(runs)
    assert collected.found == {}
    assert len(collected.outdated) == 1


def test_todays_code_and_another_never_share_a_mean(project, runs):
    """Seeds of one method: where some are of today's code, the others give way and are named."""
    same = [r for r in runs if (r.method, r.dataset) == (runs[0].method, runs[0].dataset)]
    write_made_up(same[0], {"nll": 1.0}, code="f" * 64)
    write_made_up(same[1], {"nll": 2.0}, code="f" * 64)
    assert len(collect(runs).found) == 2, "all stale: they count, and are named"
    write_made_up(same[1], {"nll": 3.0})
    collected = collect(runs)
    assert list(collected.found) == [same[1].cell]
    assert collected.superseded == [same[0].cell]
    assert value(collected, same[1]) == 3.0
