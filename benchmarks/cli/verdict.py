"""`latentbench verdict`"""

from __future__ import annotations

from typing import Any

import click

from benchmarks.cli.options import examples, format_option, print_json, tier_option


@click.command(
    epilog=examples(
        "verdict iwae",
        "verdict --format json",
    ),
)
@click.argument("suites", nargs=-1)
@tier_option("cpu or paper; by default the most faithful tier that has records.")
@format_option("table", "json")
def command(suites: tuple[str, ...], tier: Any, form: str) -> None:
    """Each claim with its verdict: reproduced, consistent, better, not-reproduced, insufficient or not-run.

    A value is judged at tier paper only, by an equivalence test; orders, trends and bounds by one-sided tests. All are
    Holm-corrected over the suite's claims. `insufficient` names the number of seeds that would settle it.
    """
    from benchmarks.cli.gathering import gathered
    from benchmarks.cli.render import print_verdicts
    from benchmarks.core.errors import UserError
    from benchmarks.results.verdicts import verdicts

    if tier == "smoke":
        raise UserError("a smoke run counts for no verdict", where="--tier", fix="use cpu or paper")
    found = [verdicts(g) for g in gathered(suites, tier)]
    if form == "json":
        print_json([v.as_dict() for part in found for v in part])
        return
    for part in found:
        print_verdicts(part)
