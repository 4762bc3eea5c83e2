"""`latentbench doctor`: what is missing, and how to get it."""

from __future__ import annotations

import json

from tests.project import write_made_up


def looked_at(project) -> tuple[int, dict[str, dict]]:
    answer = project("doctor", "--format", "json")
    return answer.code, {f["what"]: f for f in json.loads(answer.out)}


def test_a_sound_project(project):
    write_made_up(project.plan("cpu")[0], {"nll": 1.0})
    code, found = looked_at(project)
    assert code == int(any(f["level"] == "problem" for f in found.values()))
    for what in ("python", "torch", "processor cores", "project", "data folder", "results folder", "records"):
        assert found[what]["level"] == "ok", found[what]
    assert found["mirror"]["level"] == found["dvc.lock"]["level"] == "note"
    assert found["records"]["found"] == "1"
    assert all(f["fix"] for f in found.values() if f["level"] == "problem")


def test_a_lock_file_cut_in_half(project):
    whole = "schema: '2.0'\nstages:\n  prepare@digits:\n    cmd: python -m latentbench\n    outs:\n    - path: data\n"
    lock = project.root / "dvc.lock"
    lock.write_text(whole)
    assert looked_at(project)[1]["dvc.lock"]["level"] == "ok"
    for cut in (whole[:-20] + "   - {", whole[: whole.index("    cmd")], "", "schema: '2.0'\n"):
        lock.write_text(cut)
        code, found = looked_at(project)
        assert (code, found["dvc.lock"]["level"]) == (1, "problem")
        assert "dvc repro" in found["dvc.lock"]["fix"]


def test_broken_records_and_a_mirror_that_is_none(project, monkeypatch):
    write_made_up(project.plan("cpu")[0], {"nll": 1.0}).write_text("{")
    monkeypatch.setenv("LATENTBENCH_MIRROR", str(project.root / "absent"))
    code, found = looked_at(project)
    assert code == 1
    assert found["record"]["level"] == "problem"
    assert "delete it" in found["record"]["fix"]
    assert found["mirror"]["level"] == "problem"


def test_the_table_says_the_same(project):
    (project.root / "suites").mkdir(exist_ok=True)
    answer = project("doctor")
    assert "what to do" in answer.out
    assert "processor cores" in answer.out
