"""How far a suite's runs have come."""

from __future__ import annotations

from filelock import FileLock
from latentbench.records.archive import lock_path
from latentbench.results.progress import suite_status

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
