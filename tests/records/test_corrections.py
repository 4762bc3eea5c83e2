"""Old values beside new ones, where what is measured changed."""

from __future__ import annotations

from latentbench.records.corrections import note_corrections
from latentbench.records.record import read_record

from tests.project import Project, write_made_up


def record(project: Project, value: float, identity: str, code: str, ended: str = "2026-01-01T00:00:00+00:00"):
    spec = project.plan("cpu", methods=["wide"], seeds=[0])[0]
    path = write_made_up(spec, {"nll": value}, identity=identity, code=code * 64, ended=ended)
    return read_record(path)


def test_a_new_identity_is_noted_once(project):
    record(project, 1.5, "a" * 12, "1")
    now = record(project, 2.5, "b" * 12, "2", "2026-02-01T00:00:00+00:00")
    assert note_corrections(now, project.results) == 1
    assert note_corrections(now, project.results) == 0
    text = (project.results / "CORRECTIONS.md").read_text()
    assert f"| 2026-02-01 | small | wide--line--cpu--s0 | nll, nats | 1.5 | 2.5 | {'a' * 12} -> {'b' * 12} |" in text


def test_other_code_alone_corrects_nothing(project):
    record(project, 1.5, "a" * 12, "1")
    now = record(project, 2.5, "a" * 12, "2", "2026-02-01T00:00:00+00:00")
    assert note_corrections(now, project.results) == 0
    assert not (project.results / "CORRECTIONS.md").exists()


def test_a_run_under_new_settings_of_a_metric_leaves_its_correction(project):
    project.suite({"metrics.toy_metric": {"settings": {"scale": 1.0}}})
    assert project.run("small", "--method", "wide", "--seeds", "1", "--quiet").code == 0
    project.suite({"metrics.toy_metric": {"settings": {"scale": 3.0}}})
    assert project.run("small", "--method", "wide", "--seeds", "1", "--quiet").code == 0
    lines = (project.results / "CORRECTIONS.md").read_text().splitlines()
    assert len([line for line in lines if "| small |" in line]) == 1
    assert "toy_metric" in lines[-1]
