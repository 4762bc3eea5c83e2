"""`leaderboard`, `verdict` and `status` as people and scripts read them."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from tests.project import write_made_up

ORDER = {"id": "order", "kind": "order", "better": "wide", "worse": "narrow", "text": "t", "where": "Table 1"}
CHANGES = {
    "claims": [ORDER | {"metric": "nll", "dataset": "line"}],
    "reported": [
        {
            "method": "wide",
            "dataset": "line",
            "metric": "nll",
            "value": 0.9,
            "unit": "nats",
            "table": "1",
            "source": "s",
        }
    ],
    "tiers.cpu.deviations": ["fewer epochs than the paper's"],
}
VALUES = {"wide": [1.0, 1.2, 1.1], "narrow": [2.0, 2.3, 2.1]}


@pytest.fixture
def filled(project):
    for method, numbers in VALUES.items():
        for spec, number in zip(project.plan("cpu", CHANGES, methods=[method]), numbers):
            write_made_up(spec, {"nll": number})
    return project


def test_csv_begins_with_the_fixed_columns(filled):
    answer = filled("leaderboard", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    fixed = "suite,version,tier,dataset,method,metric,identity,unit,better,n,mean,std,ci_low,ci_high,reported,"
    assert answer.out.startswith(fixed + "reported_source,")
    assert [(r["method"], float(r["mean"]), r["reported"], r["better"]) for r in rows] == [
        ("wide", pytest.approx(1.1), "0.9", "lower"),
        ("narrow", pytest.approx(2.1333333), "", "lower"),
    ]


def test_json_is_the_same(filled):
    rows = json.loads(filled("leaderboard", "small", "--format", "json").out)
    assert [r["method"] for r in rows] == ["wide", "narrow"]
    assert rows[0]["mark"] == "best"
    assert rows[0]["difference"] == pytest.approx(0.2)
    assert rows[0]["version"] == 3


def test_the_table_says_what_a_reader_must_know(filled):
    answer = filled("leaderboard", "small")
    assert answer.code == 0
    for words in ("version 3, tier cpu", "nll on line [exact], nats, lower is better", "★", "1.10", "0.90", "+0.20"):
        assert words in answer.out
    assert "† shortened: fewer epochs than the paper's" in answer.out
    assert "1.100†" in answer.out, "beside the number"


def test_markdown(filled):
    out = filled("leaderboard", "--format", "md").out
    assert "### small v3 (cpu): nll on line \\[exact\\], nats, lower is better" in out
    assert "| **★** | **the wide one** | **1.100** | **0.852 to 1.348** | **3** | **0.900** | **+0.200** |" in out
    assert "|  | narrow | 2.133 |" in out
    for words in (
        "★: the 95 % interval",
        f"metric identity {'a' * 12}",
        "departs from the paper: fewer epochs",
        "2026-01-01",
    ):
        assert words in out


def test_labels_cannot_break_a_table(project):
    changes = {"methods.wide.label": "a | b <script>"}
    write_made_up(project.plan("cpu", changes)[0], {"nll": 1.0})
    out = project("leaderboard", "--format", "md").out
    assert "a \\| b &lt;script>" in out


def test_verdicts_as_json(filled):
    answer = filled("verdict", "--format", "json")
    (found,) = json.loads(answer.out)
    fixed = ["suite", "claim", "kind", "tier", "verdict", "estimate", "interval", "n", "needed_n", "text"]
    assert set(fixed) <= set(found)
    assert (found["claim"], found["verdict"], found["n"]) == ("order", "reproduced", 3)
    assert found["interval"][0] < found["estimate"] < found["interval"][1]


def test_the_verdict_answers_first(filled):
    lines = filled("verdict", "small").out.splitlines()
    assert lines[0] == "A small suite: suite small, version 3"
    assert lines[1] == "tier cpu, 75 % of the paper's training, 3 seeds. Of 1 claim: 1 reproduced."
    assert lines[2] == "nll on line (1): ours is 0.200 nats above the paper's (worse), for the number reported."
    assert lines[3] == "reproduced  t 1.10 against 2.13 nats: 1.03 lower (0.89 to 1.18, 3 seeds)."
    assert len(lines) == 4


def test_and_tells_all_when_asked(filled):
    out = filled("verdict", "small", "--all").out
    assert "claim by claim, Holm-corrected, alpha 0.05" in out
    assert "n = 3 paired seeds) [Table 1]" in out


def test_verdicts_of_some_methods(filled):
    for options in (("--method", "narrow"), ("--method", "wi*", "--dataset", "LI*"), ()):
        assert len(json.loads(filled("verdict", "small", *options, "--format", "json").out)) == 1
    for options in (("--method", "floor"), ("--dataset", "nowhere")):
        answer = filled("verdict", "small", *options)
        assert (answer.code, answer.out) == (2, ""), "nothing is ignored"


def test_claims_of_one_template_are_one_line_and_each_its_own_with_all(project):
    template = ORDER | {
        "id": "over-{m}-here",
        "metric": "nll",
        "dataset": "line",
        "worse": "{m}",
        "text": "The wide one is better than {m} at all times.",
        "grid": {"m": ["narrow", "floor", "far"]},
    }
    alone = ORDER | {"metric": "nll", "dataset": "line", "text": "Alone."}
    changes = {"claims": [alone, template], "methods.far": {"model": "factorised", "params": {}}}
    levels = {"wide": 1.0, "narrow": 2.0, "floor": 0.5, "far": 3.0}
    for spec in project.plan("cpu", changes):
        write_made_up(spec, {"nll": levels[spec.method] * (1 + spec.seed / 100)})
    lines = project("verdict", "small").out.splitlines()
    (folded,) = [line for line in lines if "at all times" in line]
    assert "The wide one is better than … at all times. 3 claims: 2 reproduced, 1 not reproduced" in folded
    assert folded.startswith("not reproduced"), "the worst of them"
    assert any("Alone." in line for line in lines)
    details = project("verdict", "small", "--all").out
    assert [f"over-{m}-here" in details for m in ("narrow", "floor", "far")] == [True] * 3


def test_details_have_the_cells_of_a_pooled_claim_elsewhere_too(project):
    pooled = ORDER | {
        "metric": "nll",
        "dataset": "line",
        "worse": "{m}",
        "pool": "all",
        "cells": {"m": ["narrow", "floor"]},
    }
    for spec in project.plan("cpu", {"claims": [pooled]}):
        level = {"wide": 1.0, "narrow": 2.0, "floor": 0.5}[spec.method]
        write_made_up(spec, {"nll": level + spec.seed / 100})
    lines = project("verdict", "small", "--all").out.splitlines()
    told = [line for line in lines if line.startswith(("as claimed", "not as claimed"))]
    assert [("narrow" in line, line.startswith("as claimed")) for line in told] == [(True, True), (False, False)]


def test_every_format_has_the_same_rows(filled, tmp_path):
    import pandas as pd

    for command, n, column in (("leaderboard", 2, "method"), ("verdict", 1, "claim"), ("scoreboard", 1, "suite")):
        suites = () if command == "scoreboard" else ("small",)
        rows = json.loads(filled(command, *suites, "--format", "json").out)
        assert len(rows) == n
        assert {r["date"] for r in rows} == {"2026-01-01"}
        assert all("revision" in r for r in rows)
        file = tmp_path / f"{command}.parquet"
        assert filled(command, *suites, "--format", "parquet", "-o", file).code == 0
        assert pd.read_parquet(file)[column].to_list() == [r[column] for r in rows]
        table = list(csv.DictReader(io.StringIO(filled(command, *suites, "--format", "csv").out)))
        assert [r[column] for r in table] == [r[column] for r in rows]
        for form, words in (("latex", "\\toprule"), ("md", "| --- |")):
            assert words in filled(command, *suites, "--format", form).out
    assert filled("leaderboard", "small", "-o", tmp_path / "x").code == 2, "a terminal's table is no file"


def test_every_seed_by_itself(filled):
    rows = json.loads(filled("leaderboard", "small", "--per-seed", "--format", "json").out)
    assert [(r["method"], r["seed"], r["value"]) for r in rows if r["metric"] == "nll"] == [
        (m, k, v) for m in VALUES for k, v in enumerate(VALUES[m])
    ]
    out = filled("leaderboard", "small", "--per-seed").out
    assert "seed 0  seed 1  seed 2" in out
    assert "2.3" in out
    assert rows[0]["date"].startswith("2026-01-01")


def test_latex_compiles_in_the_head(filled):
    """Nothing that LaTeX would read otherwise than it is meant; braces and environments are closed."""
    hostile = r"a_b & 50% #1 $x$ ~ ^ {\input{/etc/passwd}} | <b> \\"
    filled.suite(CHANGES | {"methods.wide.label": hostile})
    out = filled("leaderboard", "small", "--format", "latex").out
    assert "\\input{" not in out
    assert out.count("{") - out.count("\\{") == out.count("}") - out.count("\\}")
    assert out.count("\\begin{") == out.count("\\end{")
    rows = [line for line in out.splitlines() if line.endswith("\\\\")]
    assert {len(line.replace("\\&", "").split("&")) for line in rows} == {8}


@pytest.mark.parametrize("command", ["leaderboard", "verdict"])
def test_smoke_counts_for_nothing(filled, command):
    answer = filled(command, "small", "--tier", "smoke")
    assert answer.code == 2
    assert "--tier: " in answer.errors[0]


@pytest.mark.parametrize("command", ["leaderboard", "verdict", "status"])
def test_unknown_suites(filled, command):
    answer = filled(command, "smal")
    assert answer.code == 2
    assert "unknown suite 'smal' (did you mean 'small'?)" in answer.errors[0]


@pytest.mark.parametrize(
    ("option", "name", "hint"),
    [("--dataset", "lime", "line"), ("--metric", "nil", "nll"), ("--metric", "bit_per_dim", "bits_per_dim")],
)
def test_a_filter_that_no_suite_knows(filled, option, name, hint):
    answer = filled("leaderboard", option, name)
    assert answer.code == 2
    assert f"{option}: " in answer.errors[0]
    assert name in answer.errors[0]
    assert hint in answer.errors[0]


def test_filters(filled):
    assert json.loads(filled("leaderboard", "--metric", "bits_per_dim", "--format", "json").out) == []
    assert len(json.loads(filled("leaderboard", "--dataset", "line", "--format", "json").out)) == 2


def test_a_suite_without_records(project):
    project.suite(CHANGES)
    answer = project("leaderboard", "small")
    assert answer.code == 0
    assert "no records yet; `latentbench run small --tier cpu` makes them" in answer.out
    out = project("verdict", "small").out
    assert "Of 1 claim: 1 not run." in out
    assert "latentbench run small --tier cpu --method 'wide' --method 'narrow'" in out


def test_a_broken_suite_hides_no_other(filled):
    filled.write("broken", "id: [")
    answer = filled("leaderboard", "--format", "json")
    assert answer.code == 0
    assert len(json.loads(answer.out)) == 2


def test_broken_and_outdated_records_are_left_out_and_told(filled):
    specs = filled.plan("cpu", CHANGES, methods=["wide"])
    write_made_up(specs[0], {"nll": 0.0}, asked="f" * 64)
    write_made_up(specs[1], {"nll": 0.0}, code="e" * 64, ended="2031-01-01T00:00:00+00:00").write_text("{")
    answer = filled("leaderboard", "small")
    assert "1.10" in answer.out
    assert "1 records answer an earlier specification" in answer.err
    assert "left out: " in answer.err


def test_hostile_words_in_records_do_not_steer_the_terminal(project):
    spec = project.plan("cpu", {"methods.wide.label": "\u001b[31mred\u0007"})[0]
    write_made_up(spec, {"nll": 1.0}, outcomes=["[bold]\u001b]0;title\u0007"])
    for form in ("table", "md", "json"):
        out = project("leaderboard", "small", "--format", form).out
        assert "\u001b" not in out
        assert "\u0007" not in out
    assert "[bold]" in project("leaderboard", "small").out, "nor are they markup"
    broken = project.plan("cpu", {"methods.wide.label": "x"})[1]
    path = write_made_up(broken, {"nll": None}, status="failed")
    path.write_text(path.read_text().replace('"error": "made up"', '"error": "\\u001b[2J"'))
    assert "\u001b" not in project("status", "small", "--tier", "cpu").out


def test_records_that_came_with_the_repository_are_told_apart(project):
    for spec in project.plan("cpu", methods=["wide"]):
        path = write_made_up(spec, {"nll": 1.0})
        given = project.results / "reference" / "small" / f"{path.parent.name}.json"
        given.parent.mkdir(parents=True, exist_ok=True)
        path.rename(given)
    status = next(s for s in json.loads(project("status", "small", "--format", "json").out) if s["tier"] == "cpu")
    assert (status["done"], status["reference"], len(status["to_do"])) == (3, 3, 6)
    assert "3 of 9 runs done, 3 of them by reference records" in project("plan", "small", "--tier", "cpu").out
    assert "there already" not in project("run", "small", "--tier", "cpu", "--dry-run").out


def test_status(filled):
    found = {s["tier"]: s for s in json.loads(filled("status", "small", "--format", "json").out)}
    assert (found["cpu"]["done"], found["cpu"]["runs"], len(found["cpu"]["to_do"])) == (6, 9, 3)
    assert found["paper"]["done"] == 0
    assert found["cpu"]["reference"] == 0
    answer = filled("status", "small", "--tier", "cpu")
    assert "to do: small floor--line--cpu: 3 seeds (s0, s1, s2)\n" in answer.out
    assert "smoke" not in answer.out
    answer = filled("status", "small", "--tier", "cpu", "--all")
    assert "to do: small floor--line--cpu--s0\n" in answer.out


@pytest.mark.parametrize("option", ["--levels", "--jobs"])
def test_an_option_that_would_do_nothing_is_refused(project, option):
    project.suite()
    answer = project("verdict", "small", option, "2")
    assert answer.code == 2
    assert f"{option}: it goes with --noise" in answer.err


@pytest.mark.parametrize(("columns", "last"), [(60, "  latentbench run small --tier paper"), (160, None)])
def test_no_line_s_end_parts_a_command(project, monkeypatch, columns, last):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    claims = [ORDER | {"metric": "nll", "dataset": "line"}, ORDER | {"id": "far", "dataset": "line", "metric": "nll"}]
    project.suite({"claims": [claims[0], claims[1] | {"tiers": ["paper"]}], "tiers.paper": {"seeds": 3}})
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in project("verdict", "small").out.splitlines()]
    assert max(map(len, lines)) <= columns
    [line] = [line.rstrip() for line in lines if "--tier paper" in line]
    assert line == (last or "1 claim (1 order) judged at tier paper only: latentbench run small --tier paper")
