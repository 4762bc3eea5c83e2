"""Records on disk: whole or not at all, and read from anybody."""

from __future__ import annotations

import contextlib
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.records.archive import collect
from latentbench.records.record import MAX_BYTES, Record, read_record, seal, write_atomically, write_record

from tests.project import write_made_up


@pytest.fixture
def record(project) -> Record:
    path = write_made_up(project.plan("cpu")[0], {"nll": 1.25, "bits_per_dim": None}, outcomes=["posterior-collapse"])
    return read_record(path)


def test_round_trip(record, tmp_path):
    path = tmp_path / "some/folder/record.json"
    write_record(path, record)
    assert read_record(path) == record
    data = json.loads(path.read_text())
    assert data["metrics"][0]["value"] == 1.25
    assert data["metrics"][1]["failure"] == "made up"
    assert data["provenance"]["device"] == "cpu"
    assert set(data["hashes"]) == {"spec", "data", "code", "engine"}
    assert os.stat(path).st_mode & 0o777 == 0o644


def test_how_many_trained_side_by_side_is_written_where_it_says_something(record, tmp_path):
    path = tmp_path / "record.json"
    write_record(path, record)
    assert "stacked" not in json.loads(path.read_text())["provenance"]  # so seals from before it hold
    stacked = record.model_copy(update={"provenance": record.provenance.model_copy(update={"stacked": 4})})
    assert seal(stacked) != seal(record)
    write_record(path, stacked.model_copy(update={"seal": seal(stacked)}))
    assert read_record(path, sealed=True).provenance.stacked == 4


def test_values_count_only_where_the_run_finished(record):
    assert record.value("nll").value == 1.25
    assert record.value("bits_per_dim") is None
    assert record.value("absent") is None
    for status in ("failed", "diverged", "out-of-memory", "interrupted"):
        assert record.model_copy(update={"status": status}).value("nll") is None


@pytest.mark.parametrize("step", ["os.fsync", "os.replace", "os.chmod"])
def test_a_write_that_breaks_off_leaves_what_was_there(tmp_path, monkeypatch, step):
    path = tmp_path / "record.json"
    write_atomically(path, "old")

    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, "new " * 1000)
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"], "nothing is left lying about"


def test_an_interrupt_leaves_nothing_half_done(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "record.json", "new")
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_strict_json(record, tmp_path):
    odd = record.metrics[0].model_copy(update={"details": {"x": float("inf"), "y": [float("nan")]}})
    write_record(tmp_path / "record.json", record.model_copy(update={"metrics": [odd]}))

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    data = json.loads((tmp_path / "record.json").read_text(), parse_constant=refuse)
    assert data["metrics"][0]["details"] == {"x": None, "y": [None]}


def broken(record: Record) -> dict[str, bytes]:
    """Files that are no records, each in its own way."""
    data = record.model_dump(mode="json")
    text = json.dumps(data)
    metric = data["metrics"][0]
    return {
        "empty": b"",
        "half": text.encode()[: len(text) // 2],
        "no JSON": b"<html>",
        "not UTF-8": b'{"format": "\xff"}',
        "a list": b"[]",
        "deep": b"[" * 100_000,
        "deep in details": text.replace('"details": {}', '"details": {"a": ' + "[" * 500 + "]" * 500 + "}", 1).encode(),
        "another format": json.dumps(data | {"format": 2}).encode(),
        "an unknown key": json.dumps(data | {"extra": 1}).encode(),
        "a missing key": json.dumps({k: v for k, v in data.items() if k != "seed"}).encode(),
        "NaN for a value": json.dumps(data | {"metrics": [metric | {"value": float("nan")}]}).encode(),
        "NaN for an error": json.dumps(data | {"metrics": [metric | {"se": float("nan")}]}).encode(),
        "infinity for a value": text.replace("1.25", "1e999").encode(),
        "text for a value": json.dumps(data | {"metrics": [metric | {"value": "low"}]}).encode(),
        "an unknown status": json.dumps(data | {"status": "splendid"}).encode(),
        "an unknown tier": json.dumps(data | {"tier": "gpu"}).encode(),
        "a direction": json.dumps(data | {"metrics": [metric | {"better": "sideways"}]}).encode(),
        "a pickle": b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.",
        "too large": b" " * (MAX_BYTES + 1),
    }


KINDS = ["empty", "half", "no JSON", "not UTF-8", "a list", "deep", "another format", "an unknown key", "a missing key"]
KINDS += [
    "NaN for a value",
    "NaN for an error",
    "infinity for a value",
    "text for a value",
    "an unknown status",
    "an unknown tier",
]
KINDS += ["a direction", "a pickle", "too large"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_record_says_so_in_one_line(record, tmp_path, kind):
    path = tmp_path / "record.json"
    path.write_bytes(broken(record)[kind])
    with pytest.raises(UserError) as e:
        read_record(path)
    assert "record.json" in str(e.value)
    assert "remove" in str(e.value)
    assert len(str(e.value)) < 500


def test_a_record_with_deep_details_is_read_or_refused(record, tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(broken(record)["deep in details"])
    with contextlib.suppress(UserError):
        read_record(path)


def test_a_record_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_record(tmp_path / "absent.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_record(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_file_brings_anything_but_a_record_or_a_user_error(record, tmp_path, data):
    text = record.model_dump_json().encode()
    at = data.draw(st.integers(0, len(text)))
    put = data.draw(st.binary(max_size=6) | st.sampled_from([b'"', b"{", b"[", b"null", b"1e999", b"NaN", b"\\u0000"]))
    path = tmp_path / "record.json"
    path.write_bytes(text[:at] + put + text[at + data.draw(st.integers(0, 6)) :])
    with contextlib.suppress(UserError):
        assert isinstance(read_record(path), Record)


def test_a_record_with_a_broken_seal_counts_for_nothing(project):
    """Whoever edits a number must at least seal it anew."""
    assert project.run(project.suite(), "--method", "wide", "--seeds", "2", "--quiet").code == 0
    plan = project.plan("cpu", methods=["wide"], seeds=[0, 1])
    [path] = project.results.glob("runs/small/wide--line--cpu--s0*/record.json")
    value = read_record(path).value("nll").value
    path.write_text(path.read_text().replace(repr(value), repr(value - 1.0), 1))
    assert read_record(path).value("nll").value == value - 1.0
    with pytest.raises(UserError, match="its seal is broken"):
        read_record(path, sealed=True)
    collected = collect(plan)
    assert list(collected.found) == [plan[1].cell]
    assert "its seal is broken" in collected.unreadable[0]
    answer = project("replay", path)
    assert answer.code == 1
    assert "its seal is broken" in answer.err
