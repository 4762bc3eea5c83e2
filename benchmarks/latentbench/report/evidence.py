"""Claims with what speaks for and against them: seeds, intervals, reported values, tolerances."""

from __future__ import annotations

from dataclasses import dataclass

from latentbench.report.findings import SuiteFindings, TierFindings
from latentbench.report.strips import Against, Strip, StripChart, chart
from latentbench.report.tables import unit_of
from latentbench.report.wording import anchor, number
from latentbench.report.words import Word, word_of
from latentbench.results.verdicts import ClaimVerdict
from latentbench.spec.claims import Bound, Claim, Statement, Value, kind_of, methods_of, metrics_of, statements
from latentbench.spec.suite import Suite
from latentbench.stats.wording import behind


@dataclass(frozen=True)
class Evidence:
    """A claim as its page shows it; `chart` is None where nothing was measured."""

    id: str
    anchor: str
    kind: str
    says: str
    where: str
    word: Word
    text: str
    metric: str
    dataset: str
    tier: str
    n: int
    needed: int | None
    chart: StripChart | None
    tags: list[str]
    reason: str
    gates: list[tuple[str, bool]]
    effect: str
    mixed: str
    outliers: list[str]
    cells: StripChart | None


def evidence(found: SuiteFindings) -> list[Evidence]:
    """Every claim of a suite, in its order."""
    return [_of(found, c, v) for c, v in zip(found.loaded.suite.claims, found.standing, strict=True)]


def _of(found: SuiteFindings, claim: Claim, verdict: ClaimVerdict | None) -> Evidence:
    suite = found.loaded.suite
    tier = next((t for t in found.tiers if verdict is not None and t.tier == verdict.tier), None)
    return Evidence(
        id=claim.id,
        anchor=anchor("claim", claim.id),
        kind=kind_of(claim),
        says=claim.text,
        where=claim.where,
        word=word_of(verdict),
        text=verdict.text if verdict is not None else "nothing that it asks for was run",
        metric=", ".join(dict.fromkeys(m for s in statements(claim) for m in metrics_of(s))),
        dataset=", ".join(dict.fromkeys(s.dataset for s in statements(claim))),
        tier=verdict.tier if verdict is not None else "",
        n=verdict.n if verdict is not None else 0,
        needed=verdict.needed_n if verdict is not None else None,
        chart=_chart(suite, tier, claim) if tier is not None else None,
        tags=_tags(verdict),
        reason=verdict.reason if verdict is not None else "",
        gates=[(str(g), g.open) for g in verdict.gates] if verdict is not None else [],
        effect=str(verdict.effect) if verdict is not None and verdict.effect is not None else "",
        mixed=verdict.mixed if verdict is not None else "",
        outliers=list(verdict.outliers) if verdict is not None else [],
        cells=_cells(verdict),
    )


def _tags(verdict: ClaimVerdict | None) -> list[str]:
    """What a reader must know of a verdict besides its word."""
    if verdict is None:
        return []
    told = {
        "sanity check": verdict.sanity,
        "on an analogue of another scale": verdict.analogue,
        "sequential test": verdict.sequential,
        "without spread": verdict.exact,
        f"pooled by {verdict.pool} over {len(verdict.cells)} cells": bool(verdict.pool),
    }
    return [tag for tag, holds in told.items() if holds]


def _cells(verdict: ClaimVerdict | None) -> StripChart | None:
    """The estimates of a pooled claim's cells around no difference, where they share a unit."""
    if verdict is None or verdict.pool in ("", "rank") or len({c.unit for c in verdict.cells}) > 1:
        return None
    strips = [
        Strip(
            label=c.label or f"{c.metric} on {c.dataset}",
            values=[],
            mean=c.estimate,
            low=c.interval[0] if c.interval else None,
            high=c.interval[1] if c.interval else None,
            seeds=c.n,
        )
        for c in verdict.cells
    ]
    if all(s.mean is None for s in strips):
        return None
    zero = Against(0.0, "no difference") if verdict.kind in ("order", "trend") else None
    return chart(strips, behind(verdict.unit), zero)


def _chart(suite: Suite, tier: TierFindings, claim: Claim) -> StripChart | None:
    said = statements(claim)
    units = {unit_of(suite, s.metric) for s in said}
    strips = [_strip(suite, tier, s, method) for s in said for method in methods_of(s)]
    if len(units) > 1 or all(s.mean is None for s in strips):
        return None
    return chart(strips, units.pop(), _against(suite, said[0]) if len(said) == 1 else None)


def _strip(suite: Suite, tier: TierFindings, claim: Statement, method: str) -> Strip:
    row = tier.row_of.get((method, claim.dataset, claim.metric))
    values = tier.values(method, claim.dataset, claim.metric, row.identity if row else None)
    reported = suite.reported_for(method, claim.dataset, claim.metric) if isinstance(claim, Value) else None
    target = claim.reported if isinstance(claim, Value) else None
    return Strip(
        label=(f"{claim.label}: " if claim.label else "") + (suite.methods[method].label or method),
        values=list(values.values()),
        mean=row.mean if row else None,
        low=row.ci_low if row else None,
        high=row.ci_high if row else None,
        reported=target if target is not None else reported.value if reported else None,
        tone="baseline" if suite.methods[method].baseline else "",
    )


def _against(suite: Suite, claim: Statement) -> Against | None:
    match claim:
        case Value():
            reported = suite.reported_for(claim.method, claim.dataset, claim.metric)
            target = claim.reported if claim.reported is not None else reported.value if reported else None
            if target is None:
                return None
            said = f"reported {number(target)} ± {number(claim.tolerance)} (tolerance)"
            return Against(target, said, target - claim.tolerance, target + claim.tolerance)
        case Bound():
            return Against(claim.limit, f"at {'least' if claim.side == 'above' else 'most'} {number(claim.limit)}")
        case _:
            return None
