"""Leaderboards over papers: every number of one quantity on one dataset, whatever suite it comes from.

Numbers stand in one table where their metric identity is the same: implementation, settings, data, split, rows and
preprocessing. Everything else stands in a table of its own, which says what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from latentbench.report import plots
from latentbench.report.findings import Findings, Paper, SuiteFindings, TierFindings
from latentbench.report.strips import Against, Strip, axis, said, track
from latentbench.report.svg import Scale
from latentbench.report.wording import anchor, compact, duration, number, page_name
from latentbench.results.leaderboard import Row
from latentbench.results.possible import entropy
from latentbench.spec.registry import metrics
from latentbench.stats.samples import Sample, differences


@dataclass(frozen=True)
class Entry:
    """A method of a paper, on a board. `place` counts from 1; `leads` where it cannot be told from the first."""

    paper: Paper
    href: str
    row: Row
    values: list[float]
    text: str
    drawing: Markup
    seconds: float | None
    cost: str
    parameters: str
    parameters_count: int
    place: int
    leads: bool


@dataclass(frozen=True)
class Board:
    """One comparable quantity on one dataset, best first."""

    id: str
    dataset: str
    metric: str
    summary: str
    unit: str
    better: str
    likelihood: str
    identity: str
    differs: str
    entries: list[Entry]
    controls: list[Against]
    axis: Markup
    pareto: Markup | None

    @property
    def papers(self) -> int:
        return len({e.paper.id for e in self.entries})


@dataclass(frozen=True)
class DatasetPage:
    """The boards of one source dataset."""

    dataset: str
    href: str
    boards: list[Board]

    @property
    def entries(self) -> list[Entry]:
        return [e for b in self.boards for e in b.entries]


@dataclass(frozen=True)
class _Found:
    paper: Paper
    suite: SuiteFindings
    tier: TierFindings
    row: Row


def dataset_pages(findings: Findings) -> list[DatasetPage]:
    """A page for each source dataset that has numbers, the one of most papers first."""
    groups: dict[str, dict[tuple[str, str], list[_Found]]] = {}
    for paper in findings.papers:
        for tier in paper.found.tiers if paper.found is not None else ():
            assert paper.found is not None
            suite = paper.found.loaded.suite
            for row in tier.rows:
                source = suite.datasets[row.dataset].source or row.dataset
                key = suite.metric_name(row.metric), row.identity
                groups.setdefault(source, {}).setdefault(key, []).append(_Found(paper, paper.found, tier, row))
    pages = []
    for source, by_key in groups.items():
        boards = [_board(source, metric, identity, each) for (metric, identity), each in by_key.items()]
        boards.sort(key=lambda b: (-b.papers, b.metric, -len(b.entries)))
        pages.append(DatasetPage(source, page_name(source), boards))
    return sorted(pages, key=lambda p: (-len({e.paper.id for e in p.entries}), p.dataset))


def _board(source: str, metric: str, identity: str, found: Sequence[_Found]) -> Board:
    first = found[0].row
    sign = -1 if first.better == "higher" else 1
    ranked = sorted(
        found, key=lambda f: (bool(f.row.impossible), f.row.mean is None, sign * (f.row.mean or 0.0), f.row.label)
    )
    values = [list(f.tier.values(f.row.method, f.row.dataset, f.row.metric, identity).values()) for f in ranked]
    extent = [v for f in ranked for v in (f.row.mean, f.row.ci_low, f.row.ci_high, f.row.reported)]
    controls = _controls(ranked, source, metric)
    extent += [c.value for c in controls]
    scale = Scale.over([*extent, *(v for each in values for v in each)], start=0.03, end=0.97)
    leading = _leading([[] if f.row.impossible else own for f, own in zip(ranked, values, strict=True)])
    entries = [
        _entry(f, own, scale, place, leads, controls)
        for place, (f, own, leads) in enumerate(zip(ranked, values, leading, strict=True), 1)
    ]
    return Board(
        id=anchor(metric, identity),
        dataset=source,
        metric=metric,
        summary=metrics()[metric].summary,
        unit="" if first.unit == "1" else first.unit,
        better=first.better,
        likelihood=first.likelihood,
        identity=identity,
        differs=_differs(found[0]),
        entries=entries,
        controls=controls,
        axis=axis(scale),
        pareto=_pareto(entries, first, metric),
    )


def _controls(ranked: Sequence[_Found], source: str, metric: str) -> list[Against]:
    """The floor, which is the best baseline, beside others; the ceiling, where the optimum is known."""
    found = []
    sound = [f.row for f in ranked if f.row.mean is not None and not f.row.impossible]
    floor = next((r for r in sound if r.baseline), None)
    if floor is not None and floor.mean is not None and not all(r.baseline for r in sound):
        found.append(Against(floor.mean, f"floor: the best baseline, {floor.label}"))
    if metric == "nll" and not any(f.suite.loaded.suite.datasets[f.row.dataset].preprocess for f in ranked):
        optimum = entropy(source)
        if optimum is not None:
            found.append(Against(optimum, f"ceiling: the entropy of the data, {number(optimum, 2)} nats"))
    return found


def _leading(values: Sequence[Sequence[float]]) -> list[bool]:
    """Which cannot be told from the first at 95 %; nobody, where the first has no spread."""
    samples = [Sample.of(list(v)) for v in values]
    able = [i for i, s in enumerate(samples) if s.n > 1]
    leads = [False] * len(samples)
    if not samples or 0 not in able:
        return leads
    others = [i for i in able if i != 0]
    gaps = differences(samples[0], [samples[i] for i in others]) if others else []
    leads[0] = True
    for i, (low, high) in zip(others, gaps, strict=True):
        leads[i] = not (low > 0 or high < 0)
    return leads


def _entry(
    found: _Found, values: list[float], scale: Scale, place: int, leads: bool, controls: Sequence[Against]
) -> Entry:
    row = found.row
    runs = [r for r in found.tier.gathered.records(row.method, row.dataset) if r.status == "finished"]
    seconds = median(r.cost.wall_seconds for r in runs) if runs else None
    strip = Strip(
        f"{row.label} ({found.paper.id})",
        values,
        row.mean,
        row.ci_low,
        row.ci_high,
        row.reported,
        "baseline" if row.baseline else "",
    )
    return Entry(
        paper=found.paper,
        href=f"../papers/{page_name(found.paper.id)}",
        row=row,
        values=values,
        text=said(strip),
        drawing=track(strip, scale, unit="" if row.unit == "1" else row.unit, height=22, controls=controls),
        seconds=seconds,
        cost=duration(seconds),
        parameters=compact(runs[0].cost.parameters) if runs and runs[0].cost.parameters else "",
        parameters_count=runs[0].cost.parameters if runs else 0,
        place=place,
        leads=leads,
    )


def _pareto(entries: Sequence[Entry], row: Row, metric: str) -> Markup | None:
    """Quality against cost, where at least three methods have both."""
    several = len({e.paper.id for e in entries}) > 1
    known = [
        (f"{e.row.label} ({e.paper.id})" if several else e.row.label, e.seconds, e.row.mean)
        for e in entries
        if e.seconds is not None and e.seconds > 0 and e.row.mean is not None and not e.row.impossible
    ]
    if len(known) < 3:
        return None
    points = plots.pareto(known, row.better)
    front = ", ".join(p.name for p in sorted(points, key=lambda p: p.x) if p.best)
    said_ = f"{metric} against seconds a run. No method is better at no higher cost than: {front}."
    return plots.scatter(points, label=said_)


def _differs(found: _Found) -> str:
    """What a number on this board was measured on: test rows, split, preprocessing, settings."""
    suite, row = found.suite.loaded.suite, found.row
    spec = suite.datasets[row.dataset]
    runs = found.tier.gathered.records(row.method, row.dataset)
    measured = next((m for r in runs if (m := r.value(row.metric)) is not None), None)
    parts = [f"{measured.n:,} test rows"] if measured is not None and measured.n else []
    steps = [s if isinstance(s, str) else " ".join(f"{k} {v}" for k, v in s.items()) for s in spec.preprocess]
    parts += [f"split {spec.protocol}"] if spec.protocol else []
    parts += [f"preprocessing {', '.join(steps)}"] if steps else []
    settings = {
        **suite.metrics[row.metric].settings,
        **suite.tiers[found.tier.gathered.tier].metrics.get(row.metric, {}),
    }
    parts += [", ".join(f"{k} = {v}" for k, v in settings.items())] if settings else []
    return "; ".join(parts)
