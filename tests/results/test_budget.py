"""What claims need and what a budget buys."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from latentbench.records.declared import declare, declared_path
from latentbench.results.budget import _solve, pick, suite_needs
from latentbench.results.costs import Estimate

from tests.project import write_made_up

COMMON = {"text": "t", "where": "Table 1", "metric": "nll", "dataset": "line"}
ORDER = {"id": "order", "kind": "order", "better": "wide", "worse": "narrow", **COMMON}
BOUND = {"id": "bound", "kind": "bound", "method": "floor", "at_least": 0.0, **COMMON}
OTHER = {"id": "other", "kind": "order", "better": "wide", "worse": "floor", **COMMON}
CHANGES = {"claims": [ORDER, BOUND, OTHER]}


def needs(project, changes=CHANGES, tier="cpu", declaring=False, **hours):
    found = suite_needs(project.load(changes), tier, project.results, declaring=declaring)
    costs = {"wide": 1.0, "narrow": 1.0, "floor": 1.0} | hours
    found.estimates = {
        pair: Estimate(
            costs[pair[0]] and 3600 * costs[pair[0]],
            1800.0 if costs[pair[0]] else None,
            7200.0 if costs[pair[0]] else None,
            1,
            "measured",
            "made up",
        )
        for pair in found.all_runs
    }
    return found


def make(project, values, changes=CHANGES):
    for method, numbers in values.items():
        for spec, number in zip(project.plan("cpu", changes, methods=[method], seeds=range(len(numbers))), numbers):
            write_made_up(spec, {"nll": number})


def test_without_records_three_seeds_of_each_method(project):
    found = needs(project, {**CHANGES, "tiers.cpu.seeds": 1})
    assert len(found.to_do) == 3, "the tier's own"
    assert [(c.verdict.claim, c.state, c.seeds, c.pilot, len(c.runs)) for c in found.claims] == [
        ("order", "open", 3, False, 6),
        ("bound", "open", 3, False, 3),
        ("other", "open", 3, False, 6),
    ]


def test_pilot_seeds_say_how_many_more(project):
    make(project, {"wide": [1.0, 1.9, 1.2], "narrow": [1.3, 1.9, 1.4], "floor": [5.0, 5.1, 5.2]})
    found = {c.verdict.claim: c for c in needs(project).claims}
    assert found["bound"].state == "settled"
    order = found["order"]
    assert order.pilot
    assert order.seeds == order.verdict.needed_n > 3
    assert {(r.method, r.seed) for r in order.runs} == {
        (m, s) for m in ("wide", "narrow") for s in range(3, order.seeds)
    }


def test_seeds_beyond_the_first_look_are_planned_as_the_sequential_test_will_judge_them(project):
    make(project, {"wide": [1.0, 1.9, 1.2], "narrow": [1.3, 1.9, 1.4], "floor": [5.0, 5.1, 5.2]})
    fixed = {c.verdict.claim: c for c in needs(project).claims}
    found = needs(project, declaring=True)
    claims = {c.verdict.claim: c for c in found.claims}
    assert found.to_declare
    assert all(c.verdict.sequential for c in found.claims)
    assert claims["order"].seeds in (4, 6, 8, 12, 16, 24, 32)
    assert claims["order"].seeds >= fixed["order"].seeds
    assert {r.seed for r in claims["order"].runs} == set(range(3, claims["order"].seeds))
    assert not declared_path("small", "cpu", project.results).exists()
    declare(found.found.declared, project.results)
    again = needs(project, declaring=True)
    assert not again.to_declare
    assert [(c.seeds, c.runs) for c in again.claims] == [(c.seeds, c.runs) for c in found.claims]


@pytest.mark.parametrize("narrow", [[], [9.3, 9.1, 9.2]], ids=["no pilot", "all clear"])
def test_nothing_is_declared_for_the_tiers_own_seeds(project, narrow):
    make(project, {"wide": [1.0, 1.1, 1.2], "narrow": narrow, "floor": [5.3, 5.1, 5.2]})
    found = needs(project, declaring=True)
    assert {c.state for c in found.claims} == ({"settled"} if narrow else {"settled", "open"})
    assert not found.to_declare
    assert not any(c.verdict.sequential for c in found.claims)


def test_what_more_seeds_will_not_settle(project):
    make(project, {"wide": [1.0, 1.1, 1.2], "narrow": [1.1, 1.0, 1.2], "floor": [5.0, 5.1, 5.2]})
    order = needs(project).claims[0]
    assert (order.state, order.seeds, order.runs) == ("unlikely", None, ())


def test_shared_runs_are_paid_once(project):
    found = needs(project)
    choice = pick([found], 9.0)
    assert len(choice.claims) == 3
    assert (len(choice.runs), choice.hours, choice.exact) == (9, 9.0, True)
    assert choice.left_out == []


def test_the_budget_takes_the_cheapest_claims(project):
    choice = pick([needs(project, narrow=5.0)], 6.0)
    assert {c.verdict.claim for c in choice.claims} == {"bound", "other"}
    [left] = choice.left_out
    assert (left.claim.verdict.claim, left.alone, left.further) == ("order", 18.0, 15.0)
    assert pick([needs(project)], 2.9).claims == []


def test_what_has_no_cost_is_not_bought(project):
    choice = pick([needs(project, floor=None)], 1000.0)
    assert [c.verdict.claim for c in choice.claims] == ["order"]
    assert [(x.claim.verdict.claim, x.alone) for x in choice.left_out] == [("bound", None), ("other", None)]


@pytest.mark.parametrize("seed", range(4))
def test_no_choice_settles_more(seed):
    """Against every subset of seven claims."""
    rng = np.random.default_rng(seed)
    keys = [("s", str(i)) for i in range(12)]
    hours = {k: float(h) for k, h in zip(keys, rng.exponential(size=12))}
    wanted = [{keys[i] for i in rng.choice(12, rng.integers(1, 5), replace=False)} for _ in range(7)]
    budget = 0.4 * sum(hours.values())

    def cost(which):
        return sum(hours[k] for k in set().union(*[wanted[i] for i in which]))

    able = [c for n in range(8) for c in combinations(range(7), n) if cost(c) <= budget]
    best = max(able, key=lambda c: (len(c), -cost(c)))
    chosen, exact = _solve(wanted, hours, budget)
    assert exact
    assert (len(chosen), cost(chosen)) == (len(best), pytest.approx(cost(best)))
