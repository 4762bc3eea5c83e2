"""The first page: how many claims came out again, every paper at a glance, what is new, and what can be searched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from latentbench.report.boards import DatasetPage
from latentbench.report.changes import Changes
from latentbench.report.findings import Findings, Paper
from latentbench.report.wording import anchor, opening, page_name
from latentbench.report.words import Share, Word, bar, word, word_of
from latentbench.spec.registry import metrics

NEWEST = 12

#: How far a paper has come: its state, the class of its colour, and its name in the legend.
STATES = {
    "verdict at paper": ("s-paper", "run by the paper's own protocol"),
    "verdict at cpu": ("s-cpu", "run, shortened"),
    "runs (smoke)": ("s-smoke", "smoke runs only"),
    "validates": ("s-valid", "suite written, not run"),
    "invalid": ("s-invalid", "suite does not validate"),
    "no suite": ("s-none", "no suite yet"),
}


@dataclass(frozen=True)
class Square:
    """A paper at a glance."""

    paper: Paper
    href: str
    tone: str
    says: str


@dataclass(frozen=True)
class Line:
    """A paper in the table."""

    paper: Paper
    href: str
    tone: str
    bar: list[Share]
    claims: int
    settled: float
    lead: str


@dataclass(frozen=True)
class News:
    """A verdict, and when its last record was made."""

    date: str
    paper: Paper
    href: str
    claim: str
    says: str
    word: Word


@dataclass(frozen=True)
class Overview:
    """See the module."""

    papers: int
    suites: int
    run: int
    records: int
    claims: int
    bar: list[Share]
    families: list[tuple[str, list[Square]]]
    states: list[tuple[str, str, int]]
    lines: list[Line]
    news: list[News]
    changes: Changes
    index: list[dict[str, str]]
    left_out: list[str]


def overview(findings: Findings, pages: Sequence[DatasetPage], changed: Changes) -> Overview:
    """Everything that the first page shows."""
    with_records = [s for s in findings.suites if s.tiers]
    counts = sum((Counter(s.counts) for s in with_records), Counter[str]())
    states: dict[str, int] = {}
    for paper in findings.papers:
        states[paper.state] = states.get(paper.state, 0) + 1
    return Overview(
        papers=sum(p.entry is not None for p in findings.papers) or len(findings.papers),
        suites=len(findings.suites),
        run=len(with_records),
        records=sum(len(t.records) for s in with_records for t in s.tiers),
        claims=sum(n for word, n in counts.items() if word not in ("not-run", "not-tested")),
        bar=bar(counts),
        families=_families(findings),
        states=[(STATES[s][0], STATES[s][1], states[s]) for s in STATES if s in states],
        lines=[_line(p) for p in sorted(findings.papers, key=_first_run)],
        news=_news(findings),
        changes=changed,
        index=_index(findings, pages),
        left_out=findings.left_out,
    )


def _href(paper: Paper) -> str:
    return f"papers/{page_name(paper.id)}"


def _tone(paper: Paper) -> str:
    return _tone_and_words(paper)[0]


def _tone_and_words(paper: Paper) -> tuple[str, str]:
    tone, says = STATES.get(paper.state, ("s-none", paper.state))
    return tone, f"{paper.title} – {says}"


def _families(findings: Findings) -> list[tuple[str, list[Square]]]:
    """Families with their papers, the largest first; within one, those that have come furthest first."""
    order = list(STATES)
    groups: dict[str, list[Paper]] = {}
    for paper in findings.papers:
        groups.setdefault(paper.family, []).append(paper)
    found = []
    for family, papers in sorted(groups.items(), key=lambda g: (-len(g[1]), g[0])):
        papers.sort(key=lambda p: (order.index(p.state) if p.state in order else len(order), p.title))
        squares = [Square(p, _href(p), *_tone_and_words(p)) for p in papers]
        found.append((family, squares))
    return found


def _first_run(paper: Paper) -> tuple[bool, bool, str]:
    found = paper.found
    return found is None or not found.tiers, found is None, paper.title.casefold()


def _line(paper: Paper) -> Line:
    found = paper.found
    counts = found.counts if found is not None and found.tiers else {}
    total = sum(counts.values())
    holds = counts.get("reproduced", 0) + counts.get("better", 0)
    lead = opening(found.notes) if found is not None and found.notes else ""
    return Line(paper, _href(paper), _tone(paper), bar(counts), total, holds / total if total else -1.0, lead)


def _news(findings: Findings) -> list[News]:
    """Settled verdicts of the newest records: one a paper in turn, so that no paper fills the list."""
    by_paper: list[list[News]] = []
    for paper in findings.papers:
        if paper.found is None or not paper.found.tiers:
            continue
        date = paper.found.newest[:10]
        told = [
            News(date, paper, f"{_href(paper)}#{anchor('claim', c.id)}", c.id, c.text, word_of(v))
            for c, v in zip(paper.found.loaded.suite.claims, paper.found.standing, strict=True)
            if v is not None and v.n and not v.information
        ]
        settled = [n for n in told if n.word.name in ("not-reproduced", "better", "reproduced")]
        rank = {"not-reproduced": 0, "better": 1, "reproduced": 2}
        by_paper.append(sorted(settled, key=lambda n: rank[n.word.name]))
    by_paper = sorted((n for n in by_paper if n), key=lambda n: n[0].date, reverse=True)
    found: list[News] = []
    depth = 0
    while len(found) < NEWEST and any(len(each) > depth for each in by_paper):
        found += [each[depth] for each in by_paper if len(each) > depth]
        depth += 1
    return found[:NEWEST]


def _index(findings: Findings, pages: Sequence[DatasetPage]) -> list[dict[str, str]]:
    """What the search finds: kind, title, where it leads, and further words."""
    index = []
    for p in findings.papers:
        words = [p.id, p.family, str(p.year or "")]
        words += [p.entry.method or "", *p.entry.datasets, *p.entry.metrics, p.entry.arxiv or ""] if p.entry else []
        index.append({"k": "paper", "t": p.title, "h": _href(p), "w": " ".join(filter(None, words))})
        if p.found is not None:
            for key, method in p.found.loaded.suite.methods.items():
                index.append(
                    {"k": "method", "t": method.label or key, "h": _href(p), "w": f"{key} {method.model} {p.id}"}
                )
    seen: dict[tuple[str, str], str] = {}
    for page in pages:
        href = f"boards/{page.href}"
        index.append({"k": "dataset", "t": page.dataset, "h": href, "w": ""})
        for board in page.boards:
            seen.setdefault((board.metric, page.dataset), f"{href}#{board.id}")
    known = metrics()
    for (metric, dataset), href in seen.items():
        index.append({"k": "metric", "t": f"{metric} on {dataset}", "h": href, "w": known[metric].summary})
    return index


def legend() -> list[Word]:
    """Verdicts with what they mean."""
    return [word(n) for n in ("reproduced", "better", "consistent", "insufficient", "not-reproduced", "not-run")]
