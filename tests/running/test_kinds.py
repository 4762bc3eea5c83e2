"""Whole runs of models that are not trained by one loss on fixed rows: from YAML to record, killed in between."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from latentbench.core.types import MetricValue
from latentbench.running.checkpoints import Checkpoints
from latentbench.spec.loading import load_suite
from latentbench.spec.registry import MetricEntry, ModelEntry, metrics, models
from latentbench.spec.validation import problems

from tests.project import Project

KINDS = {
    "duel": ModelEntry(
        "latentbench_toy_kinds:Duel", frozenset({"Players", "Updates", "ExactLikelihood"}), "two players",
        players=("means", "spreads"), updates=("count",),
    ),
    "halved": ModelEntry(
        "latentbench_toy_kinds:Halved", frozenset({"Staged", "Encoder", "ExactLikelihood"}), "two stages",
        stages=("scale", "prior"),
    ),
    "climber": ModelEntry(
        "latentbench_toy_kinds:Climber", frozenset({"Iterative", "ExactLikelihood"}), "goes to the mean by halves"
    ),
    "links": ModelEntry("latentbench_toy_kinds:Links", frozenset({"Trainable"}), "codes of a graph's nodes"),
}  # fmt: skip
METHODS: dict[str, Any] = {
    "duel": {
        "model": "duel",
        "training": {
            "phases": [{"player": "means", "times": 2, "fresh": True}, {"update": "count"}, {"player": "spreads"}],
            "optimizers": {"means": {"name": "sgd", "lr": 0.1}},
        },
    },
    "halved": {
        "model": "halved",
        "training": {"in_stages": [{"name": "scale", "epochs": 2}, {"name": "prior", "rows": "codes"}]},
    },
    "climber": {"model": "climber", "training": {"steps": 50}},
}
SUITE = {"methods": METHODS, "metrics": {"nll": {}}, "tiers": {"cpu": {"seeds": 1}}, "claims": []}


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch, project: Project) -> Project:
    for name, entry in KINDS.items():
        monkeypatch.setitem(models(), name, entry)
    return project


def test_each_kind_is_validated_trained_measured_and_recorded(kinds):
    path = kinds.suite(SUITE)
    assert problems(load_suite(path)) == []
    assert kinds("validate", "small").code == 0
    assert kinds.run("small").code == 0
    records = {r.method: r for r in kinds.records().values()}
    assert {r.status for r in records.values()} == {"finished"}
    assert all(r.value("nll") for r in records.values())
    curves = {
        m: (kinds.results / "runs/small" / r.run_id / "curve.csv").read_text().splitlines()[0].split(",")
        for m, r in records.items()
    }
    assert {"means.loss", "spreads.loss", "count.seen", "means.lr"} <= set(curves["duel"])
    assert {"stage", "loss"} <= set(curves["halved"])
    assert records["climber"].cost.steps < 50, "it was done before"
    assert records["duel"].cost.epochs == 3.0


@pytest.mark.parametrize("method", METHODS)
def test_each_kind_goes_on_to_the_same_bits(kinds, monkeypatch, method):
    kinds.suite({**SUITE, "methods": {method: METHODS[method]}})
    assert kinds.run("small").code == 0
    [expected] = kinds.records().values()
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(kinds.root / "again"))
    due, left = Checkpoints.due, {"steps": 1}

    def stop_at_every_step(self: Checkpoints, *, final: bool = False) -> bool:
        if not final:
            left["steps"] -= 1
            if left["steps"] == 0:
                self._stopping = lambda: True
        return due(self, final=final)

    monkeypatch.setattr(Checkpoints, "due", stop_at_every_step)
    interrupted = 0
    while not kinds.records():
        left["steps"] = 1
        assert (kinds.run("small").code != 0) == (not kinds.records())
        interrupted += 1
        assert interrupted < 40
    [record] = kinds.records().values()
    assert interrupted >= 3
    assert record.metrics == expected.metrics
    assert record.files["weights.safetensors"] == expected.files["weights.safetensors"]
    assert record.cost.steps == expected.cost.steps


def measure(model: Any, view: Any, settings: dict[str, Any], generator: torch.Generator) -> MetricValue:
    """How many held-out edges the view has, and that the model's training had not."""
    assert "held_out" not in view.info.parts
    z = model.net(view.batch().x)
    pairs = view.parts["held_out"].long()
    return MetricValue(float((z[pairs[:, 0]] * z[pairs[:, 1]]).sum(1).mean()), n=len(pairs))


def test_one_graph_with_edges_held_out(kinds, monkeypatch):
    entry = MetricEntry("tests.running.test_kinds:measure", (), "1", "higher", "held-out edges")
    monkeypatch.setitem(metrics(), "held_out", entry)
    kinds.suite(
        {
            **SUITE,
            "datasets": {"chain": {"protocol": "graph", "overlap": True}},
            "methods": {"links": {"model": "links", "training": {"batch_size": "whole", "steps": 30}}},
            "metrics": {"held_out": {}},
        }
    )
    assert kinds("validate", "small").code == 0
    told = kinds.run("small")
    assert told.code == 0, told.err
    [record] = kinds.records().values()
    assert record.value("held_out").n == 3
    assert record.cost.steps == 30
    assert record.spec["data"]["parts"]["held_out"]["splits"] == ["test"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods.duel.training.optimizers": {"mean": {}}}, "has no player 'mean' (did you mean 'means'?)"),
        ({"methods.duel.training.phases": [{"player": "spread"}]}, "has no player 'spread'"),
        ({"methods.duel.training.phases": [{"update": "counts"}]}, "has no update 'counts'"),
        ({"methods.halved.training.in_stages": [{"name": "scales"}]}, "has no stage 'scales'"),
        ({"tiers.cpu.training": {"in_stages": {"pior": {"epochs": 1}}}}, "no method has a stage 'pior' to change"),
        ({"methods.halved.training.in_stages": [{"name": "scale", "method": "nobody"}]}, "unknown method 'nobody'"),
        ({"methods.halved.training.in_stages": [{"name": "scale", "model": "toi"}]}, "unknown model 'toi'"),
        (
            {"methods.halved.training.in_stages": [{"name": "scale", "model": "toy", "params": {"spred": 1}}]},
            "no parameter 'spred'",
        ),
    ],
)
def test_names_under_training_are_told_with_their_line(kinds, changes, said):
    path = kinds.suite({**SUITE, **changes})
    found = [str(p) for p in problems(load_suite(path))]
    assert any(said in p and f"{path.name}:" in p for p in found), found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods.duel.training.phases": [{"player": "means"}]}, "no phase moves player 'spreads'"),
        ({"methods.halved.training": {}}, "trains in stages"),
        (
            {"methods.halved.training.in_stages": [{"name": "prior", "rows": "codes"}], "training.epochs": None},
            "no length",
        ),
    ],
)
def test_what_only_the_model_knows_is_found_before_anything_trains(kinds, changes, said):
    kinds.suite({**SUITE, **changes})
    told = kinds.run("small")
    assert told.code == 2
    assert said in told.err
    assert not kinds.records()


def test_they_run_alone_and_say_so(kinds):
    kinds.suite(SUITE)
    told = kinds.run("small", "--stack", "4", "--seeds", "2")
    assert told.code == 0
    assert "duel: runs are not stacked: it has several players" in told.err
    assert "halved: runs are not stacked: it trains in stages" in told.err
    assert {r.provenance.stacked for r in kinds.records().values()} == {1}


def test_the_contract_of_a_suite_covers_them(kinds):
    """`latentbench check` trains them by the suite's own protocol, and interrupts them."""
    from latentbench.contracts.suites import check_suite

    path = kinds.suite({**SUITE, "tiers": {"smoke": {"seeds": 1}}})
    found = list(check_suite(path))
    assert [f for f in found if not f.holds and not f.skipped] == []
    resumed = [f.subject for f in found if f.test.startswith("interrupted at every step")]
    assert len(resumed) == 3
