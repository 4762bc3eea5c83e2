"""Verdicts while seeds are being added: group-sequential tests at looks that are declared beforehand.

The claims are judged at the looks n_1 < n_2 < ... (seeds of each method, always the first n_k in a declared order),
and look k may spend the share w_k of alpha, where the shares add up to one. With p_k the p-value of the fixed-n test at
look k, whatever test that is,

    q = min_k p_k / w_k

over the looks taken so far is a p-value: P(q <= a) <= sum_k P(p_k <= a w_k) <= a for every a. It holds at every time
and for every rule of stopping, for q only falls from look to look, and so Holm's correction over the q of a suite's
claims keeps the probability of any wrong verdict within alpha, whatever the dependence between claims and looks. It is
the alpha spending of Lan and DeMets (1983) with the sum over looks bounded by Bonferroni instead of integrated, since
the joint distribution of our looks (few seeds, t tests of several conditions, unequal spreads) is not known.

The shares follow the power family of Kim and DeMets (1987), (n / cap)^1.5, up to the cap: little early, most at the
cap, so that a claim which needs all seeds loses little to one that was judged once, there. A tenth is kept back for
looks beyond the cap, half of what is left at each.
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
"""Share of alpha for looks beyond the cap."""
STEP = 1.25
"""Least ratio of two looks: nearer ones cost more alpha than they save seeds."""


@dataclass(frozen=True)
class Look:
    """Seeds of each method, and the share of alpha that the look may spend."""

    seeds: int
    share: float


@dataclass(frozen=True)
class Looks:
    """The declared looks: `first` seeds, then about half as many again each time, and `cap` seeds.

    Attributes:
        first: seeds at the first look, at least 2.
        cap: seeds at the last look, unless the cap is raised later.

    Raises:
        UserError: the cap lies below the first look, or there are too few seeds.
    """

    first: int
    cap: int

    def __post_init__(self) -> None:
        if self.first < 2:
            raise UserError(f"a first look at {self.first} seed(s)", fix="a spread needs two or more")
        if self.cap < self.first:
            raise UserError(
                f"the cap of {self.cap} seeds lies below the first look, at {self.first}",
                where="--cap",
                fix=f"give {self.first} or more",
            )

    def __iter__(self) -> Iterator[Look]:
        """All looks, without end; the shares add up to 1."""
        before = 0
        for n in self._planned():
            yield Look(n, (1 - KEPT_BACK) * ((n / self.cap) ** EXPONENT - (before / self.cap) ** EXPONENT))
            before = n
        left = KEPT_BACK
        while True:
            before = next(g for g in _grid() if g >= STEP * before)
            left /= 2
            yield Look(before, left)

    def within(self, seeds: int) -> list[Look]:
        """The looks at up to `seeds` seeds."""
        return list(takewhile(lambda look: look.seeds <= seeds, self))

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


def combined(taken: Sequence[tuple[Look, Judgement]]) -> Judgement:
    """One claim's judgement over the looks taken so far, for `latentbench.stats.judgement.settle`.

    Estimate, text and plan are those of the last look; the p-values are sequential. Of the two, the larger counts as 1,
    so that a claim which turned from one look to the next is not settled both ways.

    Args:
        taken: looks with the claim's judgement at each, in order; at least one.
    """
    held = min(1.0, *(j.p_reproduced / look.share for look, j in taken))
    against = min(1.0, *(j.p_against / look.share for look, j in taken))
    last = replace(taken[-1][1], _run=taken[-1][0].seeds)
    if held <= against:
        return replace(last, p_reproduced=held, p_against=1.0)
    return replace(last, p_reproduced=1.0, p_against=against)


def planner(looks: Looks) -> Planner:
    """How many seeds settle a claim at one of the looks to come, for `settle`: the first with the power that is asked.

    What earlier looks add to that look's own power is left out, so the plan errs towards more seeds.
    """

    def plan(conditions: Sequence[Condition], n: int, alpha: float, power: float) -> int | None:
        for look in islice(looks, len(looks.within(n)), None):
            enough = seeds_to_settle(conditions, n, alpha * look.share, power)
            if enough is None or look.seeds > CAP:
                return None
            if enough <= look.seeds:
                return look.seeds
        return None

    return plan
