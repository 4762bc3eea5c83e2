"""`latentbench scoreboard`"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentbench.cli.export import export, export_options
from latentbench.cli.options import examples, judged_tier_option, print_table
from latentbench.cli.render import said

if TYPE_CHECKING:
    from latentbench.results.gather import Gathered
    from latentbench.results.verdicts import ClaimVerdict


@click.command(epilog=examples("scoreboard", "scoreboard --tier paper", "scoreboard --format md"))
@judged_tier_option("cpu or paper; by default the most faithful tier that each suite has records of.")
@export_options
def command(tier: Any, form: str, output: Path | None) -> None:
    """How many claims of each paper, and of all, are reproduced, open, not reproduced, or not run."""
    from latentbench.cli.gathering import gathered
    from latentbench.results.scoreboard import counts_by_suite
    from latentbench.results.verdicts import verdicts

    found = [(g, verdicts(g)) for g in gathered((), tier)]
    export(
        form,
        output,
        rows=lambda: counts_by_suite(found),
        columns=None,
        sheets=lambda: _sheets(found),
        table=lambda: print_scoreboard(found),
    )


def _sheets(found: Sequence[tuple[Gathered, Sequence[ClaimVerdict]]]) -> list[Any]:
    from latentbench.results.exporting import Sheet

    columns, rows, total = _counts(found)
    note = "open: the seeds cannot settle it; Holm-corrected over the claims of each suite, alpha 0.05"
    return [Sheet(total, columns, [[str(c) for c in row] for row in rows], right=columns[2:], notes=[note])]


def _counts(
    found: Sequence[tuple[Gathered, Sequence[ClaimVerdict]]],
) -> tuple[list[str], list[list[Any]], str]:
    """Columns, rows, and all of it in a sentence."""
    from latentbench.results.answered import WORDS, tallied

    each = [(g, *tallied(verdicts)) for g, verdicts in found]
    total = sum((Counter(counts) for _, counts, _ in each), Counter[str]())
    checks = sum((Counter(checks) for _, _, checks in each), Counter[str]())
    words = [w for w in WORDS if total[w]]
    rows = [[_name(g), g.tier, *(c.get(w) or "" for w in words)] for g, c, _ in each]
    claims = sum(total.values())
    parts = ", ".join(f"{total[w]} {WORDS[w]}" for w in words)
    papers = f"{len(each)} suite{'s' if len(each) != 1 else ''}"
    ran = sum(checks.values()) - checks["not-run"]
    held = f". Sanity checks, which are no reproduction: {checks['holds']} of {ran} hold" if ran else ""
    said = f"{claims} claims of {papers}: {parts or 'none'}{held}"
    return ["suite", "tier", *(WORDS[w] for w in words)], rows, said


def _name(g: Gathered) -> str:
    name = f"{g.loaded.suite.id}{' (analogue)' if g.loaded.suite.analogue else ''}"
    return f"{name}, {g.environment}" if g.environment else name


def print_scoreboard(found: Sequence[tuple[Gathered, Sequence[ClaimVerdict]]]) -> None:
    """The counts in a sentence, then by suite."""
    if not found:
        click.echo("no records yet; `latentbench run quickstart` makes some")
        return
    columns, rows, total = _counts(found)
    said(total, style="bold")
    print_table("", columns, rows, right=columns[2:])
    said("`latentbench verdict SUITE` answers a paper's questions", style="dim")
