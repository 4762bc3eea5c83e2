"""`latentbench compare`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentbench.cli.export import export, export_options
from latentbench.cli.options import examples, print_table, tier_option

if TYPE_CHECKING:
    from latentbench.results.compare import Comparison

#: Rows that are told in a sentence each.
FEW = 12


@click.command(
    epilog=examples(
        "compare iwae/vae-k50-1l iwae/iwae-k50-1l",
        "compare vae-k1-1l--mnist--cpu--s0 vae-k1-1l--mnist--cpu--s1",
        "compare main HEAD --fail-on regression",
        "compare results results-of-a-colleague --metric nll_iw --format md",
    )
)
@click.argument("a")
@click.argument("b")
@tier_option("cpu or paper; by default a method's most faithful tier with records, and all but smoke of other sides.")
@click.option("--dataset", help="Only this dataset: its name in a suite or in the registry, or a pattern.")
@click.option("--metric", help="Only this metric: its key in a suite, its registered name, or a pattern.")
@click.option("--fail-on", type=click.Choice(["regression"]), help="Exit with 1 if B is worse than A in anything.")
@click.option("--all", "everything", is_flag=True, help="Every row, also where nothing differs.")
@export_options
@click.pass_context
def command(
    ctx: click.Context,
    a: str,
    b: str,
    tier: Any,
    dataset: str | None,
    metric: str | None,
    fail_on: str | None,
    everything: bool,
    form: str,
    output: Path | None,
) -> None:
    """How far B is from A: the difference with its interval and size, and the seeds that would settle it.

    A and B are methods (suite/method), runs, git revisions, or folders of results. Seeds are paired where both sides
    have them; the two-sided tests are corrected over all that is compared (Holm). Numbers are compared only where they
    are of the same quantity. A regression: B is worse than A by more than chance, or fails where A finished.
    """
    from latentbench.results.compare import compare_sides
    from latentbench.results.sheets import comparison_sheet
    from latentbench.results.sides import side

    found = compare_sides(side(a, tier), side(b, tier), dataset=dataset, metric=metric)
    export(
        form,
        output,
        rows=lambda: [r.as_dict() for r in found.rows],
        columns=None,
        sheets=lambda: [comparison_sheet(found)],
        table=lambda: _show(found, everything=everything),
    )
    ctx.exit(1 if fail_on and found.regressions else 0)


def _environments(row: Any) -> str:
    return f" Several environments: {row.mixed}." if row.mixed else ""


def _show(found: Comparison, *, everything: bool) -> None:
    from latentbench.cli.render import said

    said(f"A: {found.a.name}, {found.a.what}")
    said(f"B: {found.b.name}, {found.b.what}")
    said(found.summary(), style="bold")
    told = [r for r in found.rows if everything or r.word != "same"]
    if len(told) <= FEW:
        for r in told:
            place = f"{r.metric} on {r.dataset}"
            place += "" if found.a.single and found.b.single else f", {r.method} of {r.suite}, tier {r.tier}"
            size = "" if r.effect_size is None else f" Effect size {r.effect_size:+.2f} (Hedges' g)."
            said(f"{place}: {_VERDICTS[r.word]}. {r.text}.{size}{_environments(r)}")
    else:
        columns = ["suite", "method", "metric", "A", "B", "B - A", "95% CI", "B is"]
        print_table(
            "",
            columns,
            [
                [
                    f"{r.suite} ({r.tier})",
                    r.method,
                    f"{r.metric} on {r.dataset}",
                    _number(r.mean_a),
                    _number(r.mean_b),
                    "" if r.difference is None else f"{r.difference:+.3g}",
                    "" if r.ci_low is None else f"{r.ci_low:.3g} to {r.ci_high:.3g}",
                    r.word,
                ]
                for r in sorted(told, key=lambda r: not r.regression)
            ],
            right=("A", "B", "B - A"),
        )
        for mixed in dict.fromkeys(r.mixed for r in told if r.mixed):
            said(f"several environments: {mixed}", style="dim")
    left = [
        f"{n} {where}"
        for n, where in (
            (found.only_a, "in A alone"),
            (found.only_b, "in B alone"),
            (found.other_identity, "of another quantity (data, settings or version) on each side"),
        )
        if n
    ]
    if left:
        said(f"not compared: {', '.join(left)}", style="dim")


_VERDICTS = {
    "better": "B is better",
    "worse": "B is worse",
    "failed": "B fails",
    "open": "not settled",
    "same": "the same",
    "spread unknown": "not to be told from a seed each",
}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
