"""Suites with what they need and what it costs, for `latentbench plan` and `latentbench run --budget`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from latentbench.core.console import display, note
from latentbench.core.interrupts import check
from latentbench.results.budget import SuiteNeeds, suite_needs
from latentbench.results.costs import Known, from_pilot, unknown
from latentbench.spec.claims import Tier
from latentbench.spec.loading import LoadedSuite


def estimated(
    loaded: Sequence[tuple[LoadedSuite, Tier]],
    results: Path,
    device: Literal["cpu", "cuda"],
    *,
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
    measure: bool = False,
    threads: int = 1,
    declaring: bool = False,
    cap: int | None = None,
    quiet: bool = False,
) -> list[SuiteNeeds]:
    """The needs of each suite, with every cell's cost from records; where those say nothing and `measure` is set, from
    a pilot on this machine. For `declaring` and `cap` see `suite_needs`.

    Raises:
        UserError: a suite has no such tier, or a filter matches nothing.
        KeyboardInterrupt: the process was asked to stop.
    """
    found = []
    for one, tier in loaded:
        needs = suite_needs(one, tier, results, methods, datasets, declaring=declaring, cap=cap)
        known = Known.of(one.suite.id, results, needs.found.collected)
        needs.estimates = {pair: known.estimate(run, device) for pair, run in needs.all_runs.items()}
        found.append(needs)
    if measure:
        _measure(found, device, threads, quiet=quiet)
    return found


def _measure(needs: Sequence[SuiteNeeds], device: Literal["cpu", "cuda"], threads: int, *, quiet: bool) -> None:
    """Fill in by pilots what no record tells."""
    from latentbench.running.pilot import measure

    wanted = [(each, pair) for each in needs for pair, e in each.estimates.items() if e.seconds is None]
    if wanted and not quiet:
        note(f"timing {len(wanted)} methods of which no record tells the cost, some seconds each")
    with display(quiet=quiet) as screen:
        bar = screen.bar("pilots", len(wanted))
        for done, (each, pair) in enumerate(wanted):
            check()
            run = each.all_runs[pair]
            name = f"{run.suite} {run.method} {run.dataset}"
            bar.update(done, text=name)
            try:
                pilot = measure(run, device, threads)
            except KeyboardInterrupt:
                raise
            except Exception as e:  # whatever model, data or metrics say: the plan goes on without this number
                check()
                why = " ".join((str(e) or type(e).__name__).split())[:120]
                each.estimates[pair] = unknown(f"the pilot failed: {why}")
            else:
                each.estimates[pair] = from_pilot(run, pilot, threads if device == "cpu" else 1)
        bar.update(len(wanted), text="")
