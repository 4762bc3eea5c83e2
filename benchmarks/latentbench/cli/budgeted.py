"""`latentbench run --budget`: the runs that `latentbench plan --budget` picks, and the analyses that they ask for.

A plan that goes by seeds which are judged again is a second analysis of them. So before a seed beyond the first
analysis is run, the suite's interim analyses are declared, as `--until-settled` declares them: neither their seeds nor
their shares of alpha depend on what was measured, and so the sequential test keeps its level however the plan chooses
among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from latentbench.cli.estimating import estimated
from latentbench.cli.planned import hours, spread
from latentbench.cli.settling import declare_analyses
from latentbench.core.console import note
from latentbench.core.errors import UserError
from latentbench.core.paths import results_dir
from latentbench.planning.plan import RunSpec
from latentbench.records.declared import read_declared
from latentbench.results.budget import pick
from latentbench.results.settling import drafted
from latentbench.spec.claims import Tier
from latentbench.spec.loading import LoadedSuite


def picked(
    loaded: Sequence[LoadedSuite],
    tier_of: Callable[[LoadedSuite], Tier],
    budget: float,
    device: Literal["cpu", "cuda"],
    methods: Sequence[str],
    datasets: Sequence[str],
    *,
    threads: int,
    cap: int | None,
    quiet: bool,
) -> list[list[RunSpec]]:
    """The runs of each suite that settle most claims within `budget` hours; what no record tells is measured first.

    Raises:
        UserError: the budget settles no claim.
    """
    needs = estimated(
        [(one, tier_of(one)) for one in loaded],
        results_dir(),
        device,
        methods=methods,
        datasets=datasets,
        measure=True,
        threads=threads,
        declaring=True,
        cap=cap,
        quiet=quiet,
    )
    choice = pick(needs, budget)
    if not choice.runs:
        cheapest = next((left for left in choice.left_out if left.alone is not None), None)
        if cheapest is None:
            raise UserError("no claim is open that more runs could settle", where="--budget", fix="run without it")
        raise UserError(
            f"{hours(budget)} settle no claim",
            where="--budget",
            fix=f"give {hours(cheapest.alone)} or more, which {cheapest.claim.verdict.claim} takes",
        )
    note(
        f"{len(choice.runs)} runs picked, about {hours(choice.hours)} ({spread(choice.low, choice.high)}), "
        f"for {len(choice.claims)} claims; {len(choice.left_out)} left out: `latentbench plan --budget` names them"
    )
    return [[r for r in choice.runs if r.suite == one.suite.id] for one in loaded]


def declare_first(
    loaded: Sequence[LoadedSuite],
    plans: Sequence[Sequence[RunSpec]],
    tier_of: Callable[[LoadedSuite], Tier],
    cap: int | None,
    results: Path,
) -> None:
    """Declare the analyses of each suite whose picked runs go beyond its first one, or say which it has declared.

    Raises:
        UserError: a declaration is damaged or cannot be written.
    """
    for one, runs in zip(loaded, plans, strict=True):
        if not runs:
            continue
        tier = tier_of(one)
        declared = read_declared(one.suite.id, tier, results) or drafted(one, tier, cap)
        first = declared.order(declared.first)
        if declared.seal or any(r.seed not in first and not r.exact for r in runs):
            declare_analyses([one], tier_of, cap, results)
