"""Leaderboards and verdicts as a terminal shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.text import Text

from latentbench.cli.options import print_table
from latentbench.core import escape
from latentbench.core.console import note, out, printable

if TYPE_CHECKING:
    from latentbench.results.gather import Gathered
    from latentbench.results.leaderboard import Row
    from latentbench.results.verdicts import ClaimVerdict

MARKS = {"best": "★", "tied": "≈", "": ""}
STYLES = {
    "reproduced": "bold green",
    "consistent": "green",
    "better": "bold cyan",
    "not-reproduced": "bold red",
    "insufficient": "yellow",
    "not-run": "dim",
}


def number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def digits_for(rows: Iterable[Row]) -> int:
    """Decimals that show the intervals: two significant digits of the narrowest half-width, 2 to 4."""
    widths = [(r.ci_high - r.ci_low) / 2 for r in rows if r.ci_low is not None and r.ci_high is not None]
    values = [abs(r.mean) for r in rows if r.mean is not None]
    small = bool(values) and max(values) < 10
    if any(0 < w < 0.05 for w in widths):
        return 3 if not small else 4
    return 3 if small else 2


def heading(row: Row, text: Callable[[str], str] = str) -> str:
    """What a table shows; `text` escapes each part for where it goes."""
    kind = f" [{text(row.likelihood)}]" if row.likelihood else ""
    return f"{text(row.metric)} on {text(row.dataset)}{kind}, {text(row.unit)}, {text(row.better)} is better"


def print_leaderboard(gathered: Gathered, rows: Sequence[Row]) -> None:
    """One table for each dataset, metric and identity, best first."""
    suite = gathered.loaded.suite
    out().print(
        Text(
            printable(f"\n{suite.paper.title}: suite {suite.id}, version {suite.version}, tier {gathered.tier}"),
            style="bold",
        )
    )
    if not rows:
        out().print(
            Text(f"no records yet; `latentbench run {suite.id} --tier {gathered.tier}` makes them", style="dim")
        )
    for _, group in groupby(rows, key=lambda r: (r.dataset, r.metric, r.identity)):
        table = list(group)
        reported = any(r.reported is not None for r in table)
        troubled = any(r.failed or r.outcomes or r.missing or r.stale for r in table)
        digits = digits_for(table)
        columns = ["", "method", table[0].metric, "95% CI", "n"]
        columns += ["paper", "ours - paper"] if reported else []
        columns += ["mind"] if troubled else []
        print_table(
            heading(table[0]) + f"  ({table[0].identity})",
            columns,
            [_cells(r, digits, reported, troubled) for r in table],
            right=(table[0].metric, "n", "paper", "ours - paper"),
        )
    remarks(gathered)


def _cells(row: Row, digits: int, reported: bool, troubled: bool) -> list[Any]:
    name = Text(printable(row.label), style="italic" if row.baseline else "")
    name.append(" (baseline)" if row.baseline else "", style="dim")
    interval = "" if row.ci_low is None else f"{number(row.ci_low, digits)} to {number(row.ci_high, digits)}"
    cells: list[Any] = [MARKS[row.mark], name, number(row.mean, digits), interval, row.n]
    if reported:
        sign = "" if row.difference is None else f"{row.difference:+.{digits}f}"
        cells += [number(row.reported, digits), sign]
    if troubled:
        counts = {"failed": row.failed, "missing": row.missing, "stale": row.stale}
        cells.append("; ".join([*(f"{n} {word}" for word, n in counts.items() if n), *filter(None, [row.outcomes])]))
    return cells


def remarks(gathered: Gathered) -> None:
    """What a reader of the numbers must know: deviations, stale, outdated and unreadable records."""
    suite, collected = gathered.loaded.suite, gathered.collected
    for text in suite.tiers[gathered.tier].deviations:
        note(f"{suite.id} at {gathered.tier} departs from the paper: {text}")
    if collected.vouched:
        note(
            f"{len(collected.vouched)} records of {suite.id} were made by earlier code, for which another seed that "
            "today's code ran again to the same bits vouches"
        )
    if collected.stale_code:
        note(
            f"{len(collected.stale_code)} records of {suite.id} were made by other code than today's; "
            f"`latentbench status {suite.id}` names them"
        )
    if collected.outdated:
        note(f"{len(collected.outdated)} records answer an earlier specification of {suite.id} and are left out")
    for text in collected.unreadable:
        note(f"left out: {text}")


def print_verdicts(found: Sequence[ClaimVerdict]) -> None:
    """Each claim with its verdict and one sentence."""
    if not found:
        return
    first = found[0]
    rows = []
    for v in found:
        word = Text(v.verdict, style=STYLES.get(v.verdict, ""))
        text = v.text + (f" [{v.where}]" if v.where else "")
        rows.append([word, v.kind, v.claim, text])
    print_table(
        f"verdicts: {first.suite}, version {first.version}, tier {first.tier} (Holm-corrected, alpha 0.05"
        f"{', sequential' if first.sequential else ''})",
        ["verdict", "kind", "claim", "what the seeds say"],
        rows,
    )


def markdown(rows: Sequence[Row]) -> str:
    """The same tables in Markdown."""
    lines: list[str] = []
    for _, group in groupby(rows, key=lambda r: (r.suite, r.tier, r.dataset, r.metric, r.identity)):
        table = list(group)
        first, digits = table[0], digits_for(table)
        lines += [f"### {first.suite} v{first.version} ({first.tier}): {heading(first, escape.markdown)}", ""]
        lines += [
            "| | method | mean | 95% CI | n | paper | ours - paper | failed |",
            "| --- | --- | --: | --- | --: | --: | --: | --: |",
        ]
        for r in table:
            interval = "" if r.ci_low is None else f"{number(r.ci_low, digits)} to {number(r.ci_high, digits)}"
            sign = "" if r.difference is None else f"{r.difference:+.{digits}f}"
            cells = [
                MARKS[r.mark],
                escape.markdown(r.label),
                number(r.mean, digits),
                interval,
                r.n,
                number(r.reported, digits),
                sign,
                r.failed or "",
            ]
            lines.append("| " + " | ".join(str(c) for c in cells) + " |")
        lines.append("")
    return "\n".join(lines)
