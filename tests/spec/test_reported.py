"""The papers' numbers in the suites: as they are printed, and in accord with what the paper claims of them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from latentbench.spec.claims import (
    BoundClaim,
    OrderClaim,
    PooledClaim,
    Rank,
    TrendClaim,
    ValueClaim,
    methods_of,
    statements,
)
from latentbench.spec.loading import load_suite, suite_files
from latentbench.spec.registry import find_metric

from tests.project import REPOSITORY, every_suite

#: Factors between a printed number and ours: per cent for a share, seconds for milliseconds.
UNITS = (1.0, 100.0, 0.01, 1000.0, 0.001)


@pytest.fixture(autouse=True)
def repository(monkeypatch):
    monkeypatch.setenv("LATENTBENCH_ROOT", str(REPOSITORY))


def broken(claim: Any, values: Sequence[float], better: str) -> bool:
    """Whether a statement does not hold for values of its methods, in its own order."""
    if claim.kind == "order":
        gain = values[0] - values[1] if better == "higher" else values[1] - values[0]
        return not gain > claim.margin
    if claim.kind == "trend":
        sign = 1.0 if claim.direction == "rises" else -1.0
        steps = [sign * (b - a) for a, b in pairwise(values)]
        return min(steps) <= 0 if claim.form == "strict" else sign * (values[-1] - values[0]) <= 0
    if claim.kind == "bound":
        return (claim.at_least is not None and values[0] < claim.at_least) or (
            claim.at_most is not None and values[0] > claim.at_most
        )
    if claim.kind == "rank":
        return values[claim.among.index(claim.method)] != (max if better == "higher" else min)(values)
    return claim.reported is not None and abs(values[0] - claim.reported) > claim.tolerance


def broken_by_reported(suite: Any, cell: Any) -> bool | None:
    """Whether the paper's own numbers break a statement; None where they do not tell."""
    found = [suite.reported_for(m, cell.dataset, cell.metric) for m in methods_of(cell)]
    if not all(r is not None and r.own for r in found):
        return None
    return broken(cell, [r.value for r in found], find_metric(suite.metric_name(cell.metric)).better)


@pytest.mark.parametrize("name", every_suite())
def test_a_papers_own_numbers_pass_its_claims(name):
    suite = load_suite(suite_files()[name]).suite
    against = []
    for claim in suite.claims:
        counts = [broken_by_reported(suite, cell) for cell in statements(claim)]
        told = [b for b in counts if b is not None]
        allowed = len(told) / 2 if isinstance(claim, PooledClaim) and claim.pool != "all" else 0
        if sum(told) > allowed:
            against.append(claim.id)
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
    rank = Rank(metric="nll", dataset="d", kind="rank", method="y", among=["x", "y", "z"])
    assert not broken(rank, [3.0, 1.0, 2.0], "lower")
    assert broken(rank, [1.0, 2.0, 3.0], "lower")
