"""Leaderboards against pandas and scipy: what is in them, what is ranked, what is marked."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from latentbench.data.dataset import open_dataset
from latentbench.results.gather import best_tier, gather, has_records
from latentbench.results.leaderboard import COLUMNS, leaderboard, to_frame
from scipy import stats

from tests.project import write_made_up

#: Fixed for tools: these columns, in this order, first.
FIXED = (
    "suite version tier dataset method metric identity unit better n mean std ci_low ci_high reported reported_source"
)

VALUES = {"wide": [1.0, 1.2, 1.1], "narrow": [2.0, 2.3, 2.6], "floor": [5.0, 5.0, 5.0]}


def fill(project, values=VALUES, tier="cpu", changes=None, key="nll", **options):
    """Records with made-up values by method, seeds 0, 1, 2 …; None is a value that is missing."""
    loaded = project.load(changes)
    for method, numbers in values.items():
        specs = project.plan(tier, changes, methods=[method], seeds=range(len(numbers)))
        for spec, number in zip(specs, numbers):
            write_made_up(spec, {key: number}, **options)
    return loaded


def rows_of(loaded, tier="cpu", **options):
    return {r.method: r for r in leaderboard(gather(loaded, tier), metric="nll", **options)}


def test_the_columns_that_tools_rely_on(project):
    rows = leaderboard(gather(fill(project), "cpu"))
    assert COLUMNS[:16] == FIXED.split()
    frame = to_frame(rows)
    assert list(frame.columns) == COLUMNS
    assert list(to_frame([]).columns) == COLUMNS, "also where there is nothing"


def test_means_deviations_and_intervals_against_pandas_and_scipy(project):
    rows = rows_of(fill(project))
    frame = pd.DataFrame(VALUES)
    for method, row in rows.items():
        column = frame[method]
        assert row.n == len(column)
        assert row.mean == pytest.approx(column.mean())
        assert row.std == pytest.approx(column.std())
        if column.std() > 0:
            low, high = stats.t.interval(0.95, len(column) - 1, column.mean(), stats.sem(column))
            assert (row.ci_low, row.ci_high) == pytest.approx((low, high))
        assert (row.suite, row.version, row.tier, row.dataset) == ("small", 3, "cpu", "line")
        assert (row.unit, row.better, row.likelihood, row.failed) == ("nats", "lower", "exact", 0)
    assert rows["wide"].label == "the wide one"
    assert rows["floor"].baseline


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6), st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6))
def test_any_values(project, wide, narrow):
    shutil.rmtree(project.results, ignore_errors=True)
    rows = rows_of(fill(project, {"wide": wide, "narrow": narrow}))
    for method, values in (("wide", wide), ("narrow", narrow)):
        assert rows[method].n == len(values)
        assert rows[method].mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
        assert rows[method].std == pytest.approx(np.std(values, ddof=1), rel=1e-6, abs=1e-6)
        assert rows[method].ci_low <= rows[method].mean <= rows[method].ci_high
    order = [r.mean for r in rows.values()]
    assert order == sorted(order), "the best first; lower is better"


def test_one_seed_has_no_spread(project):
    row = rows_of(fill(project, {"wide": [1.0]}))["wide"]
    assert (row.n, row.mean, row.std, row.ci_low, row.ci_high) == (1, 1.0, None, None, None)


def test_higher_is_better_turns_the_order(project):
    loaded = fill(
        project, {"wide": [1.0, 1.1], "narrow": [2.0, 2.1]}, changes={"metrics.toy_metric": {}}, key="toy_metric"
    )
    rows = [r for r in leaderboard(gather(loaded, "cpu")) if r.metric == "toy_metric"]
    assert [(r.method, r.mark) for r in rows] == [("narrow", "best"), ("wide", "")]


def mark_by_hand(values: dict[str, list[float]]) -> dict[str, str]:
    """The leading method is best if each paired 95 % interval of a difference leaves zero out, else tied."""
    top = min(values, key=lambda m: np.mean(values[m]))
    tied = []
    for method, numbers in values.items():
        if method != top:
            low, high = stats.ttest_rel(values[top], numbers).confidence_interval(0.95)
            if low <= 0 <= high:
                tied.append(method)
    return {m: ("tied" if tied else "best") if m in (top, *tied) else "" for m in values}


@pytest.mark.parametrize("seed", range(6))
def test_best_is_marked_only_where_the_intervals_allow(project, seed):
    rng = np.random.default_rng(seed)
    values = {m: list(rng.normal(mean, 0.3, 4)) for m, mean in (("wide", 1.0), ("narrow", 1.3), ("floor", 4.0))}
    rows = rows_of(fill(project, values))
    assert {m: r.mark for m, r in rows.items()} == mark_by_hand(values)


def test_marks_come_out_both_ways():
    apart, close = {"a": [1.0, 1.1, 1.2], "b": [5.0, 5.1, 5.3]}, {"a": [1.0, 1.5, 0.5], "b": [1.1, 1.0, 1.2]}
    assert set(mark_by_hand(apart).values()) == {"best", ""}
    assert set(mark_by_hand(close).values()) == {"tied"}


@pytest.mark.parametrize(
    "values",
    [
        {"wide": [1.0], "narrow": [5.0]},
        {"wide": [1.0, 1.1], "narrow": [5.0]},
        {"wide": [1.0, 1.1]},
    ],
    ids=["one seed each", "one seed of one", "nobody to compare"],
)
def test_nothing_is_marked_where_the_seeds_cannot_tell(project, values):
    assert {r.mark for r in rows_of(fill(project, values)).values()} == {""}


def test_identities_are_never_mixed(project):
    """A better number under another identity neither ranks nor marks nor averages with the rest."""
    loaded = fill(project, {"wide": [2.0, 2.1], "narrow": [3.0, 3.2]})
    for spec in project.plan("cpu", methods=["floor"], seeds=[0, 1]):
        write_made_up(spec, {"nll": 0.1 + spec.seed / 100}, identity="b" * 12)
    rows = leaderboard(gather(loaded, "cpu"), metric="nll")
    assert [(r.identity[0], r.method, r.mark) for r in rows] == [
        ("a", "wide", "best"),
        ("a", "narrow", ""),
        ("b", "floor", ""),
    ]


def test_seeds_of_different_identities_are_different_rows(project):
    loaded = project.load()
    for spec in project.plan("cpu", methods=["wide"], seeds=[0, 1, 2]):
        write_made_up(spec, {"nll": float(spec.seed)}, identity=("a" if spec.seed < 2 else "b") * 12)
    rows = leaderboard(gather(loaded, "cpu"), metric="nll")
    assert sorted((r.identity[0], r.n, r.mean) for r in rows) == [("a", 2, 0.5), ("b", 1, 2.0)]


def test_failures_are_counted_never_dropped(project):
    loaded = fill(project, {"wide": [1.0, 1.2, None], "narrow": [None, None, None]})
    for spec in project.plan("cpu", methods=["wide"], seeds=[3]):
        write_made_up(spec, {"nll": None}, status="diverged")
    for spec in project.plan("cpu", methods=["narrow"], seeds=[3]):
        write_made_up(spec, {"nll": 0.0}, status="failed")
    rows = rows_of(loaded)
    assert (rows["wide"].n, rows["wide"].failed, rows["wide"].outcomes) == (2, 2, "diverged x1, no value x1")
    assert rows["wide"].mean == pytest.approx(1.1)
    assert (rows["narrow"].n, rows["narrow"].failed, rows["narrow"].mean) == (0, 4, None)
    assert list(rows) == ["wide", "narrow"], "what has no value stands last"
    assert {r.mark for r in rows.values()} == {""}


def test_a_method_that_failed_altogether_keeps_its_row(project):
    """From the records that real runs leave."""
    project.suite({"methods.narrow.params": {"spoil": "raise"}})
    assert project.run("small", "--tier", "cpu", "--quiet", "--seeds", "2").code == 1
    rows = rows_of(project.load({"methods.narrow.params": {"spoil": "raise"}}))
    assert (rows["narrow"].n, rows["narrow"].failed, rows["narrow"].outcomes) == (0, 2, "failed x2")
    assert rows["narrow"].identity == rows["wide"].identity
    assert rows["wide"].n == 2


def test_outcomes_besides_numbers_are_counted(project):
    loaded = fill(project, {"wide": [1.0, 1.2, 1.1]}, outcomes=["posterior-collapse"])
    assert rows_of(loaded)["wide"].outcomes == "posterior-collapse x3"
    assert rows_of(loaded)["wide"].n == 3


def test_the_papers_number_stands_beside_ours(project):
    reported = {"method": "wide", "dataset": "line", "metric": "nll", "value": 0.9, "unit": "nats"}
    changes = {"reported": [reported | {"table": "Table 1", "source": "the paper, p. 5"}]}
    rows = rows_of(fill(project, changes=changes))
    assert rows["wide"].reported == 0.9
    assert rows["wide"].difference == pytest.approx(0.2)
    assert rows["wide"].reported_source == "Table 1; the paper, p. 5 (paper_text)"
    assert (rows["narrow"].reported, rows["narrow"].difference) == (None, None)


def test_smoke_never_comes_near(project):
    loaded = fill(project, tier="smoke")
    assert has_records("small", "smoke")
    assert best_tier(loaded) is None
    assert leaderboard(gather(loaded, "cpu")) == []
    fill(project, tier="cpu")
    assert best_tier(loaded) == "cpu"
    fill(project, {"wide": [1.0]}, tier="paper")
    assert best_tier(loaded) == "paper", "the most faithful one that has records"


def test_tiers_are_tables_of_their_own(project):
    loaded = fill(project, {"wide": [1.0, 1.2]}, tier="cpu")
    fill(project, {"wide": [7.0, 7.2]}, tier="paper")
    assert rows_of(loaded, "cpu")["wide"].mean == pytest.approx(1.1)
    assert rows_of(loaded, "paper")["wide"].mean == pytest.approx(7.1)


def test_further_seeds_count_too(project):
    loaded = project.load()
    for spec in project.plan("cpu", methods=["wide"], seeds=[0, 7, 12]):
        write_made_up(spec, {"nll": float(spec.seed)})
    assert rows_of(loaded)["wide"].n == 3


def test_an_exact_method_is_found_under_whatever_seed_it_ran(project):
    changes = {"methods.floor.exact": True}
    loaded = project.load(changes)
    for seeds in ([7, 4], [9]):
        for spec in project.plan("cpu", changes, seeds=seeds, methods=["wide", "floor"]):
            write_made_up(spec, {"nll": 3.0 if spec.exact else 1.0 + spec.seed / 10})
    rows = rows_of(loaded)
    assert rows["wide"].n == 3
    assert (rows["floor"].n, rows["floor"].mean) == (1, 3.0), "under several seeds it says the same, and counts once"
    assert rows["wide"].mark == "best", "one value of an exact method is all there is, and can be compared"


def test_outdated_records_do_not_count_and_stale_ones_do(project):
    fill(project, {"wide": [1.0, 1.1]})
    after = project.load({"methods.wide.params.spread": 9.0})
    assert rows_of(after) == {}
    for spec in project.plan("cpu", {"methods.wide.params.spread": 9.0}, methods=["wide"], seeds=[0]):
        write_made_up(spec, {"nll": 4.0}, code="f" * 64)
    assert rows_of(after)["wide"].mean == 4.0


def test_missing_and_stale_seeds_are_counted_beside_the_numbers(project):
    loaded = fill(project, {"wide": [1.0, 1.1], "narrow": [2.0, 2.1, 2.2, 2.3]})
    for spec in project.plan("cpu", methods=["floor"], seeds=[0, 1, 2]):
        write_made_up(spec, {"nll": 3.0 + spec.seed / 10}, code="f" * 64)
    rows = rows_of(loaded)
    assert {m: (r.n, r.missing, r.stale) for m, r in rows.items()} == {
        "wide": (2, 1, 0),
        "narrow": (4, 0, 0),
        "floor": (3, 0, 3),
    }


def test_numbers_of_other_data_do_not_count(project):
    open_dataset("line")  # so that its content is known
    loaded = fill(project, {"wide": [1.0, 1.2]})
    for spec in project.plan("cpu", methods=["wide"], seeds=[2]):
        write_made_up(spec, {"nll": 50.0}, data_hash="f" * 64)
    gathered = gather(loaded, "cpu")
    assert (rows_of(loaded)["wide"].n, rows_of(loaded)["wide"].mean) == (2, pytest.approx(1.1))
    assert len(gathered.collected.outdated) == 1


def test_filters(project):
    changes = {"metrics.mine": {"metric": "toy_metric"}, "datasets.enlarged": {}, "metrics.bits_per_dim": None}
    loaded = project.load(changes)
    for spec in project.plan("cpu", changes, methods=["wide"], seeds=[0]):
        write_made_up(spec, {"nll": 1.0, "mine": 2.0})
    gathered = gather(loaded, "cpu")
    assert [(r.dataset, r.metric) for r in leaderboard(gathered)] == [
        ("line", "nll"), ("line", "mine"), ("enlarged", "nll"), ("enlarged", "mine")
    ]  # fmt: skip
    assert {r.dataset for r in leaderboard(gathered, dataset="line")} == {"line"}
    assert {r.metric for r in leaderboard(gathered, metric="mine")} == {"mine"}
    assert {r.metric for r in leaderboard(gathered, metric="toy_metric")} == {"mine"}, (
        "its name in the registry will do"
    )


def test_no_number_that_is_none_reaches_a_table(project):
    fill(project, {"wide": [1.0], "narrow": [None]})
    for row in leaderboard(gather(project.load(), "cpu")):
        numbers = [v for v in vars(row).values() if isinstance(v, float)]
        assert all(map(math.isfinite, numbers))


def test_far_and_failed_seeds_are_named(project):
    values = {"wide": [1.0, 1.2, 1.1, 1.05, -2750.0], "narrow": [2.0, 2.3, None, 2.05, 2.2], "floor": [5.0, 5.1, 5.2]}
    rows = rows_of(fill(project, values))
    assert {m: r.outliers for m, r in rows.items()} == {
        "wide": "seed 4: -2750 (far out)",
        "narrow": "seed 2: no value",
        "floor": "",
    }
    assert "-2750 (far out)" in project("leaderboard", "small", "--format", "md").out


def test_intervals_stay_within_a_metrics_range(project):
    changes = {"metrics": {"step_ms": {}}}
    fill(project, {"wide": [0.2, 3.0, 0.4]}, changes=changes, key="step_ms")
    row = leaderboard(gather(project.load(changes), "cpu"))[0]
    assert 0 < row.ci_low < row.mean < row.ci_high
