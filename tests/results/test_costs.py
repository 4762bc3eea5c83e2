"""What a run will cost, from records."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.cli.planned import hours, spread
from latentbench.data.registry import load_entry
from latentbench.planning.plan import plan
from latentbench.records.record import Cost, read_record
from latentbench.results.costs import MARGIN, Estimate, Known, from_pilot, total
from latentbench.results.work import _rows, evaluation_factors
from latentbench.running.pilot import Pilot
from latentbench.spec.loading import load_suite

from tests.project import REPOSITORY, write_made_up, write_sealed


def record(project, method="wide", tier="cpu", changes=None, seed=0, device="cpu", folder=None, stacked=1, **cost):
    [spec] = project.plan(tier, changes, methods=[method], seeds=[seed])
    path = write_made_up(spec, {"nll": 1.0}, folder=folder)
    made = read_record(path)
    provenance = made.provenance.model_copy(update={"device": device, "stacked": stacked})
    write_sealed(path, made.model_copy(update={"cost": Cost(**cost), "provenance": provenance}))


def estimate(project, method="wide", tier="cpu", changes=None, device="cpu"):
    [spec] = project.plan(tier, changes, methods=[method], seeds=[9])
    return Known.of("small", project.results).estimate(spec, device)


NINE = {"wall_seconds": 13.0, "training_seconds": 9.0, "evaluation_seconds": 3.0, "steps": 9, "parameters": 1000}


def test_nothing_is_invented(project):
    found = estimate(project)
    assert (found.seconds, found.hours, found.range_hours, found.source) == (None, None, None, "unknown")
    assert found.text == "no record of any tier"


def test_measured_is_the_median_with_the_records_range(project):
    for seed, wall in enumerate([10.0, 12.0, 20.0]):
        record(project, seed=seed, **NINE | {"wall_seconds": wall})
    found = estimate(project)
    assert (found.seconds, found.low, found.high, found.source) == (12.0, 10.0, 20.0, "measured")
    assert found.hours == pytest.approx(12 / 3600)
    assert found.disk > 4000


def test_a_run_that_was_held_up_is_left_out(project):
    for seed, wall in enumerate([10.0, 12.0, 1800.0]):
        record(project, seed=seed, **NINE | {"wall_seconds": wall})
    assert estimate(project).high == 12.0


def test_training_scales_with_its_length(project):
    """Three epochs at cpu, four at paper: nine steps become twelve; the second that is neither stays."""
    record(project, **NINE)
    found = estimate(project, tier="paper")
    assert found.source == "scaled"
    assert found.seconds == pytest.approx(12 + 3 + 1)
    margin = MARGIN ** (1 + 2 * math.log10(4 / 3))  # wider, the further it is extrapolated
    assert (found.low, found.high) == pytest.approx((16 / margin, 16 * margin))
    assert found.text == "tier cpu x 1.33, 1 record"


def test_another_batch_widens_the_range(project):
    """Batches of 20 instead of 40: twice the steps, the same samples."""
    record(project, **NINE)
    found = estimate(project, changes={"training.batch_size": 20})
    margin = MARGIN ** (1 + 2 * math.log10(2))
    assert (found.low, found.high) == pytest.approx(((9 + 3 + 1) / margin, (18 + 3 + 1) * margin))


def test_evaluation_scales_with_its_rows(project):
    record(project, **NINE)
    found = estimate(project, changes={"tiers.cpu.limit": {"test": 20}})
    assert found.seconds == pytest.approx(9 + 1 + 1), "20 rows of 60"


def test_another_network_is_not_scaled(project):
    record(project, **NINE)
    found = estimate(project, changes={"methods.wide.params.spread": 3.0})
    assert (found.source, found.text) == ("unknown", "records of tier cpu have other spread")


def test_another_device_is_not_scaled(project):
    record(project, device="cuda", **NINE)
    assert estimate(project).text == "no record on cpu"
    assert estimate(project, device="cuda").source == "measured"


def test_a_metric_that_nobody_measured(project):
    record(project, changes={"metrics.bits_per_dim": None}, **NINE)
    assert estimate(project).text == "no record has measured bits_per_dim"


def test_what_was_run_here_comes_before_what_was_shipped(project):
    record(project, folder=project.results / "runs/small", **NINE)
    shipped = Path(project.results / "reference/small")
    record(project, seed=1, folder=shipped, **NINE | {"wall_seconds": 40.0})
    for path in list(shipped.glob("*/record.json")):
        path.rename(shipped / f"{path.parent.name}.json")
    found = estimate(project)
    assert (found.seconds, found.text) == (13.0, "measured, 1 record")


def test_a_fitted_method_scales_with_rows(project):
    record(project, "floor", **NINE | {"steps": 0, "training_seconds": 12.0, "wall_seconds": 16.0})
    found = estimate(project, "floor", "smoke")
    assert found.seconds == pytest.approx(12 * 80 / 120 + 3 + 1), "whatever the epochs"


@pytest.mark.parametrize(
    ("expression", "rows"),
    [("train", 120), ("train[:50]", 50), ("train[100:]", 20), ("train[-30:]", 30), ("train+valid[:50%]", 140)],
)
def test_rows_of_split_expressions(project, expression, rows):
    assert _rows(load_entry("line"), expression, None) == rows
    assert _rows(load_entry("line"), expression, 7) == 7


def test_evaluation_is_between_its_metrics():
    from latentbench.results.work import Work

    old = Work(1, 1, 1, {"a": (10, 50), "b": (10, 1)})
    assert evaluation_factors(old, Work(1, 1, 1, {"a": (20, 500), "b": (20, 1)})) == (2, 20)
    assert evaluation_factors(old, Work(1, 1, 1, {"c": (1, 1)})) is None


def test_a_pilot(project):
    [spec] = project.plan("cpu", methods=["wide"], seeds=[0])
    pilot = Pilot(
        step_seconds=0.5,
        fit=(0.0, 0.0),
        evaluation=(1.0, 0.1),
        one_size=False,
        fixed_seconds=0.5,
        parameters=7,
        unmeasured=("mig",),
    )
    found = from_pilot(spec, pilot, 2)
    assert found.seconds == pytest.approx(9 * 0.5 + 1 + 6 + 0.5)
    assert (found.low, found.high) == pytest.approx((12 / MARGIN, 12 * MARGIN))
    assert found.hours == pytest.approx(24 / 3600), "on two cores"
    assert found.text == "timed here, without mig"


def test_total_counts_what_is_unknown():
    one = Estimate(3600, 1800, 7200, 1, "measured", "")
    assert total([one, one, Estimate(None, None, None, 1, "unknown", "")]) == (2, 1, 4, 1)


def test_the_share_of_one_of_many_is_not_what_it_takes_alone(project):
    for seed in (0, 1, 2):
        record(project, seed=seed, stacked=8, wall_seconds=10.0, steps=9)
    found = estimate(project)
    assert (found.seconds, found.low, found.high) == (10.0, 10.0, 80.0)
    assert found.text == "measured, 3 records, trained side by side"


def test_the_nearest_amount_of_work_tells_before_what_was_run_here(project):
    """One smoke record made here says less of a long run than shipped records of half its length."""
    short = {"training.epochs": 1}
    half = {"training.epochs": 30}
    record(project, changes=short, **NINE | {"training_seconds": 0.1, "wall_seconds": 4.1, "steps": 3})
    shipped = project.results / "reference/small"
    record(
        project, changes=half, folder=shipped, **NINE | {"training_seconds": 90.0, "wall_seconds": 94.0, "steps": 90}
    )
    for path in list(shipped.glob("*/record.json")):
        path.rename(shipped / f"{path.parent.name}.json")
    found = estimate(project, changes={"training.epochs": 60})
    assert found.seconds == pytest.approx(2 * 90 + 4)
    assert "1 reference record" in found.text


def test_the_further_the_wider(project):
    record(project, **NINE)
    widths = []
    for epochs in (3, 30, 300, 3000):
        found = estimate(project, changes={"training.epochs": epochs, "tiers.cpu.limit": {"test": 59}})
        widths.append(found.high / found.low)
    assert widths == sorted(widths)
    assert widths[1] / widths[0] == pytest.approx(MARGIN**4, rel=0.01), "two margins on each side for a power of ten"


@pytest.mark.parametrize("tier", ["cpu", "paper"])
@pytest.mark.parametrize(
    "walls", [[0.02], [3.0, 3.0], [1.0, 100.0], [5.0, 6.0, 900.0], [0.001, 4.0, 4.1, 4.2]], ids=lambda w: str(len(w))
)
@pytest.mark.parametrize("stacked", [1, 3])
def test_no_range_excludes_its_own_estimate(project, tier, walls, stacked):
    """Neither as it is nor as it is shown."""
    for seed, wall in enumerate(walls):
        cost = {"training_seconds": 0.9 * wall, "evaluation_seconds": 0.3 * wall, "steps": 9, "parameters": 9}
        record(project, seed=seed, stacked=stacked, wall_seconds=wall, **cost)
    found = estimate(project, tier=tier)
    assert found.low <= found.seconds <= found.high
    low, high = found.range_hours
    assert low <= found.hours <= high
    assert _within(hours(found.hours), spread(low, high))


def _within(middle: str, shown: str) -> bool:
    """Whether a range as a plan shows it holds what is shown as the middle."""
    ends = [_seconds(end, shown) for end in shown.split(" to ")]
    return ends[0] <= _seconds(middle, "") <= ends[-1]


def _seconds(text: str, whole: str) -> float:
    """``12 min``; the first end of a range may have the unit of the other alone."""
    amount, _, unit = text.partition(" ")
    return float(amount.replace(",", "")) * {"s": 1, "min": 60, "h": 3600}[unit or whole.split()[-1]]


@given(st.floats(0, 1e5), st.floats(1, 1e3), st.floats(1, 1e3))
def test_rounding_keeps_an_estimate_within_its_range(middle, below, above):
    assert _within(hours(middle), spread(middle / below, middle * above))


@pytest.mark.slow
def test_ranges_cover_what_was_recorded():
    """Times of one tier, predicted from the records of the other tiers that come along."""
    inside = []
    for suite in ("light-schrodinger-bridge",):
        known, loaded = Known.of(suite, REPOSITORY / "results"), load_suite(REPOSITORY / f"suites/{suite}/suite.yaml")
        for tier in {r.tier for r, _ in known.records}:
            others = Known([(r, own) for r, own in known.records if r.tier != tier])
            for run in plan(loaded, tier, seeds=[0]):
                found = others.estimate(run, "cpu")
                if found.source == "scaled" and found.low is not None and found.high is not None:
                    inside += [
                        found.low <= r.cost.wall_seconds <= found.high
                        for r, _ in known.records
                        if (r.tier, r.method, r.dataset) == (tier, run.method, run.dataset)
                    ]
    assert len(inside) > 100
    assert sum(inside) / len(inside) > 0.8
