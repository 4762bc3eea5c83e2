"""What a stranger wrote reaches a terminal, a Markdown page or a spreadsheet as text and as nothing else."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core import escape
from latentbench.core.console import printable

from tests.trust.tampering import edit, run_folder

ESCAPES = "\x1b[2J\x1b]0;title\x07\x9b31m\x7f\x08\r\u202e\u2066"
FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", " =1", "\uff1d1", '=HYPERLINK("x")']
MARKUP = "</td><script>alert(1)</script>|x|[a](javascript:b)![p](http://x/y)`c`&lt;\n| new | row |\n# head"
HOSTILE = "=1+1 " + MARKUP + ESCAPES


def steers(text: str) -> list[str]:
    """Characters that are no text: controls, and marks that turn its direction."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t"]


@pytest.fixture
def hostile(project, tmp_path_factory):
    """A suite whose label and title, and records whose every free text, are hostile."""
    run_folder(project, tmp_path_factory.mktemp("kept"))
    claim = {"id": "first", "kind": "order", "text": HOSTILE, "where": HOSTILE, "metric": "nll", "dataset": "line"}
    claims = [claim | {"better": "wide", "worse": "floor"}]
    free = {"methods.wide.label": HOSTILE, "paper.title": HOSTILE, "tiers.cpu.deviations": [HOSTILE], "claims": claims}
    path = project.suite(free)
    for record in project.results.rglob("record.json"):
        edit(
            record,
            lambda d: [m.update(unit=HOSTILE, identity=HOSTILE, likelihood=HOSTILE) for m in d["metrics"]],
            reseal=True,
        )
        edit(record, lambda d: d.update(outcomes=[HOSTILE]), reseal=True)
    assert path.is_file()
    return project


COMMANDS = [
    ("leaderboard", "small"),
    ("leaderboard", "small", "--format", "json"),
    ("leaderboard", "small", "--format", "csv"),
    ("leaderboard", "small", "--format", "md"),
    ("verdict", "small"),
    ("verdict", "small", "--format", "json"),
    ("status", "small"),
    ("status", "small", "--format", "json"),
    ("show", "small"),
    ("validate", "small"),
    ("verify",),
    ("verify", "--format", "json"),
    ("run", "small", "--dry-run"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nothing_steers_the_terminal(hostile, command):
    answer = hostile(*command)
    assert answer.code in (0, 1)
    assert answer.out or answer.err
    assert steers(answer.out + answer.err) == []
    if "json" in command:
        assert json.loads(answer.out)


def test_json_keeps_what_was_written(hostile):
    [*rows] = json.loads(hostile("leaderboard", "small", "--format", "json").out)
    assert {r["label"] for r in rows} >= {HOSTILE}


def test_errors_and_names(project):
    for args in (("validate", f"x{ESCAPES}"), ("replay", f"x{ESCAPES}"), (f"x{ESCAPES}",), ("verdict", ESCAPES)):
        answer = project(*args)
        assert answer.code == 2
        assert steers(answer.out + answer.err) == []
    answer = project("validate", project.suite({"methods": {"wide": {"model": ESCAPES}}}))
    assert answer.code == 2
    assert steers(answer.err) == []


def test_a_failed_runs_error(project):
    """A model's own message, with what it was given."""
    project.suite({"methods": {"wide": {"model": "toy", "params": {"spoil": "raise"}}}})
    project.run("small", "--seeds", "1")
    [path] = project.results.rglob("record.json")
    edit(path, lambda d: d.update(error=HOSTILE), reseal=True)
    for command in (("status", "small"), ("leaderboard", "small"), ("verify",), ("run", "small", "--seeds=1")):
        answer = project(*command)
        assert steers(answer.out + answer.err) == []


def cells_of(text):
    return [c for row in csv.reader(io.StringIO(text)) for c in row]


def is_formula(cell: str) -> bool:
    if re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", cell):  # a number below zero
        return False
    return cell.strip(' "').startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"))


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_of_a_csv_is_a_formula(project, tmp_path_factory, formula):
    run_folder(project, tmp_path_factory.mktemp("kept"))
    project.suite({"methods.wide.label": formula})
    for record in project.results.rglob("record.json"):
        edit(
            record,
            lambda d: [m.update(unit=formula, identity=formula, likelihood=formula) for m in d["metrics"]],
            reseal=True,
        )
    for tables in (None, project.root / "tables"):
        if tables is None:
            texts = [project("leaderboard", "small", "--format", "csv").out]
        else:
            assert project("leaderboard", "small", "--write", tables).code == 0
            texts = [p.read_text() for p in tables.glob("*.csv")]
            assert len(texts) == 2
        for text in texts:
            assert not any(is_formula(c) for c in cells_of(text))
    assert escape.cell(formula) in cells_of(project("leaderboard", "small", "--format", "csv").out)


def test_numbers_below_zero_stay_numbers(project, tmp_path_factory):
    run_folder(project, tmp_path_factory.mktemp("kept"))
    for record in project.results.rglob("record.json"):
        edit(record, lambda d: [m.update(value=-m["value"]) for m in d["metrics"]], reseal=True)
    rows = list(csv.DictReader(io.StringIO(project("leaderboard", "small", "--format", "csv").out)))
    assert all(float(r["mean"]) < 0 for r in rows)


@given(st.text() | st.sampled_from(FORMULAS))
def test_a_cell(text):
    found = escape.cell(text)
    assert not is_formula(found) or found == printable(text)
    assert re.sub("'", "", found) == re.sub("'", "", printable(text)), "nothing but apostrophes is put in"
    assert not found.lstrip(" ").startswith(("=", "+", "-", "@"))


HIDDEN_IN_A_CELL = ["x\n=1", "x;\u00a0\uff1d1"]
HIDDEN_IN_A_CELL += [
    "x;=cmd|'/c calc'!A0;y",
    "a\t@b",
    "x|=1",
    "a, +1",
    'x;"=1+1',
    "x;\u200b=1",
    "x\n=1",
    "x;\u00a0\uff1d1",
]


@pytest.mark.parametrize("text", HIDDEN_IN_A_CELL)
def test_no_formula_where_another_program_divides_cells(text):
    line = io.StringIO()
    csv.writer(line).writerow(["a", escape.cell(text), "b"])
    for delimiter in ",;\t|":
        for row in csv.reader(io.StringIO(line.getvalue()), delimiter=delimiter):
            assert not any(is_formula(re.sub("[\ufffd\\s]", "", c)) for c in row), row


@given(st.text(st.sampled_from("=+@x;,|\t\n \"'\u200b\u00a0"), max_size=12))
def test_no_formula_after_any_separator(text):
    for part in re.split("[;,|\t\n]", escape.cell(text)):
        assert not is_formula(re.sub("[\ufffd\\s]", "", part))


def test_ordinary_text_in_a_cell_stays():
    for text in ("IWAE, k = 50", "a; b", "x\ty", "3-4", "mean of 2, 4"):
        assert escape.cell(text) == text


LIVE = {
    "see https://evil.example/x": r"https?://\S",
    "www.evil.example": r"www\.",
    "@octocat please": r"@\w",
    "mail me@evil.example": r"@\w",
    "fixes #2, GH-3, a/b#4": r"#\d|GH-\d",
    "FTP://evil.example, mailto:a": r"(?i)ftp://|mailto:",
}


@pytest.mark.parametrize("text", LIVE)
def test_nothing_in_markdown_becomes_a_link_or_a_mention(text):
    assert re.search(LIVE[text], text)
    shown = re.sub(r"\\(\W)", r"\1", html.unescape(escape.markdown(text)))
    assert not re.search(LIVE[text], shown)
    assert shown.replace("\u200b", "") == text


def test_markdown_gives_no_emphasis_and_no_formula():
    assert escape.markdown("**b** _i_ ~~s~~ $x$ nll_iw") == r"\*\*b\*\* \_i\_ \~\~s\~\~ \$x\$ nll_iw"


def test_json_files_keep_no_mark_that_turns_the_direction(hostile):
    hostile("leaderboard", "small", "--write", hostile.root / "tables")
    for path in (hostile.root / "tables").glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert steers(text) == []
        json.loads(text)


def test_markdown(hostile):
    hostile("leaderboard", "small", "--write", hostile.root / "tables")
    for text in (
        hostile("leaderboard", "small", "--format", "md").out,
        (hostile.root / "tables/leaderboard.md").read_text(encoding="utf-8"),
    ):
        assert steers(text) == []
        assert "<" not in text
        for line in text.splitlines():
            if line.startswith("|"):
                assert len(re.findall(r"(?<!\\)\|", line)) == 9, line
            else:
                assert line == "" or line.startswith(("### small v3 (cpu): ", "- ", "_latentbench ")), line
        assert re.findall(r"(?<!\\)[\[\]`].?", text) == []


@given(st.text())
def test_markdown_of_anything(text):
    found = escape.markdown(text)
    assert "\n" not in found
    assert "<" not in found
    assert not re.search(r"(?<!\\)(\\\\)*[\[\]|`]", found)


def test_markdown_leaves_ordinary_text_alone():
    for text in ("IWAE, k = 50", "nll_iw on mnist, nats, lower is better", "β-VAE (β=4)", "a -> b"):
        assert escape.markdown(text) == text


def test_corrections_are_one_line_each(project):
    from latentbench.records.corrections import note_corrections
    from latentbench.records.record import read_record

    from tests.project import write_made_up

    spec = project.plan("cpu")[0]
    old = write_made_up(spec, {"nll": 1.0}, identity="a" * 12, code="1" * 64)
    edit(old, lambda d: d["metrics"][0].update(identity=HOSTILE), reseal=True)
    new = read_record(write_made_up(spec, {"nll": 2.0}, identity="b" * 12, code="2" * 64))
    assert note_corrections(new, project.results) == 1
    text = (project.results / "CORRECTIONS.md").read_text(encoding="utf-8")
    assert "<" not in text
    assert steers(text) == []
    assert len(re.findall(r"(?<!\\)\|", text.splitlines()[-1])) == 8
