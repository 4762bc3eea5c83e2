"""Verdicts while seeds are being added: group-sequential tests at interim analyses that are declared beforehand.

The claims are analysed at n_1 < n_2 < ... seeds (of each method, always the first n_k in a declared order), and
analysis k may spend the share w_k of alpha, where the shares add up to one. With p_k the p-value of the fixed-n test at
analysis k, whatever test that is,

    q = min_k p_k / w_k

over the analyses made so far is a p-value: P(q <= a) <= sum_k P(p_k <= a w_k) <= a for every a. It holds at every time
and for every rule of stopping, for q only falls from analysis to analysis, and so Holm's correction over the q of a
suite's claims keeps the probability of any wrong verdict within alpha, whatever the dependence between claims and
analyses. It is the alpha spending of Lan and DeMets (1983) with the sum over analyses bounded by Bonferroni instead of
integrated, since the joint distribution of our analyses (few seeds, t tests of several conditions, unequal spreads) is
not known.

The shares follow the power family of Kim and DeMets (1987), (n / cap)^1.5, up to the cap: little early, most at the
cap, so that a claim which needs all seeds loses little to one that was judged once, there. A tenth is kept back for
analyses beyond the cap, half of what is left at each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile

from latentbench.core.errors import UserError
from latentbench.stats.conditions import Condition, seeds_to_settle
from latentbench.stats.judgement import Judgement, Planner
from latentbench.stats.power import CAP

EXPONENT = 1.5
"""Of the power family: 1 spends evenly over the seeds, 3 is near O'Brien and Fleming's boundary."""
KEPT_BACK = 0.1
"""Share of alpha for analyses beyond the cap."""
STEP = 1.25
"""Least ratio of two analyses: nearer ones cost more alpha than they save seeds."""


@dataclass(frozen=True)
class Analysis:
    """Seeds of each method, and the share of alpha that the analysis may spend."""

    seeds: int
    share: float


@dataclass(frozen=True)
class Schedule:
    """The declared analyses: `first` seeds, then about half as many again each time, and `cap` seeds.

    Attributes:
        first: seeds at the first analysis, at least 2.
        cap: seeds at the last analysis, unless the cap is raised later.

    Raises:
        UserError: the cap lies below the first analysis, or there are too few seeds.
    """

    first: int
    cap: int

    def __post_init__(self) -> None:
        if self.first < 2:
            raise UserError(f"a first analysis at {self.first} seed(s)", fix="a spread needs two or more")
        if self.cap < self.first:
            raise UserError(
                f"the cap of {self.cap} seeds lies below the first analysis, at {self.first}",
                where="--cap",
                fix=f"give {self.first} or more",
            )

    def __iter__(self) -> Iterator[Analysis]:
        """All analyses, without end; the shares add up to 1."""
        before = 0
        for n in self._planned():
            yield Analysis(n, (1 - KEPT_BACK) * ((n / self.cap) ** EXPONENT - (before / self.cap) ** EXPONENT))
            before = n
        left = KEPT_BACK
        while True:
            before = next(g for g in _grid() if g >= STEP * before)
            left /= 2
            yield Analysis(before, left)

    def within(self, seeds: int) -> list[Analysis]:
        """The analyses at up to `seeds` seeds."""
        return list(takewhile(lambda analysis: analysis.seeds <= seeds, self))

    def _planned(self) -> Iterator[int]:
        n = self.first
        while n < self.cap:
            yield n
            n = next(g for g in _grid() if g >= STEP * n)
            if n * STEP > self.cap:
                break
        yield self.cap


def _grid() -> Iterator[int]:
    """2, 3, 4, 6, 8, 12, 16, 24 ..."""
    n = 2
    while True:
        yield n
        yield n + n // 2
        n *= 2


def combined(made: Sequence[tuple[Analysis, Judgement]]) -> Judgement:
    """One claim's judgement over the analyses made so far, for `latentbench.stats.judgement.settle`.

    Estimate, text and plan are those of the last analysis; the p-values are sequential. Of the two, the larger counts
    as 1, so that a claim which turned from one analysis to the next is not settled both ways.

    Args:
        made: analyses with the claim's judgement at each, in order; at least one.
    """
    held = min(1.0, *(j.p_reproduced / analysis.share for analysis, j in made))
    against = min(1.0, *(j.p_against / analysis.share for analysis, j in made))
    last = replace(made[-1][1], _run=made[-1][0].seeds)
    if held <= against:
        return replace(last, p_reproduced=held, p_against=1.0)
    return replace(last, p_reproduced=1.0, p_against=against)


def planner(schedule: Schedule) -> Planner:
    """How many seeds settle a claim, for `settle`: those of the first analysis to come with the power that is asked.

    What earlier analyses add to that analysis's own power is left out, so the plan errs towards more seeds.
    """

    def plan(conditions: Sequence[Condition], n: int, alpha: float, power: float) -> int | None:
        for analysis in islice(schedule, len(schedule.within(n)), None):
            enough = seeds_to_settle(conditions, n, alpha * analysis.share, power)
            if enough is None or analysis.seeds > CAP:
                return None
            if enough <= analysis.seeds:
                return analysis.seeds
        return None

    return plan
