"""Leaderboards over papers, as pages show them: the tables of `latentbench.results.across`, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from latentbench.report import plots
from latentbench.report.chances import Chances, chances
from latentbench.report.findings import Findings, Paper, TierFindings
from latentbench.report.strips import Against, Strip, axis, said, track
from latentbench.report.svg import Scale
from latentbench.report.wording import anchor, compact, duration, number, page_name
from latentbench.results import across
from latentbench.results.leaderboard import Row
from latentbench.results.possible import entropy
from latentbench.spec.registry import metrics
from latentbench.stats.wording import behind

#: Source of problems that a study makes for itself; numbers of one study say little beside another's.
SIMULATED = "simulated"


@dataclass(frozen=True)
class Entry:
    """A method of a paper, on a board."""

    paper: Paper
    href: str
    row: Row
    text: str
    drawing: Markup
    cost: str
    parameters: str
    parameters_count: int


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
    front: str
    chances: Chances | None

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
    """A row, and where it comes from."""

    paper: Paper
    tier: TierFindings
    row: Row
    values: list[float]


def dataset_pages(findings: Findings) -> list[DatasetPage]:
    """A page for each source dataset that has numbers, the one of most papers first."""
    origins = {(p.id, t.tier): (p, t) for p in findings.papers if p.found is not None for t in p.found.tiers}
    by_source: dict[str, list[Board]] = {}
    for table in across.boards((t.gathered, t.rows) for _, t in origins.values()):
        found = []
        for row in table.rows:
            paper, tier = origins[row.suite, row.tier]
            values = tier.values(row.method, row.dataset, row.metric, row.identity)
            found.append(_Found(paper, tier, row, list(values.values())))
        by_source.setdefault(table.measure.source, []).append(_board(table, found))
    pages = []
    for source, boards in by_source.items():
        boards.sort(key=lambda b: (-b.papers, b.metric, -len(b.entries)))
        pages.append(DatasetPage(source, page_name(source), boards))
    return sorted(pages, key=lambda p: (-len({e.paper.id for e in p.entries}), p.dataset))


def listed(pages: Sequence[DatasetPage]) -> list[tuple[DatasetPage, Board]]:
    """All boards in the order in which one would look at them: what several papers share and what ranks many methods
    first, what studies simulate for themselves last."""
    each = [(page, board) for page in pages for board in page.boards]
    return sorted(each, key=lambda pb: (pb[0].dataset == SIMULATED, -pb[1].papers, -len(pb[1].entries)))


def _board(table: across.Board, found: Sequence[_Found]) -> Board:
    measure = table.measure
    extent = [v for r in table.rows for v in (r.mean, r.ci_low, r.ci_high, r.reported)]
    controls = _controls(found, measure.source, measure.quantity)
    extent += [c.value for c in controls]
    scale = Scale.over([*extent, *(v for f in found for v in f.values)], start=0.03, end=0.97)
    entries = [_entry(f, scale, controls) for f in found]
    named = _named([f.row for f in found])
    points = _pareto(named, table.better)
    return Board(
        id=anchor(measure.quantity, table.identity),
        dataset=measure.source,
        metric=measure.quantity,
        summary=metrics()[measure.quantity].summary,
        unit=behind(table.unit),
        better=table.better,
        likelihood=measure.likelihood,
        identity=table.identity,
        differs=_differs(measure),
        entries=entries,
        controls=controls,
        axis=axis(scale),
        pareto=plots.scatter(points, label=f"{measure.quantity} against seconds a run") if points else None,
        front="; ".join(f"{p.mark} {p.name}" for p in sorted(points, key=lambda p: p.x) if p.best),
        chances=chances([(name, f.row, f.values) for (name, _), f in zip(named, found, strict=True)]),
    )


def _controls(ranked: Sequence[_Found], source: str, metric: str) -> list[Against]:
    """The floor, which is the best baseline, beside others; the ceiling, where the optimum is known."""
    found = []
    sound = [f.row for f in ranked if f.row.mean is not None and not f.row.impossible]
    floor = next((r for r in sound if r.baseline), None)
    if floor is not None and floor.mean is not None and not all(r.baseline for r in sound):
        found.append(Against(floor.mean, f"floor: the best baseline, {floor.label}"))
    if metric == "nll" and not any(f.tier.gathered.loaded.suite.datasets[f.row.dataset].preprocess for f in ranked):
        optimum = entropy(source)
        if optimum is not None:
            found.append(Against(optimum, f"ceiling: the entropy of the data, {number(optimum, 2)} nats"))
    return found


def _entry(found: _Found, scale: Scale, controls: Sequence[Against]) -> Entry:
    row = found.row
    strip = Strip(
        f"{row.label} ({found.paper.id})",
        found.values,
        row.mean,
        row.ci_low,
        row.ci_high,
        row.reported,
        "baseline" if row.baseline else "",
    )
    runs = found.tier.gathered.records(row.method, row.dataset)
    parameters = next((r.cost.parameters for r in runs if r.status == "finished"), None)
    return Entry(
        paper=found.paper,
        href=f"../papers/{page_name(found.paper.id)}",
        row=row,
        text=said(strip),
        drawing=track(strip, scale, unit=behind(row.unit), height=22, controls=controls),
        cost=duration(row.seconds),
        parameters=compact(parameters) if parameters else "",
        parameters_count=parameters or 0,
    )


def _named(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """Rows with names that say of which paper and tier they are, where there are several."""
    suites, tiers = {r.suite for r in rows}, {r.tier for r in rows}
    named = []
    for row in rows:
        beside = ", ".join([row.suite] * (len(suites) > 1) + [row.tier] * (len(tiers) > 1))
        named.append((f"{row.label} ({beside})" if beside else row.label, row))
    return named


def _pareto(named: Sequence[tuple[str, Row]], better: str) -> list[plots.Point]:
    """Quality against cost, where at least three methods have both."""
    known = [
        plots.Point(name, str(rank), row.seconds, row.mean)
        for rank, (name, row) in enumerate(named, 1)
        if row.seconds is not None and row.seconds > 0 and row.mean is not None and not row.impossible
    ]
    return plots.pareto(known, better) if len(known) >= 3 else []


def _differs(measure: across.Measure) -> str:
    """What a number on this board was measured on: test rows, preprocessing, settings."""
    parts = [] if measure.rows is None else [f"{measure.rows:,} test rows"]
    parts += [measure.test] if measure.test else []
    parts += [f"preprocessing: {measure.preprocessing}", *([measure.settings] if measure.settings else [])]
    return "; ".join(parts)
