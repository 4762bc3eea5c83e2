"""Several runs on this machine, in one process or in several."""

from __future__ import annotations

import pytest
from latentbench.running.settings import Settings
from latentbench.scheduling.local import cores, default_jobs, run_all, threads_for

from tests.project import Project


def sweep(project: Project, specs: list, jobs: int, folder: str) -> dict[str, object]:
    reports, done = [], {}
    settings = Settings(project.root / folder)
    run_all(specs, settings, jobs, reports.append, lambda spec, record, cached: done.update({spec.cell: record}))
    assert {t.cell for t in reports} == {s.cell for s in specs}
    assert jobs or {"data", "training", "evaluation"} <= {t.phase for t in reports}  # of others the latest is heard
    return done


def test_side_by_side_and_one_after_another_give_the_same(project):
    """Bit for bit: values, weights and failures, whichever process did the run."""
    changes = {"methods.broken": {"model": "toy", "params": {"spoil": "raise"}}, "metrics.toy_metric": {}}
    specs = project.plan("cpu", changes, seeds=[0, 1])
    one, two = sweep(project, specs, 0, "one"), sweep(project, specs, 2, "two")
    assert set(one) == set(two) == {s.cell for s in specs}
    for cell, record in one.items():
        other = two[cell]
        assert (record.status, record.metrics, record.fingerprint) == (other.status, other.metrics, other.fingerprint)
        folders = [project.root / f / "runs/small" / record.run_id for f in ("one", "two")]
        if record.status == "finished":
            first, second = ((f / "weights.safetensors").read_bytes() for f in folders)
            assert first == second
    assert {r.status for c, r in one.items() if c.startswith("broken")} == {"failed"}
    assert {r.status for c, r in one.items() if not c.startswith("broken")} == {"finished"}


def test_threads_are_shared_among_jobs(monkeypatch):
    monkeypatch.setattr("latentbench.scheduling.local.cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_for(n) for n in (1, 2, 3, 8, 100)] == [8, 4, 2, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert [threads_for(n) for n in (1, 2, 8)] == [2, 2, 1], "what the user asks for bounds it"


def test_default_jobs(monkeypatch):
    monkeypatch.setattr("latentbench.scheduling.local.cores", lambda: 4)
    assert default_jobs("cpu", 100) == 4
    assert default_jobs("cpu", 2) == 2
    assert default_jobs("cuda", 100) == 1
    assert default_jobs("cpu", 0) == 1


def test_cores():
    assert cores() >= 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_raised_outside_the_runs_ends_the_sweep_and_keeps_what_is_done(project, error):
    specs = project.plan("cpu", methods=["floor"])

    def stop(spec, record, cached):
        raise error

    with pytest.raises(error):
        run_all(specs, Settings(project.results), 1, lambda t: None, stop)
    assert len(project.records()) == 1


@pytest.mark.parametrize(
    ("text", "threads"),
    [("4,2", 4), ("6", 6), (" 3 , 1", 3), ("auto", 8), ("2.0", 8), ("0", 8), ("-1", 8), ("²", 8), ("", 8)],
)
def test_threads_are_as_openmp_reads_them(monkeypatch, text, threads):
    monkeypatch.setattr("latentbench.scheduling.local.cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads_for(1) == threads
