"""Claims judged while seeds are added: at each declared look that the records complete, by the sequential test."""

from __future__ import annotations

from dataclasses import replace

from latentbench.records.declared import Declared
from latentbench.results.gather import Gathered
from latentbench.results.judging import judge_claim, methods_of
from latentbench.spec.claims import Claim, Tier
from latentbench.spec.suite import Suite
from latentbench.stats.conditions import seeds_to_settle
from latentbench.stats.judgement import PILOT, Judgement, Planner
from latentbench.stats.sequential import Look, Looks, combined, planner


def first_look(suite: Suite, tier: Tier) -> int:
    """Seeds at the first look: the tier's own, `PILOT` at least."""
    return max(PILOT, len(suite.tiers[tier].seeds))


def looks_of(declared: Declared) -> Looks:
    """The looks that a declaration stands for."""
    return Looks(declared.first, declared.cap)


def planner_for(gathered: Gathered) -> Planner:
    """How the seeds that a claim needs are planned: at the looks to come, or at a fixed number."""
    return seeds_to_settle if gathered.declared is None else planner(looks_of(gathered.declared))


def looks_taken(claim: Claim, gathered: Gathered) -> list[Look]:
    """The looks at which each method of the claim has a record, finished or failed, of all its seeds."""
    declared = gathered.declared
    assert declared is not None
    there = [gathered.records(m, claim.dataset) for m in methods_of(claim)]
    seeds = [{r.seed for r in records} for records in there if not any(r.exact for r in records)]
    if not all(there):
        return []
    found: list[Look] = []
    for look in looks_of(declared):
        wanted = declared.order(look.seeds)
        # a claim about exact methods alone knows all at its first look
        if not all(have.issuperset(wanted) for have in seeds) or (not seeds and found):
            return found
        found.append(look)
    raise AssertionError("looks go on without end")


def judge_so_far(claim: Claim, gathered: Gathered, alpha: float) -> Judgement:
    """A claim's judgement: of all its seeds where their number was fixed, else over the looks taken.

    The interval of a sequential one is that of the last look at level 1 - alpha * its share, so that it covers at all
    looks at once (repeated confidence intervals, Jennison and Turnbull 1989).
    """
    declared = gathered.declared
    if declared is None:
        return judge_claim(claim, gathered, alpha)
    taken = looks_taken(claim, gathered)
    if not taken:
        so_far = judge_claim(claim, gathered, alpha)
        text = so_far.text if so_far.n == 0 else f"{so_far.text}; the first look, at {declared.first} seeds, is to come"
        return replace(so_far, p_reproduced=1.0, p_against=1.0, text=text)
    at = [(look, judge_claim(claim, gathered, alpha, set(declared.order(look.seeds)))) for look in taken]
    last = taken[-1]
    shown = judge_claim(claim, gathered, alpha * last.share, set(declared.order(last.seeds)))
    seeds = ", ".join(str(look.seeds) for look in taken)
    text = f"{shown.text}; sequential, {len(taken)} look{'s' if len(taken) > 1 else ''} (at {seeds} seeds)"
    return replace(combined(at), low=shown.low, high=shown.high, text=text)
