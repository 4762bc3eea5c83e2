"""`latentbench data` and `latentbench metric`: the functions behind them have tests of their own."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.metrics.codes.information import mig


def test_data_list_says_what_is_here(project):
    project("data", "fetch", "digits")
    rows = {r["name"]: r for r in json.loads(project("data", "list", "--format", "json").out)}
    assert rows["digits"]["have"] == "prepared"
    assert rows["digits"]["rows"] == {"train": 1297, "valid": 200, "test": 300}
    assert "digits" in project("data", "list").out


def test_fetch_prepares_and_an_unknown_name_is_refused(project):
    done = project("data", "fetch", "digits", "--quiet")
    assert done.code == 0
    assert "digits: prepared" in done.out
    wrong = project("data", "fetch", "digit")
    assert wrong.code == 2
    assert "did you mean 'digits'" in wrong.err


def test_verify_finds_a_flipped_byte(project, tmp_path, shared_data, monkeypatch):
    project("data", "fetch", "digits")
    good = project("data", "verify", "digits")
    assert good.code == 0
    assert " 0 wrong" in good.out
    own = tmp_path / "own"
    (own / "registry").mkdir(parents=True)
    (own / "registry/digits.yaml").write_bytes((shared_data / "registry/digits.yaml").read_bytes())
    monkeypatch.setenv("LATENTBENCH_DATA", str(own))
    project("data", "fetch", "digits")
    arrow = next(p for p in (own / "prepared/digits").rglob("*.arrow") if "test" in str(p))
    raw = bytearray(arrow.read_bytes())
    at = raw.find(bytes(64)) + 1  # a run of white pixels
    raw[at] ^= 1
    arrow.write_bytes(raw)
    bad = project("data", "verify", "digits")
    assert bad.code == 1
    assert "wrong: digits" in bad.err
    assert "--force` mends it" in bad.err


def test_show_writes_a_contact_sheet(project, tmp_path):
    shown = project("data", "show", "digits", "--sheet", str(tmp_path / "sheet.png"))
    assert "rows of test that also stand in train: 0" in shown.out
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    facts = json.loads(project("data", "show", "digits", "--format", "json").out)
    assert facts["splits"]["train"]["columns"]["x"]["high"] == 16


def test_metric_gives_the_functions_number(project, tmp_path):
    rng = np.random.default_rng(0)
    codes, factors = rng.normal(size=(200, 3)), rng.integers(0, 3, size=(200, 2))
    np.savez(tmp_path / "c.npz", codes=codes, factors=factors)
    shown = json.loads(project("metric", "mig", str(tmp_path / "c.npz"), "--format", "json").out)
    assert next(iter(shown["numbers"].values())) == pytest.approx(mig(codes, factors))
    ten = json.loads(project("metric", "mig", str(tmp_path / "c.npz"), "-o", "bins=10", "--format", "json").out)
    assert next(iter(ten["numbers"].values())) == pytest.approx(mig(codes, factors, bins=10))
    assert ten["identity"] != shown["identity"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("metric", "migg", "c.npz"), "did you mean 'mig"),
        (("metric", "mig", "none.npz"), "no such file"),
        (("metric", "mig", "none.npz", "-o", "bins"), "NAME=VALUE"),
    ],
)
def test_metric_refuses_what_it_cannot_do(project, args, message):
    done = project(*args)
    assert done.code == 2
    assert message in done.err


def test_metric_list_names_the_arrays(project):
    rows = {r["name"]: r for r in json.loads(project("metric", "--list", "--format", "json").out)}
    assert rows["mig"]["arrays"][:2] == ["codes", "factors"]
