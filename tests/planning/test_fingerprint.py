"""Hashes of values: equal for equal meaning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core.reach.installed import WORDS_AND_PLACES
from latentbench.planning.engines import era, eras, is_todays
from latentbench.planning.fingerprint import (
    INTERFACE,
    canonical,
    code_definitions,
    code_hash,
    digest,
    engine_definitions,
    engine_hash,
)

from tests.project import REPOSITORY

VAE = {"model vae": "latentbench.models.vae:VAE"}


def test_a_run_reaches_what_its_model_uses_and_the_engine_the_rest():
    run = {f"{module.removeprefix('latentbench.')}:{name}" for module, name in code_definitions(VAE)}
    engine = {f"{module.removeprefix('latentbench.')}:{name}" for module, name in engine_definitions()}
    assert {"models.vae:VAE", "models.nets:MlpNetwork", "models.densities:normal_kl"} <= run
    assert {"training.loop:train", "training.optim:build_optimizer", "spec.protocol:Training"} <= engine
    assert not run & engine
    for module in ("cli", "results", "stats", "spec.suite", "core.console", "data.loaders"):
        assert not any(name.startswith((f"{module}.", f"{module}:")) for name in run | engine)
    assert not any(name.startswith(("models.", "metrics.")) for name in engine)


def test_where_the_engine_ends_is_named_by_what_there_is():
    assert set(INTERFACE) <= {f"{m.removeprefix('latentbench.')}:{n}" for m, n in engine_definitions()}


def test_labels_count():
    """So that two metrics of a run cannot change places unseen."""
    assert code_hash(VAE) != code_hash({"model other": VAE["model vae"]})


def test_a_root_that_is_missing_says_so():
    with pytest.raises(LookupError, match="absent"):
        code_hash({"model": "latentbench.absent:Absent"})
    with pytest.raises(LookupError, match="Absent"):
        code_hash({"model": "latentbench.models.vae:Absent"})


def test_engines_of_one_era_are_as_good_as_each_other():
    for each in eras():
        assert {era(one["engine"]) for one in each} == {each[0]["engine"]}
    assert is_todays(engine_hash())
    assert era("f" * 64) == "f" * 64
    assert not is_todays("f" * 64)


def test_packages_execute_nothing_when_they_are_imported():
    """Whatever they ran would count for everything below them; papers are found, and records can be called."""
    root = REPOSITORY / "benchmarks/latentbench"
    executing = [p.parent.name for p in root.rglob("__init__.py") if p.parent != root and p.read_text().strip()]
    assert sorted(executing) == ["papers", "records"]
    assert "latentbench.papers" in WORDS_AND_PLACES


value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(value, value)
def test_digests_are_equal_just_for_equal_values(one, other):
    assert (digest(one) == digest(other)) == (canonical(one) == canonical(other))
    assert len(digest(one)) == 64
    if canonical(one) == canonical(other):
        assert one == other
    else:
        assert one is not other


@given(st.dictionaries(st.text(max_size=3), value, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_count(data, random):
    keys = list(data)
    random.shuffle(keys)
    assert digest({k: data[k] for k in keys}) == digest(data)


def test_values_that_no_json_holds_are_refused():
    for bad in (float("nan"), float("inf"), {1, 2}, object()):
        with pytest.raises((ValueError, TypeError)):
            digest(bad)
