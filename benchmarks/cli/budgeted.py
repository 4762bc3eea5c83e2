"""`latentbench run --budget`: the runs that `latentbench plan --budget` picks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from benchmarks.cli.estimating import estimated
from benchmarks.cli.planned import hours, spread
from benchmarks.core.console import note
from benchmarks.core.errors import UserError
from benchmarks.core.paths import results_dir
from benchmarks.planning.plan import RunSpec
from benchmarks.results.budget import pick
from benchmarks.spec.loading import LoadedSuite
from benchmarks.spec.suite import Tier


def picked(
    loaded: Sequence[LoadedSuite],
    tier_of: Callable[[LoadedSuite], Tier],
    budget: float,
    device: Literal["cpu", "cuda"],
    methods: Sequence[str],
    datasets: Sequence[str],
    *,
    threads: int,
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
