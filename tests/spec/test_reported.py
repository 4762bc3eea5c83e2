"""The papers' numbers in the suites: as they are printed, and in accord with what the paper claims of them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from latentbench.spec.claims import BoundClaim, OrderClaim, TrendClaim, ValueClaim
from latentbench.spec.loading import load_suite, suite_files
from latentbench.spec.registry import find_metric

from tests.project import REPOSITORY, every_suite

#: Factors between a printed number and ours: per cent for a share, seconds for milliseconds.
UNITS = (1.0, 100.0, 0.01, 1000.0, 0.001)


@pytest.fixture(autouse=True)
def repository(monkeypatch):
    monkeypatch.setenv("LATENTBENCH_ROOT", str(REPOSITORY))


def broken(claim: Any, values: Sequence[float], better: str) -> bool:
    """Whether a claim does not hold for values of its methods, in its own order."""
    if isinstance(claim, OrderClaim):
        gain = values[0] - values[1] if better == "higher" else values[1] - values[0]
        return not gain > claim.margin
    if isinstance(claim, TrendClaim):
        sign = 1.0 if claim.direction == "rises" else -1.0
        steps = [sign * (b - a) for a, b in pairwise(values)]
        return min(steps) <= 0 if claim.form == "strict" else sign * (values[-1] - values[0]) <= 0
    if isinstance(claim, BoundClaim):
        return (claim.at_least is not None and values[0] < claim.at_least) or (
            claim.at_most is not None and values[0] > claim.at_most
        )
    return claim.reported is not None and abs(values[0] - claim.reported) > claim.tolerance


def methods_of(claim: Any) -> list[str]:
    if isinstance(claim, OrderClaim):
        return [claim.better, claim.worse]
    return claim.methods if isinstance(claim, TrendClaim) else [claim.method]


@pytest.mark.parametrize("name", every_suite())
def test_a_papers_own_numbers_pass_its_claims(name):
    suite = load_suite(suite_files()[name]).suite
    against = []
    for claim in suite.claims:
        found = [suite.reported_for(m, claim.dataset, claim.metric) for m in methods_of(claim)]
        if all(r is not None and r.own for r in found):
            values = [r.value for r in found if r is not None]
            if broken(claim, values, find_metric(suite.metric_name(claim.metric)).better):
                against.append(f"{claim.id}: {values}")
    assert against == []


def printed(name: str) -> Iterator[tuple[str, float]]:
    """Table and number of each row of a paper's `printed.csv`, the second transcription of its tables."""
    path = REPOSITORY / "suites" / name / "printed.csv"
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            yield from ((row["table"], float(row["value"])) for row in csv.DictReader(file))


@pytest.mark.parametrize("name", every_suite())
def test_reported_numbers_are_those_of_the_second_transcription(name):
    """As often as they are printed: a cell that is mistyped, doubled or taken from another table is none of them."""
    left: dict[str, Counter[float]] = {}
    for table, value in printed(name):
        left.setdefault(table, Counter())[value] += 1
    if not left:
        pytest.skip("its tables were transcribed once")
    strange = []
    for r in load_suite(suite_files()[name]).suite.reported:
        if not r.own or r.table not in left:
            continue
        same = (v for v in left[r.table] if left[r.table][v] and any(abs(f * r.value - v) < 1e-9 for f in UNITS))
        if (value := next(same, None)) is None:
            strange.append(f"{r.method} on {r.dataset}, {r.metric}: {r.value:g}")
        else:
            left[r.table][value] -= 1
    assert strange == []


def test_each_kind_of_claim_can_be_broken():
    order = OrderClaim(id="a", text="", where="", metric="nll", dataset="d", kind="order", better="x", worse="y")
    assert not broken(order, [84.78, 86.35], "lower")
    assert broken(order, [87.48, 86.35], "lower")
    assert broken(order, [84.78, 86.35], "higher")
    fields = order.model_dump(include={"id", "text", "where", "metric", "dataset"})
    falls = TrendClaim(**fields, kind="trend", methods=["x", "y", "z"], direction="falls")
    assert not broken(falls, [3.0, 2.0, 1.0], "lower")
    assert broken(falls, [3.0, 3.0, 1.0], "lower")
    assert not broken(falls.model_copy(update={"form": "overall"}), [3.0, 3.0, 1.0], "lower")
    bound = BoundClaim(**fields, kind="bound", method="x", at_most=3.59)
    assert not broken(bound, [3.49], "lower")
    assert broken(bound, [3.94], "lower")
    value = ValueClaim(**fields, kind="value", method="x", tolerance=0.5, reported=84.78)
    assert not broken(value, [85.0], "lower")
    assert broken(value, [87.48], "lower")
    assert methods_of(SimpleNamespace(method="x")) == ["x"]
