"""`latentbench plan`, `run --budget` and `run --until-settled`."""

from __future__ import annotations

import json

import pytest
from latentbench.records.declared import read_declared
from latentbench.scheduling import local

from tests.project import write_made_up

COMMON = {"text": "t", "where": "Table 1", "metric": "nll", "dataset": "line"}
ORDER = {"id": "order", "kind": "order", "better": "wide", "worse": "narrow", **COMMON}
BOUND = {"id": "bound", "kind": "bound", "method": "floor", "at_least": -1000.0, **COMMON}
CHANGES = {"claims": [ORDER, BOUND]}


def made(project, method, seeds, tier="cpu"):
    for spec in project.plan(tier, CHANGES, methods=[method], seeds=seeds):
        write_made_up(spec, {"nll": 1.0 + 0.1 * spec.seed})


def test_unknown_is_said(project):
    project.suite(CHANGES)
    told = project("plan", "small", "--tier", "cpu", "--device", "cpu")
    assert told.code == 0
    assert "unknown: no record of any tier" in told.out
    assert "0 of 9 runs done; 9 cost what nobody has measured" in told.out


def test_json(project):
    project.suite(CHANGES)
    made(project, "wide", [0, 1])
    told = project("plan", "small", "--tier", "cpu", "--device", "cpu", "--format", "json")
    plan = json.loads(told.out)
    assert (plan["format"], plan["unit"], plan["budget"]) == (1, "core-hours", None)
    [suite] = plan["suites"]
    assert (suite["runs"], suite["to_do"], suite["unknown_runs"]) == (9, 7, 6)
    cells = {c["method"]: c for c in suite["cells"]}
    assert cells["wide"]["source"] == "measured"
    assert cells["wide"]["hours_per_run"] == pytest.approx(1 / 3600)
    assert (cells["narrow"]["source"], cells["narrow"]["hours_per_run"]) == ("unknown", None)
    claims = {c["claim"]: c for c in suite["claims"]}
    assert (claims["order"]["seeds_needed"], len(claims["order"]["runs"]), claims["order"]["hours"]) == (3, 4, None)


def test_measure(project):
    project.suite(CHANGES)
    told = project(
        "plan", "small", "--tier", "cpu", "--device", "cpu", "--measure", "--budget", "10m", "--format", "json"
    )
    plan = json.loads(told.out)
    assert {c["source"] for c in plan["suites"][0]["cells"]} == {"pilot"}
    assert len(plan["budget"]["claims"]) == 2
    assert "timing 3 methods" in told.err


def test_the_budget_is_what_run_runs(project):
    project.suite(CHANGES)
    for method in ("wide", "narrow", "floor"):
        made(project, method, [0])
    asked = ("small", "--tier", "cpu", "--device", "cpu", "--budget", "0.001")
    plan = json.loads(project("plan", *asked, "--format", "json").out)
    assert plan["budget"]["claims"] == [["small", "bound"]], "3.6 s buy two runs of a second"
    assert [x["claim"] for x in plan["budget"]["left_out"]] == ["order"]
    told = project("plan", *asked)
    assert "left out" in told.out
    dry = project.run("small", "--tier", "cpu", "--budget", "0.001", "--dry-run")
    assert [line.split()[1] for line in dry.out.splitlines()] == [cell for _, cell in plan["budget"]["runs"]]
    assert project.run("small", "--tier", "cpu", "--budget", "0.001", "-q").code == 0
    assert sum(cell.startswith("floor--") for cell in project.records()) == 3
    assert sum(cell.startswith("wide--") for cell in project.records()) == 1


#: The wide one is better, but three seeds do not show it by the fixed test.
PILOT = {"wide": [1.0, 1.9, 1.2], "narrow": [1.3, 1.9, 1.4], "floor": [5.0, 5.1, 5.2]}


def piloted(project):
    project.suite(CHANGES)
    for method, values in PILOT.items():
        for spec, value in zip(project.plan("cpu", CHANGES, methods=[method], seeds=range(3)), values):
            write_made_up(spec, {"nll": value})


def test_a_budget_declares_its_looks_before_it_adds_seeds(project, monkeypatch):
    piloted(project)
    asked = ("small", "--tier", "cpu", "--budget", "1h")
    told = project("plan", *asked, "--device", "cpu")
    assert "as `run --budget` will judge, sequentially at 3, 4, 6, 8, 12 seeds" in told.err
    plan = json.loads(project("plan", *asked, "--device", "cpu", "--format", "json").out)
    assert plan["suites"][0]["sequential"] is True
    dry = project.run(*asked, "--dry-run")
    assert [line.split()[1] for line in dry.out.splitlines()] == [cell for _, cell in plan["budget"]["runs"]]
    assert read_declared("small", "cpu", project.results) is None, "so far nothing is run"

    seen = []
    perform = local.perform
    monkeypatch.setattr(
        local,
        "perform",
        lambda *a, **k: seen.append(read_declared("small", "cpu", project.results)) or perform(*a, **k),
    )
    told = project.run(*asked)
    assert (told.code, len(seen)) == (0, len(plan["budget"]["runs"])), told.err
    assert "judged sequentially at 3, 4, 6, 8, 12 seeds" in told.err
    assert {(d.first, d.cap, d.there) for d in seen} == {(3, 12, 9)}, "before the first run"
    verdicts = json.loads(project("verdict", "small", "--format", "json").out)
    assert all(v["sequential"] for v in verdicts)
    assert all("9 records from before the interim analyses were declared" in v["text"] for v in verdicts)


def test_a_budget_with_a_cap(project):
    piloted(project)
    assert project.run("small", "--tier", "cpu", "--budget", "1h", "--cap", "6", "-q").code == 0
    assert read_declared("small", "cpu", project.results).cap == 6
    told = project("plan", "small", "--tier", "cpu", "--budget", "1h", "--cap", "2")
    assert told.code == 0, "what was declared stands"


def test_a_budget_for_the_tiers_own_seeds_declares_nothing(project):
    project.suite(CHANGES)
    for method in ("wide", "narrow", "floor"):
        made(project, method, [0])
    assert project.run("small", "--tier", "cpu", "--budget", "1h", "-q").code == 0
    assert len(project.records()) == 9
    assert not (project.results / "sequential").exists()


def test_a_budget_that_buys_nothing(project):
    project.suite(CHANGES)
    for method in ("wide", "narrow", "floor"):
        made(project, method, [0])
    told = project.run("small", "--tier", "cpu", "--budget", "0.0001")
    assert told.code == 2
    assert "bound takes" in told.err


@pytest.mark.parametrize("text", ["0h", "-3", "soon", "nan", "h", "inf"])
def test_times_that_are_none(project, text):
    project.suite(CHANGES)
    assert project("plan", "small", f"--budget={text}").code == 2


def test_options_that_exclude_each_other(project):
    project.suite(CHANGES)
    assert project.run("small", "--until-settled", "--budget", "1h").code == 2
    assert project.run("small", "--until-settled", "--seeds", "3").code == 2
    assert project.run("small", "--cap", "3").code == 2
    assert project("plan", "small", "--cap", "3").code == 2
    assert not project.results.exists()


def test_until_settled(project):
    """The bound is clear at the first analysis; the order is a tie of two methods that differ in nothing."""
    project.suite({**CHANGES, "methods.narrow.params.spread": 2.0})
    told = project.run("small", "--tier", "cpu", "--until-settled", "--cap", "4")
    assert told.code == 0
    assert "judged sequentially at 3, 4 seeds" in told.err
    assert "sequential tests" in told.out
    cells = project.records()
    assert sum(c.startswith("floor--") for c in cells) == 3, "no more seeds of what is settled"
    verdicts = {v["claim"]: v for v in json.loads(project("verdict", "small", "--format", "json").out)}
    assert verdicts["bound"]["verdict"] == "reproduced"
    assert all(v["sequential"] for v in verdicts.values())
    again = project.run("small", "--tier", "cpu", "--until-settled", "--cap", "4", "-q")
    assert "9 runs" in again.err, "the first analysis's, which are there already"
    assert len(project.records()) == len(cells)


def test_until_settled_dry(project):
    project.suite(CHANGES)
    told = project.run("small", "--tier", "cpu", "--until-settled", "--dry-run")
    assert len(told.out.splitlines()) == 9
    assert not (project.results / "sequential").exists()
