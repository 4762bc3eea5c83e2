"""How far a suite's runs have come."""

from __future__ import annotations

from filelock import FileLock
from latentbench.records.archive import lock_path
from latentbench.results.progress import paused, seconds_left, suite_status

from tests.project import write_made_up


def test_every_run_is_told_once(project):
    loaded, runs = project.load(), project.plan("cpu")
    write_made_up(runs[0], {"nll": 1.0})
    write_made_up(runs[7], {"nll": 1.0}, code="f" * 64)
    write_made_up(runs[2], {"nll": None}, status="diverged")
    write_made_up(runs[3], {"nll": 1.0}, asked="f" * 64)
    lock = lock_path(runs[4], "0" * 64, project.results)
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        found = suite_status(loaded, "cpu", project.results)
    assert (found.suite, found.tier, found.runs) == ("small", "cpu", 9)
    assert found.done == 2
    assert found.stale == [runs[7].cell]
    assert found.failed == [f"{runs[2].cell}: diverged: made up"]
    assert found.running == [runs[4].cell]
    assert found.to_do == [runs[i].cell for i in (1, 3, 5, 6, 8)]
    assert len(found.outdated) == 1
    assert found.done + len(found.failed) + len(found.running) + len(found.to_do) == found.runs


def test_nothing_done_yet(project):
    found = suite_status(project.load(), "smoke", project.results)
    assert (found.done, len(found.to_do)) == (0, 3)


def test_what_was_interrupted_and_how_long_the_rest_takes(project):
    loaded, runs = project.load(), project.plan("cpu")
    for run, steps in ((runs[1], (4, 12)), (runs[2], (7,))):
        folder = project.results / "runs/small" / f"{run.cell}--0123456789" / "checkpoint"
        folder.mkdir(parents=True)
        for step in steps:
            (folder / f"{step:012d}-{'a' * 64}.safetensors").touch()
        (folder / "values.json").touch()
    (folder.parent / "record.json").touch()  # that one has ended
    assert paused("small", project.results) == {runs[1].cell: 12}
    found = suite_status(loaded, "cpu", project.results)
    assert found.paused == {runs[1].cell: 12}
    assert runs[1].cell in found.to_do, "a paused run is to do as well"
    assert seconds_left(loaded, found, project.results, "cpu") == (0.0, len(found.to_do)), "nobody can tell"
    write_made_up(runs[0], {"nll": 1.0, "bits_per_dim": 1.0})  # a second
    found = suite_status(loaded, "cpu", project.results)
    same = [cell for cell in found.to_do if cell.startswith(runs[0].cell.rpartition("--")[0])]
    seconds, untold = seconds_left(loaded, found, project.results, "cpu")
    assert (seconds, untold) == (float(len(same)), len(found.to_do) - len(same))
    answer = project("status", "small", "--tier", "cpu")
    assert f"paused: small {runs[1].cell}: goes on from step 12" in answer.out
    assert "left: small cpu: " in answer.out
    assert project("status", "--watch", "--format", "json").code == 2


def test_watching_looks_again_until_it_is_stopped(project, monkeypatch):
    from latentbench.cli import status

    project.suite()
    looks = []

    def pause(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", pause)
    answer = project("status", "small", "--watch")
    assert answer.code == 130
    assert answer.out.count("again in 5 s") == 2
