"""One experiment: what goes into training, what comes out of evaluation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from latentbench.core.errors import Diverged, UserError
from latentbench.data.dataset import open_dataset
from latentbench.running.experiment import build_model, run_experiment
from latentbench.running.outcome import Outcome
from latentbench.running.run_data import load_data
from lightning.fabric import Fabric

#: Every part of a protocol that looks at data: validation, best weights, fitted preprocessing, stochastic noise.
CAREFUL = {
    "training": {"batch_size": 40, "epochs": 4, "early_stopping": {"patience": 2}, "select": "best", "ema": 0.7},
    "datasets": {name: {"protocol": "all", "preprocess": ["standardise"]} for name in ("line", "enlarged", "poisoned")},
    "metrics": {"nll": {}},
    "methods.full": {"model": "gaussian"},
}


def outcome(spec: Any, **options: Any) -> Outcome:
    return run_experiment(spec, Fabric(accelerator="cpu", devices=1), **options)


def state(model: Any) -> dict[str, list]:
    return {k: v.tolist() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("method", ["wide", "floor", "full"])
def test_test_rows_never_reach_the_training(project, method):
    """Datasets that differ in their test rows alone leave the very same weights and curves."""
    specs = project.plan("cpu", CAREFUL, methods=[method], seeds=[0])
    found = {}
    for spec in specs:
        rows: list[dict] = []
        out = outcome(spec, on_log=rows.append)
        curve = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
        found[spec.dataset] = (state(out.model), curve, out.values.get("nll"), out.failures)
    assert found["line"][0] == found["enlarged"][0] == found["poisoned"][0]
    assert found["line"][1] == found["enlarged"][1] == found["poisoned"][1]
    assert found["enlarged"][2].value > 100 * found["line"][2].value, "but it is they that are scored"
    assert found["poisoned"][2] is None
    assert "nll" in found["poisoned"][3]
    train = open_dataset("line").split("train")["x"]
    assert np.array_equal(train, open_dataset("poisoned").split("train")["x"])
    assert np.isnan(open_dataset("poisoned").split("test")["x"]).all()


def test_models_train_in_training_mode_and_are_measured_in_evaluation_mode(project, monkeypatch):
    """Dropout and batch statistics belong to training alone: not to validation, nor to any metric."""
    spec, seen = project.plan("cpu", CAREFUL, methods=["wide"], seeds=[0])[0], []
    from latentbench_toy_model import Toy

    original = Toy.log_prob

    def watched(self, x):
        seen.append((torch.is_grad_enabled(), self.training, len(x)))
        return original(self, x)

    monkeypatch.setattr(Toy, "log_prob", watched)
    out = outcome(spec)
    assert out.values["nll"].value is not None
    assert {(grad, training) for grad, training, _ in seen} == {(True, True), (False, False)}
    assert (False, False, 60) in seen, "the test rows"
    assert not out.model.training


def test_the_order_of_metrics_changes_no_value(project):
    more = {"metrics.toy_metric": {}, "metrics.again": {"metric": "toy_metric"}}
    spec = project.plan("cpu", more, methods=["wide"])[0]
    one, other = outcome(spec), outcome(replace(spec, metrics=spec.metrics[::-1]))
    assert list(one.values) == list(other.values)[::-1]
    assert {k: v.value for k, v in one.values.items()} == {k: v.value for k, v in other.values.items()}
    alone = outcome(replace(spec, metrics=spec.metrics[2:3]))
    assert alone.values["toy_metric"].value == one.values["toy_metric"].value, "nor do other metrics"
    assert one.values["toy_metric"].value != one.values["again"].value, "each has draws of its own"


def test_the_same_run_gives_the_same_bits(project):
    spec = project.plan("cpu", {"metrics.toy_metric": {}}, methods=["wide"])[0]
    one, again = outcome(spec), outcome(spec)
    assert state(one.model) == state(again.model)
    assert one.values == again.values
    other = outcome(replace(spec, seed=1))
    assert state(other.model) != state(one.model)


def test_initial_weights_have_a_stream_of_their_own(project):
    spec = project.plan("cpu", methods=["wide"])[0]
    info = load_data(spec).info
    before = torch.get_rng_state()
    first = build_model(spec, info)
    torch.manual_seed(99)
    again = build_model(spec, info)
    torch.set_rng_state(before)
    assert state(first) == state(again)
    assert state(build_model(replace(spec, seed=1), info)) != state(first)
    assert torch.equal(torch.get_rng_state(), before), "the global stream is left alone"


def test_the_data_view_does_not_depend_on_the_method(project):
    """Methods are compared on the same draws of stochastic preprocessing."""
    digits = {"datasets": {"digits": {"preprocess": ["dequantise", "flatten", "standardise"]}}, "metrics": {"nll": {}}}
    specs = project.plan(
        "smoke", {**digits, "methods.other": {"model": "factorised", "params": {"min_variance": 1e-6}}}
    )
    values = {s.method: outcome(s).values["nll"].value for s in specs if s.method in ("floor", "other")}
    assert values["floor"] == values["other"]


def test_limits_and_splits(project):
    limit = {"tiers.cpu.limit": {"train": 50, "valid": 9, "test": 30}}
    data = load_data(project.plan("cpu", limit)[0])
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 50, "valid": 9, "test": 30}
    assert data.info.n_train == 50
    full = open_dataset("line").split("train")["x"]
    assert np.array_equal(data.splits["train"], full[:50])
    assert all(len(v) == 50 for v in data.columns["train"].values())
    split = {"datasets.line.protocol": None, "datasets.line.split": {"train": "train[20:40]", "test": "valid+test"}}
    data = load_data(project.plan("cpu", split)[0])
    assert np.array_equal(data.splits["train"], full[20:40])
    assert len(data.splits["test"]) == 100
    assert "valid" not in data.splits


def test_preprocessing_is_fitted_on_the_limited_training_rows(project):
    data = load_data(project.plan("cpu", {"tiers.cpu.limit": {"train": 30}})[0])
    y, _ = data.pipeline.forward(data.splits["train"])
    torch.testing.assert_close(y.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_best_weights_need_a_validation_split(project):
    without = {"datasets.line.protocol": "no-valid", "training.select": "best"}
    with pytest.raises(UserError, match="need a validation split"):
        outcome(project.plan("cpu", without)[0])


def test_a_loss_that_is_no_number_is_an_outcome(project):
    with pytest.raises(Diverged):
        outcome(project.plan("cpu", {"methods.wide.params": {"spoil": "nan"}})[0])


@pytest.mark.parametrize(("how", "words"), [("diverge", "left the finite numbers"), ("nan", "its value is nan")])
def test_a_metric_without_value_does_not_take_the_others_with_it(project, how, words):
    spec = project.plan("cpu", {"metrics.toy_metric": {"settings": {"as": how}}}, methods=["wide"])[0]
    out = outcome(spec)
    assert set(out.values) == {"nll", "bits_per_dim"}
    assert words in out.failures["toy_metric"]


def test_what_is_counted(project):
    out = outcome(project.plan("cpu", methods=["wide"])[0])
    assert out.parameters == 8
    assert out.trained.steps == 9
    assert out.trained.samples == 360
    assert set(out.seconds) == {"data", "training", "evaluation"}
    fitted = outcome(project.plan("cpu", methods=["floor"])[0])
    assert fitted.trained.steps == 0
    assert fitted.trained.samples == 120


def test_collapse_is_told(project):
    """Posterior means that do not vary over the data are an outcome in the record."""
    vae = {"model": "vae", "params": {"latent_dim": 2, "hidden": [4], "beta": 1000.0}}
    changes = {"methods": {"vae": vae}, "metrics": {"active_units": {}}, "tiers.cpu.training": {"epochs": 30}}
    spec = project.plan("cpu", changes)[0]
    out = outcome(spec)
    assert out.values["active_units"].value == 0
    assert out.outcomes == ["posterior-collapse"]
