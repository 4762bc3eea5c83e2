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
    "holds": "green",
    "fails": "bold red",
    "impossible": "bold red",
    "not-tested": "yellow",
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
        troubled = any(r.failed or r.outcomes or r.missing or r.stale or r.impossible or r.outliers for r in table)
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
        said = [f"{n} {word}" for word, n in counts.items() if n]
        said = ["impossible", *said] if row.impossible else said
        cells.append(printable("; ".join([*said, *filter(None, [row.outcomes, row.outliers])])))
    return cells


def remarks(gathered: Gathered) -> None:
    """What a reader of the numbers must know: deviations, stale, outdated and unreadable records."""
    suite, collected = gathered.loaded.suite, gathered.collected
    print_impossible(gathered)
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


def print_impossible(gathered: Gathered) -> None:
    """A line for each number that cannot be."""
    for (method, dataset, metric), fault in gathered.impossible.items():
        note(f"impossible: {metric} of {method} on {dataset} counts for nothing: {fault}")


def print_verdicts(found: Sequence[ClaimVerdict]) -> None:
    """Each claim with its verdict and one sentence, sanity checks apart, and how many there are of each."""
    if not found:
        return
    first = found[0]
    about = f"{first.suite}, version {first.version}, tier {first.tier}"
    sequential = ", sequential" if first.sequential else ""
    of_what = "verdicts on an analogue of the paper" if first.analogue else "verdicts"
    tables = (
        (f"{of_what}: {about} (Holm-corrected, alpha 0.05{sequential})", [v for v in found if not v.sanity]),
        (f"sanity checks, which are no reproduction: {about} (alpha 0.05{sequential})", [v for v in found if v.sanity]),
    )
    for title, group in tables:
        if group:
            print_table(title, ["verdict", "kind", "claim", "what the seeds say"], [_claim(v) for v in group])
    out().print(Text(summary(found), style="dim"))


def _claim(v: ClaimVerdict) -> list[Any]:
    kind = f"{v.kind}, {v.pool} over {len(v.cells)}" if v.cells else v.kind
    lines = [v.text + (f" [{v.where}]" if v.where else "")]
    for cell in v.cells:
        mark = {True: "as claimed", False: "not as claimed", None: "no result"}[cell.as_claimed]
        lines.append(f"  {cell.label}: {mark}: {cell.text}")
    return [Text(v.verdict, style=STYLES.get(v.verdict, "")), kind, v.claim, printable("\n".join(lines))]


def summary(found: Sequence[ClaimVerdict]) -> str:
    """Verdicts by word, e.g. ``claims: 2 reproduced, 1 insufficient; sanity checks: 4 holds``."""
    from latentbench.results.verdicts import counts

    names = {"claims": "claims", "analogue": "claims on an analogue", "sanity": "sanity checks"}
    by_name = counts(found)
    parts = [
        f"{said}: " + ", ".join(f"{n} {word}" for word, n in sorted(by_name[name].items()))
        for name, said in names.items()
        if by_name[name]
    ]
    return "; ".join(parts) or "no claim is judged at this tier"


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
        notes = [(r, word, said) for r in table for word, said in (("impossible", r.impossible), ("seeds", r.outliers))]
        told = [f"- {escape.markdown(r.label)}, {word}: {escape.markdown(said)}" for r, word, said in notes if said]
        lines += [*told, ""] if told else []
    return "\n".join(lines)
