"""`latentbench data`: what there is of each dataset, and whether it is as it should be."""

from __future__ import annotations

import json

import pytest
from PIL import Image


@pytest.fixture
def alone(project, own_data):
    """A project with a data folder of its own."""
    return project


def test_fetch_prepares_once_and_verify_finds_all_well(alone):
    answer = alone("data", "fetch", "line", "digits", "--quiet")
    assert answer.code == 0
    assert [line.split(":")[0] for line in answer.out.splitlines()] == ["line", "digits"]
    state = {p: p.stat().st_mtime_ns for p in (alone.root / "data/prepared").rglob("*.arrow")}
    assert len(state) == 6
    assert alone("data", "fetch", "line", "--quiet").code == 0
    assert {p: p.stat().st_mtime_ns for p in state} == state
    answer = alone("data", "verify", "line", "--quiet")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.endswith(" 0 wrong\n")


def test_a_damaged_file_is_found_and_mended(alone):
    alone("data", "fetch", "line", "--quiet")
    path = next((alone.root / "data/prepared/line/test").glob("*.arrow"))
    good = path.read_bytes()
    at = len(good) // 2
    path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    answer = alone("data", "verify", "line", "--quiet")
    assert answer.code == 1
    assert "`latentbench data fetch line --force` mends it" in answer.err
    assert alone("data", "fetch", "line", "--force", "--quiet").code == 0
    assert path.read_bytes() == good
    assert alone("data", "verify", "line", "--quiet").code == 0


def test_list(alone):
    alone("data", "fetch", "line", "--quiet")
    found = {d["name"]: d for d in json.loads(alone("data", "list", "--format", "json").out)}
    assert set(found) == {"digits", "line", "enlarged", "poisoned", "linear", "chain"}
    assert found["line"]["rows"] == {"train": 120, "valid": 40, "test": 60}
    assert found["line"]["have"] != found["digits"]["have"]
    assert found["line"]["content_hash"]
    assert "toy rows" in alone("data", "list").out


def test_show_with_a_contact_sheet(project):
    sheet = project.root / "sheet.png"
    answer = project("data", "show", "digits", "--sheet", str(sheet), "--quiet")
    assert answer.code == 0
    for words in ("Optical recognition of handwritten digits", "licence: CC BY 4.0", "mind: ", "1,297", str(sheet)):
        assert words in answer.out
    with Image.open(sheet) as image:
        assert image.size[0] > 8
    found = json.loads(project("data", "show", "digits", "--quiet", "--format", "json").out)
    assert found["splits"]["train"]["columns"]["x"]["shape"] == [8, 8]
    assert (found["splits"]["test"]["columns"]["x"]["low"], found["splits"]["test"]["columns"]["x"]["high"]) == (0, 16)


@pytest.mark.parametrize("command", ["fetch", "show", "verify"])
def test_unknown_datasets(project, command):
    answer = project("data", command, "lime", "--quiet")
    assert answer.code == 2
    assert len(answer.errors) == len(answer.err.splitlines()) == 1
    assert "'lime'" in answer.errors[0]
    assert "did you mean 'line'" in answer.errors[0]


def test_what_a_suite_uses_is_fetched_by_its_name(alone):
    """By the option, and by the file of parameters that names suites and tier; of the runs of that tier alone."""
    alone.suite({"datasets": {"plain": {"source": "line", "protocol": "all"}}, "metrics": {"nll": {}}})
    answer = alone("data", "fetch", "--suite", "small", "--quiet")
    assert (answer.code, [line.split(":")[0] for line in answer.out.splitlines()]) == (0, ["line"])
    params = alone.root / "params.yaml"
    params.write_text("tier: smoke\nsuites: [small, absent]\n")
    answer = alone("data", "fetch", "--params", str(params), "--quiet")
    assert (answer.code, [line.split(":")[0] for line in answer.out.splitlines()]) == (0, ["line"])
    assert "absent: its data are not prepared" in answer.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("suites: small", "`suites`"),
        ("- small", "`suites`"),
        ("suites: [1]", "`suites`"),
        ("", "`suites`"),
        ("suites: []\ntier: huge", "'huge'"),
        ("suites: []\ntier: [cpu]", "no tier"),
    ],
)
def test_a_file_of_parameters_of_another_form_is_refused(alone, text, said):
    params = alone.root / "params.yaml"
    params.write_text(text)
    answer = alone("data", "fetch", "--params", str(params))
    assert answer.code == 2
    assert said in answer.err
    assert "params.yaml" in answer.err


def test_nothing_to_fetch_is_said(alone):
    answer = alone("data", "fetch")
    assert answer.code == 2
    assert "--suite" in answer.err
