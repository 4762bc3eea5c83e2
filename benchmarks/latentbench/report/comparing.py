"""Two methods side by side, and two sets of results: what `latentbench compare` says, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from markupsafe import Markup

from latentbench.records.record import Record
from latentbench.report.findings import Findings, Paper
from latentbench.report.strips import Against, Strip, track
from latentbench.report.svg import Scale
from latentbench.report.wording import decimals, number, page_name
from latentbench.report.words import Word
from latentbench.results.compare import Compared, Comparison, Side, compare_sides
from latentbench.stats.wording import behind

#: How B stands to A, as a verdict's tone: a colour and a sign that say the same as the word.
WORDS = {
    "better": Word("reproduced", "B is better", "▲", "better by more than chance"),
    "worse": Word("not-reproduced", "B is worse", "▼", "worse by more than chance"),
    "failed": Word("not-reproduced", "B failed", "✗", "a seed failed that A finished"),
    "same": Word("consistent", "the same", "=", "value for value"),
    "open": Word("insufficient", "open", "?", "the seeds cannot tell"),
    "spread unknown": Word("not-run", "spread unknown", "–", "a seed each"),
}


@dataclass(frozen=True)
class Line:
    """A metric on both sides, and the difference B - A."""

    row: Compared
    word: Word
    mean_a: str
    mean_b: str
    difference: str
    drawing: Markup


@dataclass(frozen=True)
class Pair:
    """Two methods of a suite, by their numbers in its list, and what can be compared of them."""

    a: int
    b: int
    lines: list[Line]


@dataclass(frozen=True)
class ComparePage:
    """A suite's methods in pairs."""

    paper: Paper
    href: str
    tier: str
    methods: list[str]
    pairs: list[Pair]


@dataclass(frozen=True)
class Sets:
    """Two sets of results: what A is and what B is, in a sentence, and every value that is not the same."""

    a: str
    b: str
    summary: str
    lines: list[Line]


def compare_pages(findings: Findings) -> list[ComparePage]:
    """A page for each suite of which two methods or more have records, at its most faithful tier."""
    pages = []
    for paper in findings.papers:
        tier = paper.found.best if paper.found is not None else None
        if tier is None:
            continue
        suite = tier.gathered.loaded.suite
        records: dict[str, list[Record]] = {m: [] for m in suite.methods}
        for record in tier.records:
            records[record.method].append(record)
        sides = [Side(suite.methods[m].label or m, m, each, single=True) for m, each in records.items() if each]
        if len(sides) < 2:
            continue
        pairs = [
            Pair(i, j, [line_of(r) for r in compare_sides(a, b).rows])
            for (i, a), (j, b) in combinations(enumerate(sides), 2)
        ]
        names = [s.name if [x.name for x in sides].count(s.name) == 1 else f"{s.name} ({s.what})" for s in sides]
        pages.append(ComparePage(paper, page_name(paper.id), tier.tier, names, [p for p in pairs if p.lines]))
    return pages


def all_records(findings: Findings) -> Side:
    """Everything that the findings have, as one side of a comparison."""
    records = [r for s in findings.suites for t in s.tiers for r in t.records]
    return Side("these results", f"{len(records)} records", records, single=False)


def sets(a: Side, b: Side) -> Sets:
    """Two sets of results compared."""
    found: Comparison = compare_sides(a, b)
    told = [line_of(r) for r in found.rows if r.word != "same"]
    return Sets(f"{a.name}: {a.what}", f"{b.name}: {b.what}", found.summary(), told)


def line_of(row: Compared) -> Line:
    """A comparison's row, with its difference drawn on a scale that has zero in it."""
    half = None if row.ci_low is None or row.ci_high is None else (row.ci_high - row.ci_low) / 2
    digits = decimals(half, row.difference if row.difference is not None else row.mean_a)
    ends: Sequence[float | None] = (row.difference, row.ci_low, row.ci_high, 0.0)
    known = [abs(x) for x in ends if x is not None]
    scale = Scale.over([-max(known), max(known)], start=0.03, end=0.97)
    unit = behind(row.unit)
    strip = Strip("difference B - A", [], row.difference, row.ci_low, row.ci_high)
    said = number(row.difference, digits, sign=True)
    return Line(
        row,
        WORDS[row.word],
        number(row.mean_a, digits),
        number(row.mean_b, digits),
        said + (f" ± {number(half, digits)}" if half else ""),
        track(strip, scale, Against(0.0, "no difference"), unit, height=22, grid=False),
    )
