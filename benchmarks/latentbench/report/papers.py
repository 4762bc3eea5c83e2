"""The page of a paper: what it proposes, its tables beside ours, its claims, and where the numbers come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median

from markupsafe import Markup

from latentbench.core.paths import safe_name
from latentbench.records.archive import is_reference
from latentbench.records.pictures import pictures_of
from latentbench.report import plots
from latentbench.report.agreement import Agreement, agreements
from latentbench.report.curves import bundles
from latentbench.report.evidence import Evidence, evidence
from latentbench.report.findings import Paper, SuiteFindings, TierFindings
from latentbench.report.strips import Strip, StripChart, chart
from latentbench.report.tables import Table, paper_tables, unit_of
from latentbench.report.wording import (
    arxiv_address,
    compact,
    duration,
    listing,
    memory,
    opening,
    page_name,
    plural,
    web_address,
)
from latentbench.report.words import SETTLED, Share, bar
from latentbench.results.across import steps
from latentbench.results.answers import answers
from latentbench.results.leaderboard import Row
from latentbench.spec.registry import metrics


@dataclass(frozen=True)
class Board:
    """One metric on one dataset, best method first."""

    dataset: str
    metric: str
    summary: str
    unit: str
    better: str
    likelihood: str
    identity: str
    chart: StripChart
    marks: list[str]
    minds: list[str]


@dataclass(frozen=True)
class Curves:
    """Learning curves on one dataset; `legend` has each method with the number of its colour."""

    dataset: str
    drawing: Markup
    legend: list[tuple[str, int]]
    seeds: int
    unit: str


@dataclass(frozen=True)
class Cost:
    """What the runs of a method took: medians over its seeds."""

    method: str
    dataset: str
    runs: int
    wall: str
    wall_seconds: float
    training: str
    evaluation: str
    parameters: str
    memory: str


@dataclass(frozen=True)
class Failure:
    """A run that has no number, and why."""

    run: str
    status: str
    error: str


@dataclass(frozen=True)
class Provenance:
    """Where a tier's numbers come from, each fact with how many records have it."""

    records: int
    reference: int
    stale: int
    vouched: int
    missing: int
    outdated: int
    seeds: str
    dates: str
    hours: str
    facts: list[tuple[str, list[tuple[str, int]]]]
    runs: list[tuple[str, str, str]]


@dataclass(frozen=True)
class TierPage:
    """What a paper's page says of one tier."""

    tier: str
    deviations: list[str]
    boards: list[Board]
    agreements: list[Agreement]
    curves: list[Curves]
    costs: list[Cost]
    failures: list[Failure]
    provenance: Provenance


@dataclass(frozen=True)
class Shown:
    """A picture as a page has it: `src` is where the site keeps it, `file` where it comes from; or text."""

    title: str
    says: str
    src: str
    file: Path
    width: int
    height: int
    text: str | None


@dataclass(frozen=True)
class Pictured:
    """A method on a dataset, with the pictures of one seed."""

    method: str
    dataset: str
    seed: int
    tier: str
    pictures: list[Shown]


@dataclass(frozen=True)
class PaperPage:
    """A paper's page; of one without a suite, what the catalogue says."""

    paper: Paper
    href: str
    title: str
    byline: str
    venue: str
    summary: str | None
    lead: str | None
    notes: str | None
    links: list[tuple[str, str]]
    licence: str | None
    bibtex: str | None
    answer: str
    bar: list[Share]
    headline: str = ""
    distances: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    claims: list[Evidence] = field(default_factory=list)
    unrun: list[Evidence] = field(default_factory=list)
    tiers: list[TierPage] = field(default_factory=list)
    methods: list[tuple[str, str, str]] = field(default_factory=list)
    datasets: list[tuple[str, str, str]] = field(default_factory=list)
    protocol: list[tuple[str, str, str, str]] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[Pictured] = field(default_factory=list)

    @property
    def main(self) -> TierPage | None:
        return self.tiers[0] if self.tiers else None


def paper_page(paper: Paper) -> PaperPage:
    """Everything that a paper's page shows."""
    if paper.found is None:
        return _of_catalogue(paper)
    found = paper.found
    suite, cited = found.loaded.suite, found.loaded.suite.paper
    shown = evidence(found)
    words = answers(found.best.gathered, found.best.verdicts, found.best.rows) if found.best is not None else None
    told = [e for e in shown if e.n]
    links = [("arXiv " + cited.arxiv, url)] if cited.arxiv and (url := arxiv_address(cited.arxiv)) else []
    if cited.code is not None and (url := web_address(cited.code.url)):
        links.append(("authors' code", url))
    return PaperPage(
        paper=paper,
        href=page_name(paper.id),
        title=cited.title,
        byline=listing(cited.authors) if len(cited.authors) <= 6 else ", ".join(cited.authors[:5]) + " et al.",
        venue=cited.venue or str(cited.year),
        summary=" ".join(suite.summary.split()) if suite.summary else None,
        lead=opening(found.notes) if found.notes else None,
        notes=found.notes,
        links=links,
        licence=cited.code.licence if cited.code else None,
        bibtex=_bibtex(paper),
        answer=answer(found),
        headline=_sentence(words.headline()) if words is not None and words.counts else "",
        distances=words.distances if words is not None else [],
        bar=bar(found.counts),
        tables=paper_tables(found, found.best),
        claims=told,
        unrun=[e for e in shown if not e.n],
        tiers=[_tier(found, t) for t in found.tiers],
        methods=[(m.label or key, m.model, _settings(m.params)) for key, m in suite.methods.items()],
        datasets=[(key, d.source or key, steps(d.preprocess)) for key, d in suite.datasets.items()],
        protocol=[(p.item, p.value, p.status, p.source or "") for p in suite.protocol],
        commands=_commands(found),
        pictures=_pictures(found),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _of_catalogue(paper: Paper) -> PaperPage:
    entry = paper.entry
    assert entry is not None  # a paper is of the catalogue, or has a suite
    url = arxiv_address(entry.arxiv)
    return PaperPage(
        paper=paper,
        href=page_name(paper.id),
        title=entry.title,
        byline=entry.method or "",
        venue=str(entry.year or ""),
        summary=entry.claim,
        lead=None,
        notes=entry.small,
        links=[(f"arXiv {entry.arxiv}", url)] if url else [],
        licence=None,
        bibtex=None,
        answer="Nobody has written a suite for this paper yet.",
        bar=[],
        commands=[(f"latentbench new suite {paper.id}", "writes one to begin with")],
    )


def answer(found: SuiteFindings) -> str:
    """What came out, in a sentence or two."""
    counts = found.counts
    total, settled = sum(counts.values()), sum(counts.get(name, 0) for name in SETTLED)
    if not total:
        return "The suite makes no claims; its numbers are below."
    judged = total - counts.get("not-run", 0)
    if not judged:
        return f"{plural(total, 'claim')}, none of them tested yet."
    holds, fails = counts.get("reproduced", 0) + counts.get("better", 0), counts.get("not-reproduced", 0)
    parts = [f"{holds} came out again"] if holds else []
    parts += [f"{fails} did not"] if fails else []
    still = judged - settled
    parts += [f"{still} {'is' if still == 1 else 'are'} open"] if still else []
    rest = total - judged
    said = f"Of {plural(judged, 'claim')} tested, {listing(parts)}."
    return said + (f" {rest} more {'needs a run' if rest == 1 else 'need runs'} that nobody has made." if rest else "")


def _commands(found: SuiteFindings) -> list[tuple[str, str]]:
    suite = found.loaded.suite
    commands = []
    for tier, says in (("paper", "the paper's own protocol"), ("cpu", "shortened, on this machine")):
        if tier in suite.tiers:
            cost = suite.tiers[tier].cost
            commands.append((f"latentbench run {found.id} --tier {tier}", f"{says}; {cost}" if cost else says))
    return commands


def _bibtex(paper: Paper) -> str | None:
    """An entry made from what the suite says of its paper."""
    assert paper.found is not None
    cited = paper.found.loaded.suite.paper
    if cited.bibtex is None and cited.arxiv is None:
        return None
    key = cited.bibtex if cited.bibtex and cited.bibtex.isidentifier() else paper.id
    lines = [
        f"  title = {{{cited.title}}}",
        f"  author = {{{' and '.join(cited.authors)}}}",
        f"  year = {{{cited.year}}}",
    ]
    lines += [f"  booktitle = {{{cited.venue}}}"] if cited.venue else []
    lines += [f"  eprint = {{{cited.arxiv}}}", "  archiveprefix = {arXiv}"] if cited.arxiv else []
    kind = "inproceedings" if cited.venue else "misc"
    return f"@{kind}{{{key},\n" + ",\n".join(lines) + "\n}"


def _tier(found: SuiteFindings, tier: TierFindings) -> TierPage:
    suite = found.loaded.suite
    return TierPage(
        tier=tier.tier,
        deviations=suite.tiers[tier.gathered.tier].deviations,
        boards=boards(found, tier),
        agreements=agreements(suite, tier),
        curves=_curves(found, tier),
        costs=_costs(found, tier),
        failures=[Failure(r.run_id, r.status, r.error or "") for r in tier.records if r.status != "finished"],
        provenance=_provenance(tier),
    )


def boards(found: SuiteFindings, tier: TierFindings) -> list[Board]:
    """All results of a tier: strips of each metric on each dataset."""
    return [
        _board(found, tier, list(group))
        for _, group in groupby(tier.rows, key=lambda r: (r.dataset, r.metric, r.identity))
    ]


def _board(found: SuiteFindings, tier: TierFindings, rows: Sequence[Row]) -> Board:
    first, suite = rows[0], found.loaded.suite
    strips = [
        Strip(
            label=r.label,
            values=list(tier.values(r.method, r.dataset, r.metric, r.identity).values()),
            mean=r.mean,
            low=r.ci_low,
            high=r.ci_high,
            reported=r.reported,
            tone="baseline" if r.baseline else "",
        )
        for r in rows
    ]
    unit = unit_of(suite, first.metric)
    return Board(
        dataset=first.dataset,
        metric=first.metric,
        summary=metrics()[suite.metric_name(first.metric)].summary,
        unit=unit,
        better=first.better,
        likelihood=first.likelihood,
        identity=first.identity,
        chart=chart(strips, unit),
        marks=[r.mark for r in rows],
        minds=[_mind(r) for r in rows],
    )


def _mind(row: Row) -> str:
    counts = {"failed": row.failed, "missing": row.missing, "stale": row.stale}
    told = [f"impossible: {row.impossible}" if row.impossible else ""]
    told += [f"mixed: {row.mixed}" if row.mixed else "", row.outcomes, row.outliers]
    return "; ".join([*(f"{n} {word}" for word, n in counts.items() if n), *filter(None, told)])


def _pictures(found: SuiteFindings) -> list[Pictured]:
    """Of each method and dataset the pictures of the most faithful tier that has some."""
    suite = found.loaded.suite
    groups: dict[tuple[str, str], Pictured] = {}
    for tier in found.tiers:
        collected = tier.gathered.collected
        for cell, record in sorted(collected.found.items(), key=lambda each: each[1].seed):
            key = record.dataset, record.method
            if key in groups or not (pictures := pictures_of(collected.path(cell))):
                continue
            label = suite.methods[record.method].label or record.method
            shown = [
                Shown(
                    title=p.title,
                    says=f"{p.title}: {label} on {record.dataset}, seed {record.seed}",
                    src=f"../pictures/{safe_name(suite.id)}/{record.run_id}/{p.path.name}",
                    file=p.path,
                    width=p.width,
                    height=p.height,
                    text=p.text,
                )
                for p in pictures
            ]
            groups[key] = Pictured(label, record.dataset, record.seed, tier.tier, shown)
    order = {m: i for i, m in enumerate(suite.methods)}
    return [group for _, group in sorted(groups.items(), key=lambda g: (g[0][0], order.get(g[0][1], 0)))]


def _curves(found: SuiteFindings, tier: TierFindings) -> list[Curves]:
    drawn = []
    for bundle in bundles(found.loaded.suite, tier.gathered):
        said = f"Training loss over epochs on {bundle.dataset}: {listing(bundle.methods)}."
        legend = [(name, i % plots.COLOURS) for i, name in enumerate(bundle.methods)]
        drawn.append(Curves(bundle.dataset, plots.curves(bundle.series, label=said), legend, bundle.seeds, "loss"))
    return drawn


def _costs(found: SuiteFindings, tier: TierFindings) -> list[Cost]:
    suite = found.loaded.suite
    costs = []
    for dataset in suite.datasets:
        for method, spec in suite.methods.items():
            runs = [r for r in tier.gathered.records(method, dataset) if r.status == "finished"]
            if runs:
                wall = median(r.cost.wall_seconds for r in runs)
                peak = [r.cost.peak_memory_bytes for r in runs if r.cost.peak_memory_bytes is not None]
                costs.append(
                    Cost(
                        spec.label or method,
                        dataset,
                        len(runs),
                        duration(wall),
                        wall,
                        duration(median(r.cost.training_seconds for r in runs)),
                        duration(median(r.cost.evaluation_seconds for r in runs)),
                        compact(runs[0].cost.parameters) if runs[0].cost.parameters else "",
                        memory(int(median(peak))) if peak else "",
                    )
                )
    return costs


def _provenance(tier: TierFindings) -> Provenance:
    records, collected = tier.records, tier.gathered.collected
    facts: list[tuple[str, Iterable[str]]] = [
        ("revision", ((r.provenance.git_revision or "unknown")[:12] for r in records)),
        ("torch", (r.provenance.packages.get("torch", "unknown") for r in records)),
        ("Python", (r.provenance.python for r in records)),
        ("device", (f"{r.provenance.device}, {plural(r.provenance.threads, 'thread')}" for r in records)),
        ("machine", (r.provenance.platform for r in records)),
    ]
    ended = sorted(r.provenance.ended[:10] for r in records)
    hours = sum(r.cost.wall_seconds for r in records)
    cells = {r.cell for r in tier.gathered.runs}
    return Provenance(
        records=len(records),
        reference=sum(map(is_reference, collected.files.values())),
        stale=len(collected.stale_code),
        vouched=len(collected.vouched),
        missing=len(cells - collected.found.keys()),
        outdated=len(collected.outdated),
        seeds=", ".join(str(s) for s in sorted({r.seed for r in records})[:12]),
        dates=ended[0] if ended[0] == ended[-1] else f"{ended[0]} to {ended[-1]}",
        hours=duration(hours),
        facts=[(name, Counter(values).most_common(4)) for name, values in facts],
        runs=sorted((r.run_id, r.status, r.provenance.ended[:16].replace("T", " ")) for r in records),
    )


def _settings(params: dict[str, object]) -> str:
    return ", ".join(f"{k} = {v}" for k, v in params.items())
