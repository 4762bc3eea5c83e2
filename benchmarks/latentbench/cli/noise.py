"""What `latentbench verdict --noise` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import count

from latentbench.cli.options import print_json, print_table
from latentbench.cli.runbars import RunBars
from latentbench.core.console import display, note
from latentbench.core.errors import UserError
from latentbench.spec.claims import Tier


def show_noise(
    suites: Sequence[str],
    tier: Tier,
    form: str,
    *,
    methods: Sequence[str],
    datasets: Sequence[str],
    levels: int,
    jobs: int | None,
) -> None:
    """Run the design and print standard deviations by axis.

    Raises:
        UserError: no suite is named, or nothing in it draws random numbers.
    """
    from latentbench.audit.noise import EVALUATIONS, measure_noise
    from latentbench.core.paths import results_dir
    from latentbench.planning.plan import plan
    from latentbench.running.settings import Settings
    from latentbench.scheduling.local import default_jobs
    from latentbench.spec.loading import load_suite

    if not suites:
        raise UserError("--noise needs a suite", where="verdict", fix="name one, and a --method to keep it short")
    specs = [
        run
        for name in suites
        for run in plan(load_suite(name), tier, seeds=[0], methods=methods, datasets=datasets)
        if not run.exact
    ]
    if not specs:
        raise UserError("no method here draws random numbers", where="--noise", fix="choose others")
    note(f"{len(specs) * levels**2} trainings: {levels} initialisations x {levels} data orders, for {len(specs)} cells")
    settings = Settings(results_dir() / "noise")
    with display(quiet=False) as screen:
        jobs = jobs or default_jobs("cpu", len(specs) * levels**2)
        runs = screen.bar("runs", len(specs) * levels**2 * EVALUATIONS)
        bars = RunBars(screen)
        done = count(1)

        def finished(cell: str) -> None:
            bars.close(cell)
            runs.update(next(done), text=cell)

        found = measure_noise(specs, settings, jobs, levels=levels, report=bars.show, finished=finished)
    if form == "json":
        print_json([asdict(n) for n in found])
        return
    columns = ["method", "dataset", "metric", "unit", "mean", "init", "order", "init x order", "evaluation", "all"]
    rows = []
    for n in found:
        c = n.components
        spreads = [f"{v:.3g}" for v in (c.init, c.order, c.interaction, c.evaluation, c.total)]
        rows.append([n.method, n.dataset, n.metric, n.unit, f"{n.mean:.5g}", *spreads])
    print_table("Standard deviation that each axis of the seed makes", columns, rows, right=columns[4:])
