"""The plan: a pure function of suite, tier and seeds, whose fingerprints change when and only when results can."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.planning.plan import merge, plan
from latentbench.spec.loading import load_suite

from tests.project import SUITE, changed

OVERRIDES: dict[str, Any] = {
    "overrides": [
        {"methods": "wide", "params": {"pause": 0.0}, "training": {"ema": 0.9}},
        {"methods": "*", "datasets": "line", "training": {"gradient_clip_norm": 2.0}},
    ],
    "tiers.cpu.overrides": [{"methods": "n*", "training": {"epochs": 9}, "limit": {"train": 100}}],
    "methods.narrow.training": {"optimizer": {"lr": 0.5}},
    "metrics.toy_metric": {"settings": {"scale": 2.0}},
    "tiers.smoke.metrics": {"toy_metric": {"scale": 3.0}},
}
RICH = changed(SUITE, OVERRIDES)
in_a_project = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def hashes(project, data: dict[str, Any], tier: str = "cpu") -> dict[str, str]:
    """Cell -> hash of what is asked for, for a suite given as data."""
    path = project.write("small", yaml.safe_dump(data, sort_keys=False))
    return {r.cell: r.spec_hash for r in plan(load_suite(path), tier)}  # type: ignore[arg-type]


@in_a_project
@given(
    tier=st.sampled_from(["smoke", "cpu", "paper"]),
    seeds=st.none() | st.lists(st.integers(0, 1000), min_size=1, max_size=5, unique=True),
    methods=st.lists(st.sampled_from(["wide", "n*", "*o*", "floor"]), max_size=3),
)
def test_pure_and_whole(project, tier, seeds, methods):
    loaded = project.load(OVERRIDES)
    before = loaded.suite.model_dump_json()
    runs = plan(loaded, tier, seeds=seeds, methods=methods)
    again = plan(project.load(OVERRIDES), tier, seeds=seeds, methods=methods)
    assert runs == again
    assert [r.settled() for r in runs] == [r.settled() for r in again]
    assert [r.spec_hash for r in runs] == [r.spec_hash for r in again]
    assert loaded.suite.model_dump_json() == before, "the suite is left as it was"
    wanted = [m for m in loaded.suite.methods if not methods or any(fnmatchcase(m, p) for p in methods)]
    expected = list(product(wanted, seeds or loaded.suite.tiers[tier].seeds))
    assert [(r.method, r.seed) for r in runs] == expected, "methods as in the suite, seeds innermost"
    assert len({r.cell for r in runs}) == len({r.spec_hash for r in runs}) == len(runs)


def shuffled(data: Any, random: Any) -> Any:
    if isinstance(data, dict):
        keys = list(data)
        random.shuffle(keys)
        return {k: shuffled(data[k], random) for k in keys}
    return [shuffled(v, random) for v in data] if isinstance(data, list) else data


@in_a_project
@given(st.randoms(use_true_random=False), st.sampled_from(["smoke", "cpu", "paper"]))
def test_the_order_of_keys_changes_nothing(project, random, tier):
    """But for metrics, which are measured and told in the order of the suite."""
    other = shuffled(RICH, random)
    other["metrics"] = {k: other["metrics"][k] for k in RICH["metrics"]}
    assert hashes(project, other, tier) == hashes(project, RICH, tier)


#: Every number and word that can change a result: where it stands, another value, and whose runs it touches.
TELLS = {
    "a parameter": ("methods.wide.params.spread", 3.0, "wide"),
    "a model": ("methods.floor.model", "gaussian", "floor"),
    "a default spelt out with another value": ("methods.narrow.params.pause", 0.001, "narrow"),
    "the protocol of splits": ("datasets.line.protocol", "no-valid", "*"),
    "the source of data": ("datasets.line.source", "enlarged", "*"),
    "preprocessing": ("datasets.line.preprocess", [], "*"),
    "a parameter of preprocessing": ("datasets.line.preprocess", [{"standardise": "all"}], "*"),
    "the learning rate": ("training.optimizer.lr", 0.051, "wide floor"),
    "a method's learning rate": ("methods.narrow.training.optimizer.lr", 0.49, "narrow"),
    "the optimiser": ("training.optimizer.name", "sgd", "*"),
    "the batch": ("training.batch_size", 41, "*"),
    "the epochs": ("training.epochs", 5, "wide floor"),
    "the schedule": ("training.schedule", {"name": "cosine"}, "*"),
    "precision": ("training.precision", "bf16-mixed", "*"),
    "a setting of a metric": ("metrics.toy_metric.settings.scale", 2.5, "*"),
    "a tier's limit": ("tiers.cpu.limit", {"test": 30}, "*"),
    "an override's parameter": ("overrides.0.params.pause", 0.001, "wide"),
    "an override's training": ("overrides.1.training.gradient_clip_norm", 2.5, "*"),
    "a tier's override": ("tiers.cpu.overrides.0.training.epochs", 10, "narrow"),
    "a tier's limit for some": ("tiers.cpu.overrides.0.limit.train", 99, "narrow"),
    "fewer metrics": ("metrics.toy_metric", None, "*"),
}


@pytest.mark.parametrize("what", TELLS)
def test_whatever_can_change_a_result_changes_the_hash(project, what):
    place, value, whose = TELLS[what]
    before, after = hashes(project, RICH), hashes(project, changed(RICH, {place: value}))
    assert set(before) == set(after)
    touched = {cell for cell in before if before[cell] != after[cell]}
    assert touched == {c for c in before if any(fnmatchcase(c, f"{m}--*") for m in whose.split())}


#: What a reader sees and no result depends on.
TELLS_NOT = {
    "title": ("paper.title", "Another"),
    "summary": ("summary", "Some words"),
    "label": ("methods.wide.label", "the widest"),
    "baseline": ("methods.wide.baseline", True),
    "note": ("datasets.line.note", "a note"),
    "version": ("version", 4),
    "claims": ("claims", [{"id": "c", "kind": "bound", "text": "t", "where": "w", "metric": "nll", "dataset": "line"}]),
    "reported": (
        "reported",
        [{"method": "wide", "dataset": "line", "metric": "nll", "value": 1.0, "unit": "nats", "table": "1"}],
    ),
    "deviations": ("tiers.cpu.deviations", ["shorter"]),
    "cost": ("tiers.cpu.cost", "minutes"),
    "seeds of the tier": ("tiers.cpu.seeds", [0, 1, 2, 3]),
    "another tier": ("tiers.paper.training.epochs", 40),
    "the same default spelt out": ("training.schedule", {"name": "constant"}),
    "the source under its own name": ("datasets.line.source", "line"),
}


@pytest.mark.parametrize("what", TELLS_NOT)
def test_prose_changes_nothing(project, what):
    place, value = TELLS_NOT[what]
    if what == "claims":
        value[0] |= {"method": "wide", "at_most": 9.0}
    if what == "reported":
        value[0] |= {"source": "s"}
    before, after = hashes(project, RICH), hashes(project, changed(RICH, {place: value}))
    assert before.items() <= after.items()


def test_layers_win_from_the_suite_to_the_tiers_overrides(project):
    layers = {
        "training.epochs": 1,
        "methods.wide.training": {"epochs": 2},
        "overrides": [{"methods": "wide", "training": {"epochs": 3}}],
        "tiers.cpu.training": {"epochs": 4},
        "tiers.cpu.overrides": [{"methods": "wide", "training": {"epochs": 5}}],
    }
    for n in range(len(layers), 0, -1):
        some = dict(list(layers.items())[:n])
        assert project.plan("cpu", some, methods=["wide"])[0].training["epochs"] == n


def test_a_tier_may_count_steps_where_the_suite_counts_epochs(project):
    training = project.plan("cpu", {"tiers.cpu.training": {"steps": 12}})[0].training
    assert (training["steps"], training["epochs"]) == (12, None)


def test_a_later_layer_may_count_the_other_way(project):
    layers = {
        "methods.wide.training": {"steps": 3},
        "tiers.cpu.training": {"epochs": 4},
        "tiers.cpu.overrides": [{"methods": "wide", "training": {"steps": 5}}],
    }
    for n, length in ((1, (3, None)), (2, (None, 4)), (3, (5, None))):
        training = project.plan("cpu", dict(list(layers.items())[:n]), methods=["wide"])[0].training
        assert (training["steps"], training["epochs"]) == length


def test_metrics_go_to_the_methods_they_are_for(project):
    runs = project.plan("cpu", {"metrics.toy_metric": {"methods": ["wide"], "settings": {"scale": 2.0}}})
    found = {r.method: [m.key for m in r.metrics] for r in runs}
    assert found == {
        "wide": ["nll", "bits_per_dim", "toy_metric"],
        "narrow": ["nll", "bits_per_dim"],
        "floor": ["nll", "bits_per_dim"],
    }
    assert runs[0].metrics[-1].settings == {"as": "it is", "scale": 2.0, "pause": 0.0}, "defaults are filled in"


def test_tiers_choose_methods_and_datasets(project):
    more = {"datasets.enlarged": {}, "tiers.cpu.methods": ["floor"], "tiers.cpu.datasets": ["en*"]}
    assert {(r.method, r.dataset) for r in project.plan("cpu", more)} == {("floor", "enlarged")}


def test_an_exact_method_runs_once(project):
    runs = project.plan("cpu", {"methods.floor.exact": True})
    assert [r.seed for r in runs if r.method == "floor"] == [0]
    assert [r.seed for r in runs if r.method == "wide"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": ["wid"]}, "--method: suite 'small' has no method 'wid' (did you mean 'wide'?)"),
        ({"datasets": ["lime"]}, "--dataset: suite 'small' has no dataset 'lime' (did you mean 'line'?)"),
    ],
)
def test_filters_that_match_nothing(project, options, words):
    with pytest.raises(UserError) as e:
        project.plan("cpu", **options)
    assert str(e.value) == words


def test_a_tier_that_the_suite_lacks(project):
    with pytest.raises(UserError, match=r"small\.yaml:\d+: no tier 'cpu' \(it has smoke, paper\)"):
        project.plan("cpu", {"tiers.cpu": None})


def test_fingerprints_join_specification_data_and_code(project):
    one, other = project.plan("cpu")[:2]
    assert one.fingerprint("a") != one.fingerprint("b") != other.fingerprint("b")
    assert one.run_id("a").startswith("wide--line--cpu--s0--")
    moved = replace(one, seed=1)
    assert moved.fingerprint("a") == other.fingerprint("a"), "equal specifications have equal fingerprints"


def test_methods_of_different_code_have_different_code_hashes(project):
    runs = {
        r.method: r
        for r in project.plan("cpu", {"methods.vae": {"model": "vae"}, "metrics.nll.methods": ["wide", "narrow"]})
    }
    assert runs["wide"].code_hash == runs["narrow"].code_hash
    assert len({runs[m].code_hash for m in ("wide", "vae", "floor")}) == 3


def test_a_plan_needs_no_torch(project):
    path = project.suite({"methods.vae": {"model": "vae"}, "metrics.nll.methods": ["wide"]})
    code = (
        "import sys; from pathlib import Path\n"
        "from latentbench.planning.plan import plan; from latentbench.spec.loading import load_suite\n"
        f"runs = plan(load_suite(Path({str(path)!r})), 'cpu'); [r.run_id('0') for r in runs]\n"
        "assert len(runs) == 12; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "lightning", "scipy", "pandas", "sklearn"} & set(done.stdout.split())


tree = st.recursive(
    st.integers(0, 3) | st.text("ab", max_size=2) | st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
mapping = st.dictionaries(st.sampled_from("abcd"), tree, max_size=4)


@given(mapping, mapping)
def test_merge_lays_one_over_the_other(base, changes):
    found = merge(base, changes)
    assert merge(base, {}) == base
    assert merge({}, changes) == changes
    assert merge(found, changes) == found, "a second time changes nothing"
    assert set(found) == set(base) | set(changes)
    for key in found:
        if key not in changes:
            assert found[key] == base[key]
        elif not (isinstance(changes[key], dict) and isinstance(base.get(key), dict)):
            assert found[key] == changes[key]
        else:
            assert found[key] == merge(base[key], changes[key])


def test_merge_replaces_what_names_another_thing():
    base = {"schedule": {"name": "exponential", "decay": 0.9}, "optimizer": {"name": "adam", "lr": 1.0}}
    assert merge(base, {"schedule": {"name": "cosine"}})["schedule"] == {"name": "cosine"}
    assert merge(base, {"optimizer": {"lr": 2.0}})["optimizer"] == {"name": "adam", "lr": 2.0}
    assert merge(base, {"optimizer": {"name": "adam", "eps": 1.0}})["optimizer"] == {
        "name": "adam",
        "lr": 1.0,
        "eps": 1.0,
    }
    assert base["schedule"] == {"name": "exponential", "decay": 0.9}, "the base is left as it was"


def test_what_a_protocol_means_enters_the_fingerprint(project, own_data):
    """A registry entry that redefines a split scheme, or how rows are stored, asks for another run."""
    before = project.plan("cpu")[0]
    entry = own_data / "registry/line.yaml"
    text = entry.read_text()
    entry.write_text(text.replace("all: {train: train, valid", "all: {train: train+valid, valid"))
    redefined = project.plan("cpu")[0]
    assert redefined.spec_hash != before.spec_hash
    assert redefined.data["split"]["train"] == "train+valid"
    entry.write_text(text.replace("x: {shape: [4], dtype: float32}", "x: {shape: [4], dtype: float32, top: 1}"))
    assert project.plan("cpu")[0].spec_hash != before.spec_hash


def test_a_tiers_limit_goes_before_the_suites(project):
    changes = {"overrides": [{"limit": {"train": 50}}], "tiers.cpu.limit": {"train": 20}}
    assert project.plan("cpu", changes)[0].data["limit"]["train"] == 20
    assert project.plan("paper", changes)[0].data["limit"]["train"] == 50
