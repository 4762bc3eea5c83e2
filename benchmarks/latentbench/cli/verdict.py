"""`latentbench verdict`"""

from __future__ import annotations

from typing import Any

import click

from latentbench.cli.options import examples, format_option, print_json, tier_option


@click.command(
    epilog=examples(
        "verdict iwae",
        "verdict --format json",
        "verdict iwae --noise --tier cpu --method vae-k1-1l",
    ),
)
@click.argument("suites", nargs=-1)
@tier_option("cpu or paper; by default the most faithful tier that has records.")
@format_option("table", "json")
@click.option("--noise", is_flag=True, help="Split the spread over seeds by axis instead; this runs a crossed design.")
@click.option("--method", "methods", multiple=True, help="With --noise: only these methods; name or pattern.")
@click.option("--dataset", "datasets", multiple=True, help="With --noise: only these datasets; name or pattern.")
@click.option("--levels", type=click.IntRange(2, 20), default=3, show_default=True, help="With --noise: of each axis.")
@click.option("--jobs", type=click.IntRange(1, 256), help="With --noise: trainings side by side.")
def command(suites: tuple[str, ...], tier: Any, form: str, noise: bool, **design: Any) -> None:
    """Each claim with its verdict: reproduced, consistent, better, not-reproduced, insufficient or not-run.

    Sanity checks, which are no reproduction, stand apart: they hold or fail. A claim is `not-tested` where its gate is
    shut (its methods are not trained enough to have an opinion), and `impossible` where it rests on a number that
    cannot be, such as a likelihood beyond a known optimum.

    A value is judged at tier paper only, by an equivalence test; orders, trends and bounds by one-sided tests. All are
    Holm-corrected over the suite's claims. `insufficient` names the number of seeds that would settle it. Where seeds
    are added by `run --until-settled`, the tests are sequential: they allow for having looked before.

    With --noise: each level of initialisation meets each level of data order, each such training is evaluated with
    several evaluation seeds, and the spread of every metric is split among them. 9 trainings a method by default; their
    records lie under results/noise and count for nothing else.
    """
    if noise:
        from latentbench.cli.noise import show_noise

        show_noise(suites, tier or "cpu", form, **design)
        return
    from latentbench.cli.gathering import gathered
    from latentbench.cli.render import print_impossible, print_verdicts, summary
    from latentbench.core.errors import UserError
    from latentbench.results.verdicts import verdicts

    if tier == "smoke":
        raise UserError("a smoke run counts for no verdict", where="--tier", fix="use cpu or paper")
    shown = gathered(suites, tier)
    found = [verdicts(g) for g in shown]
    if form == "json":
        print_json([v.as_dict() for part in found for v in part])
        return
    for g, part in zip(shown, found, strict=True):
        print_verdicts(part)
        print_impossible(g)
    if len(found) > 1:
        click.echo(f"all suites: {summary([v for part in found for v in part])}")
