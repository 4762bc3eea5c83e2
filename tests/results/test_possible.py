"""Numbers that cannot be: they bear no mark and no verdict rests on them."""

from __future__ import annotations

import math

import pytest
from latentbench.models.baselines import Factorised
from latentbench.records.known import PackedRun
from latentbench.records.packing import pack_records
from latentbench.records.record import Measured, Record
from latentbench.results.gather import gather
from latentbench.results.leaderboard import leaderboard
from latentbench.results.possible import entropy, impossible
from latentbench.results.verdicts import verdicts
from latentbench.spec.registry import find_metric, metrics

from tests.project import write_made_up

ORDER = {
    "id": "order",
    "kind": "order",
    "better": "wide",
    "worse": "narrow",
    "text": "t",
    "where": "w",
    "metric": "nll",
    "dataset": "line",
}
LINEAR = {"datasets": {"line": {"source": "linear", "split": {"train": "train", "test": "test"}}}}


def shown(project, values, errors=0.05, changes=None, claims=(), tier="cpu"):
    """What comes of values by method and metric, the same for three seeds but for a little."""
    changes = {"claims": list(claims), **(changes or {})}
    for i, (method, numbers) in enumerate(values.items()):
        for spec in project.plan(tier, changes, methods=[method]):
            moved = {k: v + 0.001 * spec.seed**i for k, v in numbers.items()}
            write_made_up(spec, moved, errors=dict.fromkeys(numbers, errors) if errors is not None else None)
    return gather(project.load(changes), tier)


def test_a_likelihood_beyond_the_entropy_is_impossible(project):
    """One coupling layer's log-determinant left out: 6.57 nats where 21.33 is the optimum, in small."""
    optimum = entropy("linear")
    values = {"wide": {"nll": optimum - 2}, "narrow": {"nll": optimum + 0.1}, "floor": {"nll": optimum + 1}}
    found = shown(project, values, changes=LINEAR, claims=[ORDER])
    rows = {r.method: r for r in leaderboard(found, metric="nll")}
    assert list(rows) == ["narrow", "floor", "wide"], "a number that cannot be stands last"
    assert (rows["wide"].mark, rows["narrow"].mark) == ("", "best")
    assert "the entropy of the data's known density" in rows["wide"].impossible
    assert "seeds 0, 1, 2" in rows["wide"].impossible
    verdict = verdicts(found)[0]
    assert verdict.verdict == "impossible"
    assert f"{optimum:.5g} nats" in verdict.reason
    assert verdict.reason in verdict.text


@pytest.mark.parametrize(
    "above", [(-2.0, 0.1, 1.0), (0.2, 0.1, 1.0), (None, 0.1, 1.0)], ids=["impossible", "sound", "without a value"]
)
def test_a_table_of_packed_runs_is_that_of_their_records(project, monkeypatch, above):
    """Once they are known, nobody makes their records, and nothing else may come out."""
    monkeypatch.setattr("latentbench.core.file_cache.STILL", -1)
    numbers = {m: None if x is None else entropy("linear") + x for m, x in zip(("wide", "narrow", "floor"), above)}
    for spec in project.plan("cpu", LINEAR):
        value = numbers[spec.method]
        moved = None if value is None or spec.seed == 1 else value + 0.001 * spec.seed
        write_made_up(spec, {"nll": moved}, errors={"nll": 0.05})
    pack_records(list((project.results / "runs").rglob("record.json")), project.results)
    (project.results / "runs").rename(project.root / "away")
    loaded = project.load({"claims": [ORDER], **LINEAR})
    first, again = gather(loaded, "cpu"), gather(loaded, "cpu")
    rows = leaderboard(again)
    assert all(isinstance(one, PackedRun) for one in again.as_read.values()), "none was made"
    assert not any(isinstance(one, PackedRun) for one in first.as_read.values())
    assert rows == leaderboard(first)
    assert again.impossible == first.impossible
    assert bool(first.impossible) == (above[0] == -2.0)
    assert verdicts(again) == verdicts(first)
    assert all(again.records(r.method, r.dataset) == first.records(r.method, r.dataset) for r in first.runs)


def test_chance_is_allowed_for(project):
    optimum = entropy("linear")
    found = shown(project, {"wide": {"nll": optimum - 0.2}, "narrow": {"nll": optimum}}, changes=LINEAR, claims=[ORDER])
    assert not found.impossible, "four standard errors"
    assert verdicts(found)[0].verdict == "reproduced"


def test_bits_per_dimension_are_held_against_the_entropy_in_bits(project):
    bits = entropy("linear") / (5 * math.log(2))
    assert shown(project, {"wide": {"bits_per_dim": bits - 0.1}}, 0.01, LINEAR).impossible
    assert not shown(project, {"narrow": {"bits_per_dim": bits + 0.1}}, 0.01, LINEAR).impossible.keys() & {"narrow"}


def test_steps_that_change_the_quantity_have_no_known_optimum(project):
    changed = {"datasets": {"line": LINEAR["datasets"]["line"] | {"preprocess": ["dequantise"]}}}
    optimum = entropy("linear")
    assert not shown(project, {"wide": {"nll": optimum - 2}}, changes=changed).impossible


@pytest.mark.parametrize(("steps", "cannot"), [(["dequantise"], True), ([{"binarise": "dynamic"}], True), ([], False)])
def test_no_negative_bits_of_discrete_data(project, steps, cannot):
    """A density of real values may exceed one; of whole numbers, dequantised or not, nothing has more probability."""
    changes = {"datasets": {"line": {"protocol": "all", "preprocess": steps}}}
    found = shown(project, {"wide": {"bits_per_dim": -0.1, "nll": -0.4}}, 0.01, changes)
    assert bool(found.impossible) == cannot
    if cannot:
        assert "probability 1" in str(found.impossible["wide", "line", "bits_per_dim"])


def test_a_model_whose_density_is_wrong_is_believed_nowhere(project):
    """Its other likelihoods too, also where nothing is known of the data; and nothing else of it."""
    two = {"datasets": {**LINEAR["datasets"], "other": {"source": "line", "protocol": "all"}}}
    two |= {"metrics": {"nll": {}, "bits_per_dim": {"datasets": ["other"]}, "step_ms": {}}}
    values = {"nll": entropy("linear") - 3, "bits_per_dim": 1.0, "step_ms": 2.0}
    found = shown(project, {"wide": values}, changes=two).impossible
    assert set(found) == {("wide", "line", "nll"), ("wide", "other", "nll"), ("wide", "other", "bits_per_dim")}
    assert "on line is impossible" in found["wide", "other", "bits_per_dim"].reason


RANGES = [
    ("link_auroc", 1.2, 0.9),
    ("classification_error", -3.0, 0.0),
    ("gradient_cosine", 1.22, 1.0),
    ("reconstruction_mse", -0.5, 0.0),
    ("step_ms", -1.0, 0.5),
    ("likelihood_share", 1.66, 1.04),
]


def faults(values, se=0.1):
    """What is impossible in one record with these values by metric, of 90 rows each."""
    metrics = []
    for name, value in values.items():
        entry = find_metric(name)
        unit, better = entry.unit, entry.better
        metrics.append(
            Measured(name=name, metric=name, value=value, se=se, n=90, unit=unit, better=better, identity="a")
        )
    one = Record.model_construct(status="finished", method="m", dataset="d", seed=4, spec={}, metrics=metrics)
    return {key: str(fault) for (_, _, key), fault in impossible([one]).items()}


@pytest.mark.parametrize(("metric", "beyond", "within"), RANGES)
def test_values_outside_a_declared_range(metric, beyond, within):
    assert "value that there can be (seed 4)" in faults({metric: beyond}, 0.01)[metric]
    assert faults({metric: beyond}, None), "without a standard error, rounding alone is allowed for"
    assert not faults({metric: within}, 0.01)
    assert not faults({metric: beyond}, 1.0), "five standard errors"


def test_a_rounding_is_not_outside_a_range():
    """Near an end the spread over rows may be as small as the last digit, and five of such errors forgive nothing."""
    assert not faults({"mig": 1.0 + 4e-16}, 1e-17)
    assert faults({"mig": 1.0 + 1e-5}, 1e-17)


@pytest.mark.parametrize(
    ("values", "cannot"),
    [
        ({"elbo": -87.0, "nll_iw": 86.0}, False),
        ({"elbo": -80.0, "nll_iw": 86.0}, True),
        ({"nll_iw": 80.0, "nll": 86.0}, True),
        ({"nll_iw": 86.5, "nll": 86.0}, False),
        ({"nll_iw": 85.8, "nll": 86.0}, False),
        ({"elbo": -80.0, "nll": 86.0}, True),
        ({"bits_per_dim_elbo": 0.2, "bits_per_dim": 1.4}, True),
        ({"conditional_nll_iw": 40.0, "nll": 86.0}, False),
        ({"active_units": 3.0, "nll": 86.0}, False),
    ],
)
def test_no_bound_is_better_than_what_it_bounds(values, cannot):
    """Either may be the wrong one, so both are named; the bound of another quantity says nothing."""
    assert set(faults(values)) == (set(values) if cannot else set())


def test_more_importance_samples_give_a_tighter_bound():
    def record(few, many):
        both = [
            Measured(
                name=f"k{k}",
                metric="nll_iw",
                value=v,
                se=0.1,
                n=90,
                unit="nats",
                better="lower",
                identity="a",
                likelihood=f"importance-weighted, K={k}",
            )
            for k, v in ((5, few), (500, many))
        ]
        return Record.model_construct(status="finished", method="m", dataset="d", seed=0, spec={}, metrics=both)

    assert not impossible([record(88.0, 87.0)])
    assert impossible([record(87.0, 89.0)])


def test_shares_and_distances_declare_their_range():
    """Every metric in per cent or milliseconds, and everything that is an accuracy or an area under a curve."""
    for name, entry in metrics().items():
        least, most = entry.within
        if entry.unit in ("%", "ms", "share") or any(
            w in entry.summary for w in ("accuracy of", "Area under", "area under")
        ):
            assert least is not None, name
        if entry.unit == "share" or "area under" in entry.summary.lower():
            assert most == 1, name


def test_tables_say_it(project):
    optimum = entropy("linear")
    shown(project, {"wide": {"nll": optimum - 2}, "narrow": {"nll": optimum + 1}}, changes=LINEAR, claims=[ORDER])
    for command in ("leaderboard", "verdict"):
        answer = project(command, "small")
        said = " ".join((answer.out + answer.err).split())
        assert "wide on line" in said
        assert "the entropy of the data's known density" in said
        assert "impossible" in said
    assert ", impossible: nll of" in project("leaderboard", "small", "--format", "md").out


@pytest.mark.parametrize("tier", ["smoke", "cpu"])
def test_a_run_says_it(project, monkeypatch, tier):
    """A density with a term left out, in a run that is like any other."""
    sound = Factorised.log_prob
    monkeypatch.setattr(Factorised, "log_prob", lambda model, x: sound(model, x) + 9)
    project.suite(LINEAR)
    answer = project.run("small", "--tier", tier, "--method", "floor")
    assert answer.code == 0
    assert "impossible: nll of floor on line counts for nothing" in answer.err
    assert "★" not in answer.out
