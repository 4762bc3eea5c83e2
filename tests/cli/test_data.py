"""`latentbench data`: what there is of each dataset, and whether it is as it should be."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image


@pytest.fixture
def own_data(project, shared_data, monkeypatch):
    """A data folder of the test's own, with the shared registry."""
    shutil.copytree(shared_data / "registry", project.root / "data/registry")
    monkeypatch.setenv("LATENTBENCH_DATA", str(project.root / "data"))
    return project


def test_fetch_prepares_once_and_verify_finds_all_well(own_data):
    answer = own_data("data", "fetch", "line", "digits", "--quiet")
    assert answer.code == 0
    assert [line.split(":")[0] for line in answer.out.splitlines()] == ["line", "digits"]
    state = {p: p.stat().st_mtime_ns for p in (own_data.root / "data/prepared").rglob("*.arrow")}
    assert len(state) == 6
    assert own_data("data", "fetch", "line", "--quiet").code == 0
    assert {p: p.stat().st_mtime_ns for p in state} == state
    answer = own_data("data", "verify", "line", "--quiet")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.endswith(" 0 wrong\n")


def test_a_damaged_file_is_found_and_mended(own_data):
    own_data("data", "fetch", "line", "--quiet")
    path = next((own_data.root / "data/prepared/line/test").glob("*.arrow"))
    good = path.read_bytes()
    at = len(good) // 2
    path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    answer = own_data("data", "verify", "line", "--quiet")
    assert answer.code == 1
    assert "`latentbench data fetch line --force` mends it" in answer.err
    assert own_data("data", "fetch", "line", "--force", "--quiet").code == 0
    assert path.read_bytes() == good
    assert own_data("data", "verify", "line", "--quiet").code == 0


def test_list(own_data):
    own_data("data", "fetch", "line", "--quiet")
    found = {d["name"]: d for d in json.loads(own_data("data", "list", "--format", "json").out)}
    assert set(found) == {"digits", "line", "enlarged", "poisoned", "linear", "chain"}
    assert found["line"]["rows"] == {"train": 120, "valid": 40, "test": 60}
    assert found["line"]["have"] != found["digits"]["have"]
    assert found["line"]["content_hash"]
    assert "toy rows" in own_data("data", "list").out


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


def test_what_a_suite_uses_is_fetched_by_its_name(own_data):
    """By the option, and by the file of parameters that names suites and tier; of the runs of that tier alone."""
    own_data.suite({"datasets": {"plain": {"source": "line", "protocol": "all"}}, "metrics": {"nll": {}}})
    answer = own_data("data", "fetch", "--suite", "small", "--quiet")
    assert (answer.code, [line.split(":")[0] for line in answer.out.splitlines()]) == (0, ["line"])
    params = own_data.root / "params.yaml"
    params.write_text("tier: smoke\nsuites: [small, absent]\n")
    answer = own_data("data", "fetch", "--params", str(params), "--quiet")
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
def test_a_file_of_parameters_of_another_form_is_refused(own_data, text, said):
    params = own_data.root / "params.yaml"
    params.write_text(text)
    answer = own_data("data", "fetch", "--params", str(params))
    assert answer.code == 2
    assert said in answer.err
    assert "params.yaml" in answer.err


def test_nothing_to_fetch_is_said(own_data):
    answer = own_data("data", "fetch")
    assert answer.code == 2
    assert "--suite" in answer.err
