"""Methods over datasets, as a page shows them: mean ranks with the critical difference around them."""

from __future__ import annotations

from dataclasses import dataclass

from latentbench.report.findings import Findings, Paper, TierFindings
from latentbench.report.strips import Drawn, Strip, StripChart, axis, track
from latentbench.report.svg import Scale
from latentbench.report.wording import anchor, listing, number, page_name, sentence
from latentbench.results.over_datasets import OverDatasets, over_datasets
from latentbench.spec.registry import metrics


@dataclass(frozen=True)
class Ranking:
    """One metric of a paper over its datasets; bars that do not meet are told apart."""

    id: str
    paper: Paper
    href: str
    tier: str
    metric: str
    summary: str
    likelihood: str
    better: str
    datasets: str
    count: int
    chart: StripChart
    marks: list[str]
    says: str


def rankings(findings: Findings) -> list[Ranking]:
    """Those of all papers and tiers, the one over most datasets first."""
    found = [
        _ranking(paper, tier, over)
        for paper in findings.papers
        if paper.found is not None
        for tier in paper.found.tiers
        for over in over_datasets(tier.rows)
    ]
    return sorted(found, key=lambda r: -r.count)


def _ranking(paper: Paper, tier: TierFindings, over: OverDatasets) -> Ranking:
    first = over.methods[0]
    return Ranking(
        id=anchor(paper.id, tier.tier, first.metric),
        paper=paper,
        href=f"papers/{page_name(paper.id)}",
        tier=tier.tier,
        metric=first.metric,
        summary=sentence(metrics()[first.quantity].summary),
        likelihood=first.likelihood,
        better=first.better,
        datasets=listing(over.datasets),
        count=len(over.datasets),
        chart=_chart(over),
        marks=_marks(over),
        says=_says(over),
    )


def _chart(over: OverDatasets) -> StripChart:
    """A strip a method: its rank on each dataset, their mean, and half the critical difference to both sides of it."""
    worst, half = len(over.methods), over.ranks.critical_difference / 2
    scale = Scale(0.5, worst + 0.5, start=0.02, end=0.98)
    rows = []
    for i, (row, mean) in enumerate(zip(over.methods, over.ranks.means, strict=True)):
        ranks = [float(r) for r in over.ranks.ranks[:, i]]
        tone = "baseline" if row.baseline else ""
        strip = Strip(
            row.label,
            ranks,
            mean,
            mean - half,
            mean + half,
            tone=tone,
            bar="bar of the critical difference",
            dot="dataset",
        )
        rows.append(Drawn(strip, track(strip, scale), number(mean, 2)))
    return StripChart(rows, axis(scale, most=9), "mean rank", scale=scale)


def _marks(over: OverDatasets) -> list[str]:
    """``best`` for a method that differs from every other, ``tied`` for those that cannot be told from the best."""
    means = over.ranks.means
    alike = [m - means[0] < over.ranks.critical_difference for m in means]
    leading = "tied" if sum(alike) > 1 else "best"
    return [leading if near else "" for near in alike]


def _says(over: OverDatasets) -> str:
    least, widest = over.ranks.critical_difference, len(over.methods) - 1
    p = "< 0.001" if over.ranks.p < 0.001 else f"= {number(over.ranks.p, 3)}"
    told = f"Friedman's test that all are alike: p {p}. "
    if least > widest:
        return told + f"No two mean ranks can differ by the {number(least, 2)} that it takes over so few datasets."
    return told + f"Two mean ranks that differ by less than {number(least, 2)} are not told apart (Nemenyi, 5 %)."
