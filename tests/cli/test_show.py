"""`latentbench show`: a suite's card."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

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


@pytest.fixture
def card_again(project, monkeypatch):
    """A suite with a record, and what `show` says of it, which is kept at once."""
    monkeypatch.setattr("latentbench.results.basis.STILL", 0)
    project.write("small", TEXT)
    write_made_up(project.plan("cpu")[0], {"nll": 4.0})
    shown = project("show", "small").out
    assert "what came out so far" in shown
    assert len(list((project.results / "cache/cards").iterdir())) == 1
    return shown


def test_a_card_that_was_made_before_is_shown_without_the_suite_being_read(project, card_again, monkeypatch):
    monkeypatch.setattr("latentbench.spec.loading.load_suite", lambda _: pytest.fail("it was read"))
    assert project("show", "small").out == card_again


@pytest.mark.parametrize("what", ["record", "suite", "notes", "cache", "data"])
def test_a_card_is_made_anew_when_a_byte_that_it_rests_on_changes_under_old_times(project, card_again, what):
    files = {
        "record": next(project.results.glob("runs/small/*/record.json")),
        "suite": project.root / "suites/small.yaml",
        "cache": next((project.results / "cache/cards").iterdir()),
    }
    if what in files:
        file = files[what]
        before, text = file.stat(), file.read_bytes()
        old, new = {"record": (b"4.0", b"4.5"), "suite": (b"A small", b"A large"), "cache": (b"A small", b"A large")}[
            what
        ]
        assert old in text
        file.write_bytes(text.replace(old, new))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif what == "notes":
        folder = project.root / "suites/small"
        folder.mkdir()
        (project.root / "suites/small.yaml").rename(folder / "suite.yaml")
        (folder / "notes.md").write_text("Wide is ahead.\n")
    else:
        (project.root / "data/prepared/line").mkdir(parents=True, exist_ok=True)
        (project.root / "data/prepared/line/more").write_text("x")
    shown = project("show", "small").out
    if what == "record":  # its seal is broken, so it counts for nothing
        assert "what came out so far" not in shown
    elif what == "suite":
        assert "A large suite" in shown
    elif what == "notes":
        assert "Wide is ahead." in shown
    else:
        assert shown == card_again


def test_nothing_is_kept_while_a_file_has_changed_too_lately_to_tell(project):
    project.write("small", TEXT)
    (project.root / "data/registry").mkdir(parents=True, exist_ok=True)
    (project.root / "data/registry/new.yaml").write_text("name: new\n")
    project("show", "small")
    assert not (project.results / "cache/cards").exists()


def test_a_card_that_is_kept_needs_neither_pydantic_nor_numpy(project, card_again):
    code = (
        "import sys, latentbench.results.basis as basis\n"
        "basis.STILL = 0\n"
        "from latentbench.cli.main import main\n"
        "try: main(['show', 'small'])\n"
        "finally: print([m for m in ('pydantic', 'numpy', 'scipy', 'torch') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project.root, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr.splitlines()[-1]) == (card_again, "[]")
