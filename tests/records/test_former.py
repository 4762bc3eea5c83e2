"""Records from before a run was known by names and definitions count for what they are, with their own seals."""

from __future__ import annotations

import json

import pytest
from latentbench.data.dataset import open_dataset
from latentbench.planning.fingerprint import digest, engine_hash
from latentbench.planning.plan import spec_hash_of
from latentbench.records import former
from latentbench.records.archive import collect, finished
from latentbench.records.record import Record, is_intact, read_record, seal, write_record

from tests.project import write_made_up

CODE, TARGET = "c" * 64, "benchmarks.somewhere:Toy"


@pytest.fixture
def wide(project):
    open_dataset("line")  # whose content is known from here on
    return project.plan("cpu", methods=["wide"], seeds=[0, 1])


@pytest.fixture
def known(wide, monkeypatch):
    """What is known of former code; a test may change it."""
    engine = former.former()["engine"]
    table = {
        "engine": engine,
        "models": {TARGET: "toy"},
        "code": {CODE: {former.kind_of(wide[0].roots()): wide[0].code_hash}},
    }
    monkeypatch.setattr(former, "former", lambda: table)
    monkeypatch.setattr(former, "is_todays", lambda e: e in (engine, engine_hash()))
    return table


def old(run, code=CODE, *, whole=False):
    """A record of a run in the form of then, sealed; its file."""
    path = write_made_up(run, {"nll": 1.25, "bits_per_dim": 1.0})
    data = json.loads(path.read_text())
    data["spec"]["model"] = TARGET
    spec = digest(data["spec"]) if whole else spec_hash_of(data["spec"])
    data["hashes"] = {"spec": spec, "data": data["hashes"]["data"], "code": code}
    data["fingerprint"] = digest(list(data["hashes"].values()))
    data["run_id"] = f"{run.cell}--{data['fingerprint'][:10]}"
    record = Record.model_validate_json(json.dumps(data))
    path.unlink()
    path = path.parent.parent / record.run_id / "record.json"
    write_record(path, record.model_copy(update={"seal": seal(record)}))
    return path


@pytest.mark.parametrize("whole", [False, True])
def test_they_count_as_todays(wide, known, whole):
    path = old(wide[0], whole=whole)
    assert is_intact(read_record(path, sealed=True))
    shelf = collect(wide)
    assert list(shelf.found) == [wide[0].cell]
    assert (shelf.stale_code, shelf.vouched, shelf.outdated, shelf.unreadable) == ([], [], {}, [])
    assert finished(wide) == {wide[0].cell}, "and are not run again"


def test_other_code_then_or_now_is_stale(wide, known):
    old(wide[0], code="d" * 64)
    assert collect(wide).stale_code == [wide[0].cell]
    known["code"]["d" * 64] = {former.kind_of(wide[0].roots()): "e" * 64}
    assert collect(wide).stale_code == [wide[0].cell]
    assert finished(wide) == set()


def test_another_engine_is_stale(wide, known, monkeypatch):
    old(wide[0])
    monkeypatch.setattr(former, "is_todays", lambda _: False)
    assert collect(wide).stale_code == [wide[0].cell]
    assert finished(wide) == set()


def test_another_model_or_specification_is_outdated(wide, known):
    old(wide[0])
    known["models"][TARGET] = "vae"
    shelf = collect(wide)
    assert shelf.found == {}
    assert list(shelf.outdated.values()) == ["the suite has changed: model"]


def test_one_that_was_run_again_vouches_for_others_of_its_code(wide, known):
    known["code"].clear()
    for run in wide:
        old(run)
    write_made_up(wide[0], {"nll": 1.25, "bits_per_dim": 1.0})
    assert collect(wide).vouched == [wide[1].cell]
