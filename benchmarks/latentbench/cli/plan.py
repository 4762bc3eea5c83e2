"""`latentbench plan`"""

from __future__ import annotations

from typing import Any, Literal

import click

from latentbench.cli.options import examples, format_option, parse_hours, print_json, tier_option


@click.command(
    epilog=examples(
        "plan iwae --tier paper",
        "plan iwae real-nvp --tier paper --device cuda --format json",
        "plan iwae --tier paper --measure",
        "plan iwae beta-tcvae --tier cpu --budget 8h",
    ),
)
@click.argument("suites", nargs=-1, required=True)
@tier_option("smoke, cpu or paper. Default: the tier that `run` would take.")
@click.option("--method", "methods", multiple=True, help="Only these methods; a name or pattern, repeatable.")
@click.option("--dataset", "datasets", multiple=True, help="Only these datasets; a name or pattern, repeatable.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--measure", is_flag=True, help="Time here what no record tells: a few steps of each method, seconds each."
)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="With --measure: of a run.")
@click.option(
    "--budget", metavar="TIME", help="Pick the runs that settle most claims in 8h, 30m or 2d of one core or GPU."
)
@click.option("--cap", type=click.IntRange(2, 10_000), help="With --budget: seeds of a method. Default: 12.")
@format_option("table", "json")
def command(
    suites: tuple[str, ...],
    tier: Any,
    methods: tuple[str, ...],
    datasets: tuple[str, ...],
    device: Literal["auto", "cpu", "cuda"],
    measure: bool,
    threads: int,
    budget: str | None,
    cap: int | None,
    form: str,
) -> None:
    """What suites will cost, before anything is spent: runs, hours, disk, and the price of each verdict.

    A run's cost comes from records of the same method and dataset on the same kind of device, of this tier (measured)
    or of another one, by the length of its training and the work of its evaluation (scaled); from a pilot, with
    --measure; or it is unknown. Hours are core-hours on a CPU (runs side by side divide them) and GPU hours on a GPU.

    Under `seeds`: those that a claim has, of those that would settle it as its seeds look now; `pilot` where there are
    fewer than three, which tell nothing.

    With --budget, a claim that needs more seeds than the tier has is planned and judged by the sequential test, whose
    analyses `run --budget` declares before it adds any.
    """
    from latentbench.cli.devices import device_for
    from latentbench.cli.estimating import estimated
    from latentbench.cli.planned import print_needs, print_picked, print_totals
    from latentbench.cli.planned_json import as_json
    from latentbench.core.errors import UserError
    from latentbench.core.garbage import no_collection
    from latentbench.core.paths import results_dir
    from latentbench.results.budget import pick
    from latentbench.scheduling.local import cores
    from latentbench.spec.loading import load_suite

    limit = parse_hours(budget)
    if cap is not None and limit is None:
        raise UserError("it goes with --budget", where="--cap", fix="give both, or neither")
    loaded = [load_suite(name) for name in suites]
    at: Literal["cpu", "cuda"] = device_for(device) if device == "auto" or measure else device
    with no_collection():
        needs = estimated(
            [(one, tier or one.suite.default_tier) for one in loaded],
            results_dir(),
            at,
            methods=methods,
            datasets=datasets,
            measure=measure,
            threads=threads,
            declaring=limit is not None,
            cap=cap,
            quiet=False,
        )
    choice = None if limit is None else pick(needs, limit)
    if form == "json":
        print_json(as_json(needs, at, choice))
        return
    for each in needs:
        print_needs(each, at)
    print_totals(needs, at, cores())
    if choice is not None:
        print_picked(choice)
