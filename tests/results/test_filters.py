"""One meaning of a dataset's and a metric's name for all that shows results."""

from __future__ import annotations

import json

import latentbench as lb
import pytest
from latentbench.results.filters import is_metric, is_of

from tests.project import write_made_up

#: Two datasets that are called otherwise than what they are of.
CHANGES = {
    "datasets": {
        "ours": {"source": "line", "protocol": "all", "preprocess": ["standardise"]},
        "walk": {"source": "chain", "protocol": "all"},
    },
    "metrics": {"how-likely": {"metric": "nll", "datasets": ["ours"]}, "bits_per_dim": {"datasets": ["ours"]}},
}


@pytest.mark.parametrize("name", ["mnist", "MNIST", "mine", "mni*", "MINE"])
def test_a_dataset_is_found_by_its_name_its_source_and_a_pattern(name):
    assert is_of(name, "mine", "mnist")


def test_a_source_that_is_made_of_another_is_found_by_it():
    assert is_of("mnist", "small", "mnist-14x14")
    assert not is_of("mnist", "small", "fashion-mnist")
    assert not is_of("mnist-*", "small", "mnist")


@pytest.mark.parametrize(("name", "fits"), [("nll", True), ("How-Likely", True), ("how*", True), ("nl", False)])
def test_a_metric_is_found_by_its_key_its_registered_name_and_a_pattern(name, fits):
    assert is_metric(name, "how-likely", "nll") is fits


@pytest.fixture
def measured(project):
    changes = CHANGES | {"datasets": {"ours": CHANGES["datasets"]["ours"]}}
    for spec in project.plan("cpu", changes):
        write_made_up(spec, {"how-likely": 1.0 + spec.seed, "bits_per_dim": 0.5})
    return project


@pytest.mark.parametrize(("dataset", "metric"), [("line", None), ("OURS", "nll"), ("l*", "how-*"), (None, "bits*")])
def test_commands_and_python_mean_the_same(measured, dataset, metric):
    given = [x for k, v in (("--dataset", dataset), ("--metric", metric)) if v for x in (k, v)]
    shown = json.loads(measured("leaderboard", "small", *given, "--format", "json").out)
    rows = lb.leaderboard("small", dataset=dataset, metric=metric)
    assert [(r["method"], r["metric"]) for r in shown] == list(zip(rows["method"], rows["metric"], strict=True))
    wanted = {"bits_per_dim"} if metric == "bits*" else {"how-likely"} if metric else {"how-likely", "bits_per_dim"}
    assert set(rows["metric"]) == wanted
    values = json.loads(measured("leaderboard", "small", "--per-seed", *given, "--format", "json").out)
    assert len(values) == len(lb.records("small", dataset=dataset, metric=metric)) == len(wanted) * 9
    assert len(lb.compare("small/wide", "small/narrow", dataset=dataset, metric=metric)) == len(wanted)


def test_nothing_fits_another_name(measured):
    assert len(lb.leaderboard("small", dataset="mnist")) == 0
    answer = measured("leaderboard", "small", "--dataset", "lime")
    assert answer.code == 2
    assert "line" in answer.errors[0]
