"""Shipped suites, real records, checkpoints: broken in thousands of ways, they are read or refused, soon.

`python -m perf.fuzz` does the same for hours under coverage guidance; what it found stands below as cases.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from contextlib import suppress
from functools import cache

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from latentbench.audit.rebuild import rebuild
from latentbench.audit.verify import verify
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.planning.plan import plan
from latentbench.records.below import records_below
from latentbench.records.packing import as_written
from latentbench.records.record import read_record, seal
from latentbench.running.checkpoints import Checkpoints
from latentbench.running.nested_state import pack
from latentbench.spec.loading import load_suite
from latentbench.spec.validation import problems
from safetensors.torch import save

from perf import mutations
from tests.project import REPOSITORY

SUITES = sorted((REPOSITORY / "suites").glob("*/suite.yaml"))
RECORDS = sorted(records_below(REPOSITORY / "results/reference"))[::7]
PACKS = sorted((REPOSITORY / "results/reference").glob("*/*.jsonl"), key=lambda p: p.stat().st_size)[:3]
ANY = st.integers(0, 2**32)
#: Seconds of processor time that no input takes.
SOON = 5.0
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@cache
def parsed(path):
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def within_time(call, *args):
    started = time.process_time()
    with suppress(UserError):
        call(*args)
    assert time.process_time() - started < SOON


def take_suite(path):
    loaded = load_suite(path)
    if not problems(loaded):
        for tier in loaded.suite.tiers:
            for run in plan(loaded, tier):
                assert run.spec_hash
                assert run.cell


def take_record(path):
    assert verify(path)
    record = read_record(path)
    assert seal(record)
    spec = rebuild(record, path)
    assert spec.spec_hash
    assert "/" not in spec.cell


def _named_alike(suite, folder):
    """A suite's file in a folder of its own name, as its id demands."""
    (folder / suite.parent.name).mkdir(exist_ok=True)
    return folder / suite.parent.name / suite.name


@relaxed
@given(st.sampled_from(SUITES), ANY)
def test_suites_with_parts_changed(tmp_path, suite, seed):
    path = _named_alike(suite, tmp_path)
    path.write_text(json.dumps(mutations.document(parsed(suite), random.Random(seed))))
    within_time(take_suite, path)


@relaxed
@given(st.sampled_from(SUITES), ANY)
def test_suites_with_bytes_changed(tmp_path, suite, seed):
    path = _named_alike(suite, tmp_path)
    path.write_bytes(mutations.raw(suite.read_bytes(), random.Random(seed)))
    within_time(take_suite, path)


@relaxed
@given(st.sampled_from(RECORDS), ANY)
def test_records_with_parts_changed(tmp_path, record, seed):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(mutations.document(json.loads(as_written(record)), random.Random(seed))))
    within_time(take_record, path)


@relaxed
@given(st.sampled_from(RECORDS), ANY)
def test_records_with_bytes_changed(tmp_path, record, seed):
    path = tmp_path / "record.json"
    path.write_bytes(mutations.raw(as_written(record).encode(), random.Random(seed)))
    within_time(take_record, path)


@settings(relaxed, max_examples=20)
@given(st.sampled_from(PACKS), ANY)
def test_packs_with_bytes_changed(tmp_path, pack, seed):
    path = tmp_path / "cpu.jsonl"
    path.write_bytes(mutations.raw(pack.read_bytes(), random.Random(seed)))
    within_time(verify, path)


STATE = {
    "finished": False,
    "model": {"weight": torch.arange(6.0).reshape(2, 3)},
    "out": {"seconds": 1.5, "curve": [{"loss": 2.0}]},
    "random": (torch.arange(8, dtype=torch.uint8), 3),
}
VALUES = {"nll": vars(MetricValue(1.0, 0.5, 3, {"a": 1}))}


def put_checkpoint(folder, structure: str, **changes):
    """A checkpoint whose name says the hash that it has, whatever is in it."""
    tensors, _ = pack(STATE)
    content = save(tensors, {"state": structure, "fingerprint": "f" * 64, "step": "7"} | changes)
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / f"{7:012d}-{hashlib.sha256(content).hexdigest()}.safetensors").write_bytes(content)
    return Checkpoints(folder, "f" * 64, 60.0)


def put_values(folder, values):
    body = json.dumps(values, sort_keys=True)
    whole = {"fingerprint": "f" * 64, "sha256": hashlib.sha256(body.encode()).hexdigest(), "values": values}
    folder.mkdir(exist_ok=True)
    (folder / "values.json").write_text(json.dumps(whole))
    return Checkpoints(folder, "f" * 64, 60.0)


def test_a_good_checkpoint(tmp_path):
    found = put_checkpoint(tmp_path / "c", pack(STATE)[1]).latest()
    assert found["random"][1] == 3
    assert put_values(tmp_path / "c", VALUES).values() == {"nll": MetricValue(1.0, 0.5, 3, {"a": 1})}


@relaxed
@given(ANY)
def test_checkpoints_with_parts_changed(tmp_path, seed):
    structure = json.dumps(mutations.document(json.loads(pack(STATE)[1]), random.Random(seed)))
    checkpoints = put_checkpoint(tmp_path / "c", structure)
    assert (checkpoints.latest() is None) == bool(checkpoints.faults)


def test_a_checkpoint_of_seconds_that_no_float_holds(tmp_path):
    structure = pack(STATE)[1].replace("1.5", "1" + 400 * "0")
    checkpoints = put_checkpoint(tmp_path / "c", structure)
    assert checkpoints.latest() is None
    assert "damaged" in checkpoints.faults[0]


@relaxed
@given(ANY)
def test_values_with_parts_changed(tmp_path, seed):
    checkpoints = put_values(tmp_path / "c", mutations.document(VALUES, random.Random(seed)))
    assert all(isinstance(v, MetricValue) for v in checkpoints.values().values())


# ------------------------------------------------------------------------------------------- found by fuzzing


def _data(**changes):
    return lambda d: d["spec"]["data"].update(changes)


#: Each raised something else than a `UserError` in `verify`, `replay` or `RunSpec` once.
RECORD_FINDINGS = {
    "NaN in the specification": lambda d: d["spec"]["params"].update(x=float("nan")),
    "infinity in the specification": lambda d: d["spec"]["params"].update(x=float("inf")),
    "an endless integer": lambda d: d["spec"]["params"].update(x="ENDLESS"),
    "an unknown key of training": lambda d: d["spec"]["training"].update(x=1),
    "training of another type": lambda d: d["spec"]["training"].update(optimizer={"lr": "=cmd"}),
    "a metric's key that is a list": lambda d: d["spec"]["metrics"][0].update(key=["nll"]),
    "data that are a list": lambda d: d["spec"].update(data=[["source", "mnist"]]),
    "no split": lambda d: d["spec"]["data"].pop("split"),
    "no limit": lambda d: d["spec"]["data"].pop("limit"),
    "no preprocessing": lambda d: d["spec"]["data"].pop("preprocess"),
    "a split that is a list": _data(split=["test"]),
    "a limit that is a list": _data(limit=[1]),
    "preprocessing that is a number": _data(preprocess=7),
    "a source longer than a path": _data(source="x" * 5000),
    "a source that is a list": _data(source=["mnist"]),
    "parameters that are text": lambda d: d["spec"].update(params="x"),
    "a hash too few": lambda d: d["hashes"].pop("spec"),
    "no hashes": lambda d: d.update(hashes={}),
    "NaN in a cost": lambda d: d["cost"].update(wall_seconds=float("nan")),
    "NaN in details": lambda d: d["metrics"][0].update(details={"x": float("nan")}),
}


@pytest.mark.parametrize("case", RECORD_FINDINGS)
def test_what_fuzzing_found_in_records(project, tmp_path, case):
    data = json.loads(as_written(RECORDS[0]))
    RECORD_FINDINGS[case](data)
    path = tmp_path / "record.json"
    path.write_text(json.dumps(data).replace('"ENDLESS"', "9" * 5000))
    with pytest.raises(UserError):
        take_record(path)
    [checked] = verify(path)
    assert checked.faults
    assert project("replay", path).code == 2
    assert project("verify", path).code == 1


STATE_FINDINGS = {
    "nothing": None,
    "a list": [],
    "no training": {"dict": []},
    "no time": {"dict": [["finished", True], ["out", {"dict": []}]]},
    "time as text": {"dict": [["finished", True], ["out", {"dict": [["seconds", "x"]]}]]},
    "time without end": {"dict": [["finished", True], ["out", {"dict": [["seconds", float("nan")]]}]]},
    "a tensor that is not there": {"tensor": "99"},
    "a tensor by a list": {"tensor": []},
    "two kinds": {"tensor": "0", "dict": []},
    "an unknown kind": {"object": "os.system"},
    "a list for a key": {"dict": [[[], 1]]},
    "no pairs": {"dict": [1, 2]},
}


@pytest.mark.parametrize("case", STATE_FINDINGS)
def test_what_fuzzing_found_in_checkpoints(tmp_path, case):
    checkpoints = put_checkpoint(tmp_path / "c", json.dumps(STATE_FINDINGS[case]))
    assert checkpoints.latest() is None
    assert "damaged" in checkpoints.faults[0]


def test_a_state_nested_without_end(tmp_path):
    checkpoints = put_checkpoint(tmp_path / "c", "[" * 100_000 + "]" * 100_000)
    assert checkpoints.latest() is None
    assert "damaged" in checkpoints.faults[0]


@pytest.mark.parametrize("step", ["x", "", "1e5", "9" * 5000, "\u0662" * 3])
def test_a_step_that_is_none(tmp_path, step):
    checkpoints = put_checkpoint(tmp_path / "c", pack(STATE)[1], step=step)
    found = checkpoints.latest()
    assert found is None or step == "\u0662" * 3


@pytest.mark.parametrize(
    "values",
    [[], "x", None, 7, {"nll": []}, {"nll": {"x": 1}}, {"nll": {"value": "x"}}, {"nll": {"value": 1, "se": {}}}],
)
def test_what_fuzzing_found_in_kept_values(tmp_path, values):
    checkpoints = put_values(tmp_path / "c", values)
    assert checkpoints.values() == {}
    assert "computed again" in checkpoints.faults[0]
