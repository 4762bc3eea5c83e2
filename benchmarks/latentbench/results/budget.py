"""What it takes to settle the claims of suites: the runs that each needs, what they cost, and what a budget buys.

A claim needs a set of runs, and claims share them, so what one costs depends on which others are settled too. Which
claims a budget settles most of is an integer programme (claims that need runs that cost); HiGHS, in scipy, solves it
exactly for any number of claims that suites have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from latentbench.planning.plan import RunSpec, plan
from latentbench.records.design import order
from latentbench.records.known import like
from latentbench.results.costs import Estimate, total
from latentbench.results.designs import first_analysis
from latentbench.results.gather import Gathered, gather
from latentbench.results.settling import SETTLED, drafted
from latentbench.results.verdicts import ClaimVerdict, verdicts
from latentbench.spec.claims import Claim, Tier, pairs_of
from latentbench.spec.loading import LoadedSuite
from latentbench.stats.judgement import PILOT

State = Literal["settled", "open", "unlikely"]
Pair = tuple[str, str]
"""Method and dataset."""
DONE = ("finished", "diverged")
SOLVER_SECONDS = 10.0


@dataclass(frozen=True)
class ClaimNeeds:
    """One claim, and the runs that it still needs.

    Attributes:
        verdict: as it stands.
        state: ``unlikely``: more seeds are not likely to settle it.
        seeds: of each method, wanted in all: those that the pilot seeds ask for (`ClaimVerdict.needed_n`), or the
            tier's own, three at least, where there is no pilot of three yet.
        pilot: whether pilot seeds said so.
        runs: not done yet.
    """

    suite: str
    verdict: ClaimVerdict
    state: State
    seeds: int | None
    pilot: bool
    runs: tuple[RunSpec, ...]

    @property
    def name(self) -> tuple[str, str]:
        return self.suite, self.verdict.claim


@dataclass
class SuiteNeeds:
    """A suite at a tier: its planned runs, what is done, what each claim needs, what runs cost.

    Where seeds are added sequentially, `found.declared` holds the interim analyses, which may be yet to be declared
    (`to_declare`).
    """

    found: Gathered
    claims: list[ClaimNeeds]
    estimates: dict[Pair, Estimate] = field(default_factory=dict)

    @cached_property
    def to_do(self) -> list[RunSpec]:
        """The tier's own runs without a record."""
        return [r for r in self.found.runs if not is_done(self.found, r)]

    @property
    def to_declare(self) -> bool:
        """Whether all this goes by analyses that nobody has declared yet."""
        return self.found.declared is not None and not self.found.declared.seal

    def estimate(self, run: RunSpec) -> Estimate:
        return self.estimates[run.method, run.dataset]

    def cost(self, runs: Sequence[RunSpec]) -> tuple[float, float, float, int]:
        """See `costs.total`."""
        return total(self.estimate(r) for r in runs)

    @cached_property
    def all_runs(self) -> dict[Pair, RunSpec]:
        """One run of each cell that the tier or a claim asks for."""
        runs = [*self.found.runs, *(r for c in self.claims for r in c.runs)]
        return {(r.method, r.dataset): r for r in reversed(runs)}


def is_done(found: Gathered, run: RunSpec) -> bool:
    """Whether a run has a record that counts; an exact method's one record counts for every seed."""
    if run.exact:
        return any(r.status in DONE for r in found.records(run.method, run.dataset))
    one = found.as_read.get(run.cell)
    return one is not None and like(one).status in DONE


def suite_needs(
    loaded: LoadedSuite,
    tier: Tier,
    results: Path,
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
    *,
    declaring: bool = False,
    cap: int | None = None,
) -> SuiteNeeds:
    """What a suite has and needs at a tier; costs are filled in by the caller.

    Args:
        loaded, tier: the suite.
        results: where its records are.
        methods, datasets: names or patterns; claims about others are left out.
        declaring: whether analyses are declared before seeds are added. Then, where an open claim wants more seeds than
            the first analysis has, all claims are judged and planned by the sequential test already.
        cap: seeds at the last analysis of such a declaration; None for the usual one.
    """
    found = gather(loaded, tier, results)
    kept = plan(loaded, tier, methods=methods, datasets=datasets)
    pairs = {(r.method, r.dataset) for r in kept}
    claims = _all_needs(found, pairs)
    if declaring and found.declared is None and _beyond_first_look(loaded, tier, claims):
        found = replace(found, declared=drafted(loaded, tier, cap))
        claims = _all_needs(found, pairs)
    return SuiteNeeds(replace(found, runs=kept), claims)


def _all_needs(found: Gathered, pairs: set[Pair]) -> list[ClaimNeeds]:
    by_id = {c.id: c for c in found.loaded.suite.claims}
    return [
        _needs(by_id[v.claim], v, found)
        for v in verdicts(found)
        if not v.information and all(pair in pairs for pair in pairs_of(by_id[v.claim]))
    ]


def _beyond_first_look(loaded: LoadedSuite, tier: Tier, claims: Sequence[ClaimNeeds]) -> bool:
    return any(c.state == "open" and (c.seeds or 0) > first_analysis(loaded.suite, tier) for c in claims)


def _needs(claim: Claim, verdict: ClaimVerdict, found: Gathered) -> ClaimNeeds:
    suite, tier = found.loaded.suite, found.tier
    own = suite.tiers[tier].seeds
    pilot = verdict.n >= PILOT
    if verdict.verdict in SETTLED:
        return ClaimNeeds(suite.id, verdict, "settled", verdict.n, pilot, ())
    seeds = verdict.needed_n if pilot else max(PILOT, len(own))
    if seeds is None:
        return ClaimNeeds(suite.id, verdict, "unlikely", None, pilot, ())
    wanted = found.declared.order(seeds) if found.declared else order(own, seeds)
    runs = tuple(
        run
        for method, dataset in pairs_of(claim)
        for run in plan(found.loaded, tier, seeds=wanted, methods=[method], datasets=[dataset])
        if not is_done(found, run)
    )
    # nothing is left to run, and still no verdict: seeds failed, or all is exact
    return ClaimNeeds(suite.id, verdict, "open" if runs else "unlikely", seeds if runs else None, pilot, runs)


@dataclass(frozen=True)
class LeftOut:
    """A claim that the budget does not settle, and hours: by itself, and on top of what was picked (None: unknown)."""

    claim: ClaimNeeds
    alone: float | None
    further: float | None


@dataclass(frozen=True)
class Picked:
    """What a budget buys.

    Attributes:
        budget: hours.
        claims: those that it settles, if the pilot's seeds told the truth.
        runs: the runs that they need, each once.
        hours, low, high: what these cost.
        left_out: the other open claims, the cheapest first.
        exact: whether no choice settles more claims (else the solver ran out of time, and this is the best it found).
    """

    budget: float
    claims: list[ClaimNeeds]
    runs: list[RunSpec]
    hours: float
    low: float
    high: float
    left_out: list[LeftOut]
    exact: bool


def pick(needs: Sequence[SuiteNeeds], budget: float) -> Picked:
    """The runs that settle most claims within `budget` hours, and of such choices the cheapest.

    Claims that need a run of unknown cost are never picked.
    """
    open_claims = [(s, c) for s in needs for c in s.claims if c.state == "open"]
    hours = {_key(r): s.estimate(r).hours for s, c in open_claims for r in c.runs}
    able = [(s, c) for s, c in open_claims if all(hours[_key(r)] is not None for r in c.runs)]
    known = {k: h for k, h in hours.items() if h is not None}
    chosen, exact = _solve([{_key(r) for r in c.runs} for _, c in able], known, budget)
    claims = [able[i][1] for i in chosen]
    runs = list({_key(r): r for c in claims for r in c.runs}.values())
    have = {_key(r) for r in runs}
    names = {c.name for c in claims}

    def cost(claim: ClaimNeeds, without: set[tuple[str, str]]) -> float | None:
        parts = [hours[_key(r)] for r in claim.runs if _key(r) not in without]
        return None if any(p is None for p in parts) else sum(p for p in parts if p is not None)

    left = [LeftOut(c, cost(c, set()), cost(c, have)) for _, c in open_claims if c.name not in names]
    left.sort(key=lambda x: (x.further is None, x.further or 0.0))
    by_suite = {s.found.loaded.suite.id: s for s in needs}
    spent, low, high, _ = total(by_suite[r.suite].estimate(r) for r in runs)
    return Picked(budget, claims, runs, spent, low, high, left, exact)


def _key(run: RunSpec) -> tuple[str, str]:
    return run.suite, run.cell


def _solve(
    wanted: Sequence[set[tuple[str, str]]], hours: Mapping[tuple[str, str], float], budget: float
) -> tuple[list[int], bool]:
    """Indices of the claims to settle, and whether that is the best choice.

    Runs that the same claims need are one variable. Claims count first, hours break ties.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import lil_array

    if not wanted:
        return [], True
    groups: dict[frozenset[int], float] = {}
    users: dict[tuple[str, str], list[int]] = {}
    for i, keys in enumerate(wanted):
        for key in keys:
            users.setdefault(key, []).append(i)
    for key, who in users.items():
        groups[frozenset(who)] = groups.get(frozenset(who), 0.0) + hours[key]
    m, costs = len(wanted), np.array(list(groups.values()))
    needed = [(i, g) for g, who in enumerate(groups) for i in who]
    matrix = lil_array((len(needed) + 1, m + len(costs)))
    for row, (i, g) in enumerate(needed):  # a claim is settled only with all of its groups
        matrix[row, i], matrix[row, m + g] = 1.0, -1.0
    matrix[len(needed), m:] = costs
    limits = np.array([0.0] * len(needed) + [budget])
    objective = np.concatenate([-np.ones(m), 0.5 * costs / max(costs.sum(), 1e-12)])
    found = milp(
        objective,
        constraints=LinearConstraint(matrix.tocsr(), -np.inf, limits),
        integrality=np.concatenate([np.ones(m), np.zeros(len(costs))]),
        bounds=Bounds(0, 1),
        options={"time_limit": SOLVER_SECONDS, "mip_rel_gap": 0.0},
    )
    if found.x is None:
        return [], False
    return [i for i in range(m) if found.x[i] > 0.5], bool(found.status == 0)
