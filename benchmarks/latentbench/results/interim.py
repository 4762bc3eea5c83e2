"""Claims judged while seeds are added: at each declared interim analysis that the records complete."""

from __future__ import annotations

from dataclasses import replace

from latentbench.records.design import Declared
from latentbench.results.designs import analyses_of
from latentbench.results.gather import Gathered
from latentbench.results.judging import judge_claim
from latentbench.spec.claims import Claim, pairs_of
from latentbench.stats.conditions import seeds_to_settle
from latentbench.stats.judgement import Judgement, Planner
from latentbench.stats.sequential import Analysis, Schedule, combined, planner


def schedule_of(declared: Declared) -> Schedule:
    """The analyses that a declaration stands for."""
    return Schedule(declared.first, declared.cap)


def planner_for(gathered: Gathered) -> Planner:
    """How the seeds that a claim needs are planned: at the analyses to come, or at a fixed number."""
    found = (analyses_of(claim, gathered) for claim in gathered.loaded.suite.claims)
    declared = next((d for d in found if d is not None), None)
    return seeds_to_settle if declared is None else planner(schedule_of(declared))


def analyses_made(claim: Claim, gathered: Gathered) -> list[Analysis]:
    """The analyses at which each method of the claim has a record, finished or failed, of all its seeds."""
    declared = analyses_of(claim, gathered)
    assert declared is not None
    there = [gathered.records(method, dataset) for method, dataset in pairs_of(claim)]
    seeds = [{r.seed for r in records} for records in there if not any(r.exact for r in records)]
    if not all(there):
        return []
    found: list[Analysis] = []
    for analysis in schedule_of(declared):
        wanted = declared.order(analysis.seeds)
        # a claim about exact methods alone knows all at its first analysis
        if not all(have.issuperset(wanted) for have in seeds) or (not seeds and found):
            return found
        found.append(analysis)
    raise AssertionError("analyses go on without end")


def judge_so_far(claim: Claim, gathered: Gathered, alpha: float) -> Judgement:
    """A claim's judgement: of all its seeds where their number was fixed, else over the analyses made.

    The interval of a sequential one is that of the last analysis at level 1 - alpha * its share, so that it covers at
    all analyses at once (repeated confidence intervals, Jennison and Turnbull 1989).
    """
    declared = analyses_of(claim, gathered)
    if declared is None:
        return judge_claim(claim, gathered, alpha)
    made = analyses_made(claim, gathered)
    if not made:
        so_far = judge_claim(claim, gathered, alpha)
        to_come = f"; the first interim analysis is to come, at {declared.first} seeds"
        text = so_far.text + (to_come if so_far.n else "")
        return replace(so_far, p_reproduced=1.0, p_against=1.0, text=text)
    at = [(analysis, judge_claim(claim, gathered, alpha, set(declared.order(analysis.seeds)))) for analysis in made]
    last = made[-1]
    shown = judge_claim(claim, gathered, alpha * last.share, set(declared.order(last.seeds)))
    seeds = ", ".join(str(analysis.seeds) for analysis in made)
    text = f"{shown.text}; sequential, {len(made)} interim analys{'es' if len(made) > 1 else 'is'} (at {seeds} seeds)"
    return replace(combined(at), low=shown.low, high=shown.high, text=text)
