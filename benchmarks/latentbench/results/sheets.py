"""Leaderboards, verdicts, single values and comparisons as sheets for readers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from latentbench.results.by_seed import SeedRow
from latentbench.results.compare import Comparison
from latentbench.results.exporting import LEGEND, Sheet
from latentbench.results.gather import Gathered
from latentbench.results.leaderboard import Row, revisions
from latentbench.results.verdicts import ClaimVerdict
from latentbench.spec.suite import Suite

MARKS = {"best": "★", "tied": "≈", "": ""}


def digits_for(rows: Iterable[Row]) -> int:
    """Decimals that show the intervals: two significant digits of the narrowest half-width, 2 to 4."""
    rows = list(rows)
    widths = [(r.ci_high - r.ci_low) / 2 for r in rows if r.ci_low is not None and r.ci_high is not None]
    values = [abs(r.mean) for r in rows if r.mean is not None]
    small = bool(values) and max(values) < 10
    if any(0 < w < 0.05 for w in widths):
        return 3 if not small else 4
    return 3 if small else 2


def number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:+.{digits}f}"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    return "" if low is None or high is None else f"{number(low, digits)} to {number(high, digits)}"


def heading(row: Row) -> str:
    """What a table shows."""
    kind = f" [{row.likelihood}]" if row.likelihood else ""
    unit = "" if row.unit == "1" else f", {row.unit}"
    return f"{row.metric} on {row.dataset}{kind}{unit}, {row.better} is better"


def leaderboard_sheets(found: Sequence[tuple[Gathered, Sequence[Row]]]) -> list[Sheet]:
    """A sheet for each dataset, metric and identity of each suite."""
    sheets = []
    for gathered, rows in found:
        notes = deviations(gathered)
        for _, group in groupby(rows, key=lambda r: (r.dataset, r.metric, r.identity)):
            sheets.append(_leaderboard(list(group), notes))
    return sheets


def deviations(gathered: Gathered) -> list[str]:
    """How the tier departs from the paper."""
    texts = gathered.loaded.suite.tiers[gathered.tier].deviations
    return [f"tier {gathered.tier} departs from the paper: {text}" for text in texts]


def _leaderboard(rows: Sequence[Row], notes: Sequence[str]) -> Sheet:
    first, digits = rows[0], digits_for(rows)
    columns = ["", "method", "mean", "95% CI", "n", "paper", "ours - paper", "failed"]
    cells = [
        [
            MARKS[r.mark],
            r.label,
            number(r.mean, digits),
            interval(r.ci_low, r.ci_high, digits),
            str(r.n),
            number(r.reported, digits),
            signed(r.difference, digits),
            str(r.failed or ""),
        ]
        for r in rows
    ]
    legend = [LEGEND] if any(r.mark for r in rows) else []
    legend += [f"{r.label}, impossible: {r.impossible}" for r in rows if r.impossible]
    legend += [f"{r.label}, seeds: {r.outliers}" for r in rows if r.outliers]
    legend += [f"{r.label}, {'refused, ' if r.refused else ''}several environments: {r.mixed}" for r in rows if r.mixed]
    made = "; ".join(dict.fromkeys(filter(None, (r.revision for r in rows))))
    dates = sorted({r.date for r in rows if r.date})
    identity = f"metric identity {first.identity}; n seeds"
    records = f"records of {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}" if dates else "no records"
    return Sheet(
        title=f"{_named(first.suite, first.version, first.tier, first.environment)}: {heading(first)}",
        columns=columns,
        rows=cells,
        right=("mean", "n", "paper", "ours - paper", "failed"),
        notes=[*legend, identity, *notes, f"{records}, by {f'revision {made}' if made else 'an unknown revision'}"],
        strong=frozenset(i for i, r in enumerate(rows) if r.mark == "best" and r is rows[0]),
    )


def seed_sheets(found: Sequence[tuple[Gathered, Sequence[SeedRow]]]) -> list[Sheet]:
    """Methods by seeds, a sheet for each dataset, metric and identity."""
    sheets = []
    for gathered, rows in found:
        measured = [r for r in rows if r.metric]
        tables: dict[tuple[str, str, str], list[SeedRow]] = {}
        for r in measured:
            tables.setdefault((r.dataset, r.metric or "", r.identity or ""), []).append(r)
        for (dataset, metric, identity), part in tables.items():
            seeds = sorted({r.seed for r in part})
            values = {(r.method, r.seed): "" if r.value is None else f"{r.value:.6g}" for r in part}
            values |= {(r.method, r.seed): r.status for r in part if r.status != "finished"}
            unit = f", {part[0].unit}" if part[0].unit not in (None, "1") else ""
            kind = f" [{part[0].likelihood}]" if part[0].likelihood else ""
            named = _named(part[0].suite, part[0].version, part[0].tier, gathered.environment)
            labels = {r.method: _label(gathered.loaded.suite, r.method) for r in part}
            sheets.append(
                Sheet(
                    title=f"{named}: {metric} on {dataset}{kind}{unit}, by seed",
                    columns=["method", *(f"seed {s}" for s in seeds)],
                    rows=[[label, *(values.get((m, s), "") for s in seeds)] for m, label in labels.items()],
                    right=[f"seed {s}" for s in seeds],
                    notes=[f"metric identity {identity}", *deviations(gathered), _made(gathered)],
                )
            )
    return sheets


def _named(suite: str, version: int, tier: str, environment: str) -> str:
    return f"{suite} v{version} ({tier}{f', {environment}' if environment else ''})"


def _label(suite: Suite, method: str) -> str:
    known = suite.methods.get(method)
    return (known.label if known else None) or method


def verdict_sheets(found: Sequence[tuple[Gathered, Sequence[ClaimVerdict]]]) -> list[Sheet]:
    """A sheet for each suite, a row a claim."""
    return [
        Sheet(
            title=f"{_named(verdicts[0].suite, verdicts[0].version, verdicts[0].tier, gathered.environment)}: verdicts",
            columns=["claim", "where", "verdict", "n", "what the seeds say"],
            rows=[[v.claim, v.where, v.verdict, str(v.n or ""), v.text] for v in verdicts],
            right=("n",),
            notes=["Holm-corrected over the claims that are judged at this tier, alpha 0.05"]
            + (["sequential: the tests allow for the interim analyses"] if verdicts[0].sequential else [])
            + [*deviations(gathered), _made(gathered)],
        )
        for gathered, verdicts in found
        if verdicts
    ]


def _made(gathered: Gathered) -> str:
    records = list(gathered.collected.found.values())
    made, dates = revisions(records), sorted(r.provenance.ended[:10] for r in records)
    if not records:
        return "no records"
    days = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
    return f"records of {days}, by {'revision ' + ', '.join(made) if made else 'an unknown revision'}"


def comparison_sheet(found: Comparison) -> Sheet:
    """A row for each metric that both sides have."""
    return Sheet(
        title=f"{found.b.name} compared with {found.a.name}",
        columns=["suite", "tier", "dataset", "method", "metric", "A", "B", "B - A", "95% CI", "g", "B is"],
        rows=[
            [
                r.suite,
                r.tier,
                r.dataset,
                r.method,
                r.metric,
                _short(r.mean_a),
                _short(r.mean_b),
                "" if r.difference is None else f"{r.difference:+.4g}",
                "" if r.ci_low is None or r.ci_high is None else f"{r.ci_low:.4g} to {r.ci_high:.4g}",
                "" if r.effect_size is None else f"{r.effect_size:.2f}",
                r.word,
            ]
            for r in found.rows
        ],
        right=("A", "B", "B - A", "g"),
        notes=[
            f"A: {found.a.what}",
            f"B: {found.b.what}",
            *(f"several environments: {mixed}" for mixed in dict.fromkeys(r.mixed for r in found.rows if r.mixed)),
            "two-sided tests, paired by seed where seeds are shared, Holm-corrected over all rows at 5 % in all; g: "
            "difference in standard deviations of a seed (Hedges)",
        ],
    )


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
