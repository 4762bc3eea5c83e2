"""`latentbench show`: a suite's card."""

from __future__ import annotations

import json
import shutil

import pytest
from latentbench.spec.papers import catalogue

from tests.project import REPOSITORY, write_made_up
from tests.spec.suites import TEXT


def test_the_card_tells_what_the_suite_holds(project):
    project.write("small", TEXT)
    answer = project("show", "small")
    assert (answer.code, answer.err) == (0, "")
    for words in (
        "A small suite",
        "A. Nobody, 2026",
        "suite small, version 3",
        "vae-k5",
        "standardise",
        "wide-beats-floor",
    ):
        assert words in answer.out
    assert "factorised" in answer.out
    assert "(baseline)" in answer.out


def test_json_is_the_suite_with_its_cost(project):
    project.write("small", TEXT)
    found = json.loads(project("show", "small", "--format", "json").out)
    assert (found["id"], found["version"]) == ("small", 3)
    assert list(found["methods"]) == ["wide", "vae-k1", "vae-k5", "floor"]
    assert [(c["tier"], c["runs"]) for c in found["cost"]] == [("smoke", 4), ("cpu", 8)]


def test_cost_is_measured_where_it_can_be(project):
    changes = {"tiers.cpu.cost": "an hour, we think"}

    def text() -> str:
        found = json.loads(project("show", "small", "--format", "json").out)["cost"]
        return next(c["text"] for c in found if c["tier"] == "cpu")

    runs = project.plan("cpu", changes)
    assert text() == "an hour, we think"
    write_made_up(runs[0], {"nll": 1.0})  # a second each
    assert text() == "9 s (from 1 measured runs)"
    for run in runs:
        write_made_up(run, {"nll": 1.0})
    assert text() == "9 s (measured)"


def test_a_paper_without_a_suite_has_a_card_too(project):
    shutil.copy(REPOSITORY / "suites/papers.yaml", project.root / "suites")
    paper = next(p for p in catalogue() if p.claim and p.small and p.reported and p.arxiv)
    for name in (paper.id, paper.id.upper(), paper.arxiv, paper.title):
        answer = project("show", name)
        assert (answer.code, answer.err) == (0, "")
        text = " ".join(answer.out.split())
        for words in (paper.title, paper.arxiv, paper.claim, paper.small, f"latentbench new suite {paper.id}"):
            assert " ".join(words.split()) in text
        assert paper.reported[0].what in text
    assert json.loads(project("show", paper.id, "--format", "json").out)["claim"] == paper.claim


@pytest.mark.parametrize(
    ("name", "meant"), [("Beta_TCVAE", "beta-tcvae"), ("IWEA", "iwae"), ("vqwea", "vq-wae"), ("real nvp ", "real-nvp")]
)
def test_a_near_name_in_any_case_and_spelling(project, name, meant):
    shutil.copy(REPOSITORY / "suites/papers.yaml", project.root / "suites")
    answer = project("show", name)
    assert answer.code == 2
    assert repr(meant) in answer.errors[0]


def test_every_paper_of_the_catalogue_has_a_card(project):
    shutil.copy(REPOSITORY / "suites/papers.yaml", project.root / "suites")
    for paper in catalogue()[::40]:
        assert project("show", paper.id).code == 0


def test_reported_numbers_verdicts_and_nothing_twice(project):
    cells = [f"m{i}" for i in range(24)]
    changes = {
        "methods": {m: {"model": "toy", "params": {"spread": 1.0 + k}} for k, m in enumerate(cells)},
        "reported": [{"method": m, "dataset": "line", "metric": "nll", "value": 3.25, "std": 0.5, "runs": 3,
                      "unit": "nats", "table": "Table 7", "source": "arXiv 1"} for m in cells],
        "claims": [{"id": f"cell-{m}", "kind": "value", "text": "The cell, within a nat.", "where": "Table 7",
                    "metric": "nll", "dataset": "line", "method": m, "tolerance": 1.0} for m in cells],
    }  # fmt: skip
    write_made_up(project.plan("cpu", changes)[0], {"nll": 4.0})
    out = project("show", "small").out
    assert "reported: Table 7, line (arXiv 1)" in out
    assert out.count("3.25 ± 0.5") == 24
    assert out.count("The cell, within a nat.") == 1
    assert "cell-m0 … (24 claims)" in out
    assert "what came out so far" in out
    assert "ours is 0.750 nats above the paper's (worse), for 1 of 24 numbers reported" in out


def test_a_suite_that_is_not_there(project):
    answer = project("show", "absent")
    assert answer.code == 2
    assert len(answer.errors) == 1


def test_words_of_a_stranger_do_not_steer_the_terminal(project):
    evil = "a\u001b[2J\u0007b"
    project.suite(
        {
            "paper": {"title": evil, "authors": [evil], "year": 2026, "venue": evil},
            "summary": evil,
            "methods.wide.label": evil,
            "datasets.line.note": evil,
            "tiers.cpu.cost": evil,
        }
    )
    out = project("show", "small").out
    assert "\u001b" not in out
    assert "\u0007" not in out


def test_notes_beside_the_suite_say_what_came_out(project):
    folder = project.root / "suites/small"
    folder.mkdir()
    (folder / "suite.yaml").write_text(TEXT)
    assert json.loads(project("show", "small", "--format", "json").out)["notes"] is None
    (folder / "notes.md").write_text("Wide is \x1b[31mahead.\n")
    assert project("show", "small").out.endswith("what came out\nWide is \N{REPLACEMENT CHARACTER}[31mahead.\n")
    assert json.loads(project("show", "small", "--format", "json").out)["notes"] == "Wide is \x1b[31mahead."
