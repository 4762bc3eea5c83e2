"""What the golden set compares, and when it accepts."""

from __future__ import annotations

import json

import pytest
from latentbench.planning.fingerprint import engine_hash
from latentbench.planning.plan import plan
from latentbench.spec.loading import load_suite
from latentbench.spec.protocol import Optimizer, Schedule
from latentbench.spec.registry import find_model

from perf import golden

RUN = {"spec": {"model": "vae"}, "code": "a", "values": {"nll": ["0x1p+0", None]}, "failures": [], "weights": "w"}


def test_runs_of_other_code_or_another_question_say_nothing_of_the_engine():
    before = dict.fromkeys(("same", "code", "spec", "gone", "bits", "weights"), RUN)
    now = {
        "same": RUN,
        "code": RUN | {"code": "b", "values": {}},
        "spec": RUN | {"spec": {"model": "gon"}, "values": {}},
        "new": RUN,
        "bits": RUN | {"values": {"nll": ["0x1.0000000000001p+0", None]}},
        "weights": RUN | {"weights": "v"},
    }
    same, other, silent = golden.differences(before, now)
    assert same == ["same"]
    assert [line.partition(":")[0] for line in other] == ["bits", "weights"]
    assert [line.partition(":")[0] for line in silent] == ["code", "gone", "new", "spec"]


def test_todays_engine_joins_the_last_era_or_begins_one(tmp_path, monkeypatch):
    file = tmp_path / "engines.json"
    monkeypatch.setattr(golden, "FILE", file)
    monkeypatch.setattr(golden, "eras", lambda: [[{"engine": "a"}], [{"engine": "b"}]])
    golden.accept(40)
    found = json.loads(file.read_text())
    assert [[one["engine"] for one in each] for each in found] == [["a"], ["b", engine_hash()]]
    assert found[1][1]["runs"] == 40
    golden.accept(40, new_era=True)
    assert [len(each) for each in json.loads(file.read_text())] == [1, 1, 1]


@pytest.fixture(scope="module")
def chosen():
    found = []
    for suite, methods in golden.CHOSEN.items():
        runs = plan(load_suite(golden.OWN if suite == str(golden.OWN) else suite), "smoke")
        for method in methods:
            own = [r for r in runs if method in ("*", r.method, f"{r.method} on {r.dataset}")]
            assert own, f"{suite} has no smoke run {method}"
            found += own
    return found


def test_every_kind_is_in_it(chosen):
    """Each optimiser and schedule, and whatever else of a protocol is at its default in most suites."""
    training = [run.training for run in chosen]
    assert {t["optimizer"]["name"] for t in training} == set(Optimizer.model_fields["name"].annotation.__args__)
    assert {t["schedule"]["name"] for t in training} == set(Schedule.model_fields["name"].annotation.__args__)
    for key in ("ema", "early_stopping", "gradient_clip_norm"):
        assert any(t[key] for t in training), key
    assert {t["select"] for t in training} == {"last", "best"}
    assert {step if isinstance(step, str) else next(iter(step)) for r in chosen for step in r.data["preprocess"]} >= {
        *("binarise", "dequantise", "flatten", "flip", "logit", "standardise", "to_range", "to_unit")
    }
    assert {"Trainable", "Fittable", "Preparable"} <= set().union(*(find_model(r.model).can for r in chosen))
    assert len({run.model for run in chosen}) > 30
