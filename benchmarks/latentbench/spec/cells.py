"""Whether reported numbers and claims are about cells of the suite: a method, dataset and metric that it measures."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from latentbench.core.errors import UserError
from latentbench.core.yamlfile import Path_
from latentbench.spec.claims import Claim, OrderClaim, TrendClaim, ValueClaim
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.registry import metrics


def reported(loaded: LoadedSuite) -> Iterator[UserError]:
    """Reported numbers that stand twice, of what the suite does not measure, or in another unit."""
    suite = loaded.suite
    seen: set[tuple[str, ...]] = set()
    for i, r in enumerate(suite.reported):
        at: Path_ = ("reported", i)
        cell = (r.method, r.dataset, r.metric, r.table, r.source)
        if cell in seen:
            yield loaded.file.error(
                f"{r.metric!r} of {r.method!r} on {r.dataset!r} in {r.table!r} is reported twice", at, "keep one"
            )
        seen.add(cell)
        yield from _cell(loaded, f"reported number {i + 1}", [r.method], r.dataset, r.metric, at)
        entry = metrics().get(suite.metric_name(r.metric)) if r.metric in suite.metrics else None
        if entry is not None and r.unit != entry.unit:
            yield loaded.file.error(
                f"reported number {i + 1} is in {r.unit!r}, metric {r.metric!r} in {entry.unit!r}",
                (*at, "unit"),
                "convert it, and say so in `note`",
            )


def claims(loaded: LoadedSuite) -> Iterator[UserError]:
    """Claims that stand twice, are about what the suite does not measure, or are judged nowhere."""
    suite = loaded.suite
    seen: set[str] = set()
    for i, claim in enumerate(suite.claims):
        at: Path_ = ("claims", i)
        if claim.id in seen:
            yield loaded.file.error(f"claim {claim.id!r} stands twice", (*at, "id"), "give each its own id")
        seen.add(claim.id)
        wrong = list(_cell(loaded, f"claim {claim.id!r}", _methods_of(claim), claim.dataset, claim.metric, at))
        yield from wrong
        if (
            not wrong
            and isinstance(claim, ValueClaim)
            and claim.reported is None
            and suite.reported_for(claim.method, claim.dataset, claim.metric) is None
        ):
            yield loaded.file.error(
                f"claim {claim.id!r} has no reported number", at, "add it under `reported`, or give `reported` here"
            )
        if not any(tier in suite.tiers for tier in claim.tiers):
            yield loaded.file.error(
                f"claim {claim.id!r} is judged at no tier of this suite",
                (*at, "tiers"),
                "the suite has " + ", ".join(suite.tiers),
            )


def _methods_of(claim: Claim) -> list[str]:
    if isinstance(claim, OrderClaim):
        return [claim.better, claim.worse]
    return list(claim.methods) if isinstance(claim, TrendClaim) else [claim.method]


def _cell(
    loaded: LoadedSuite, what: str, methods: list[str], dataset: str, metric: str, at: Path_
) -> Iterator[UserError]:
    suite = loaded.suite
    tables: list[tuple[str, str, list[str]]] = [
        *(("method", m, list(suite.methods)) for m in methods),
        ("dataset", dataset, list(suite.datasets)),
        ("metric", metric, list(suite.metrics)),
    ]
    for kind, name, table in tables:
        if name not in table:
            yield loaded.file.error(
                f"{what} names {kind} {name!r}, which this suite does not have", at, _near(name, table)
            )
            return
    for method in methods:
        if not suite.metrics[metric].applies(method, dataset) or not suite.methods[method].runs_on(dataset):
            yield loaded.file.error(
                f"{what} is about {metric!r} of {method!r} on {dataset!r}, which this suite does not measure",
                at,
                f"widen `methods` or `datasets` of metric {metric!r}",
            )


def _near(name: str, table: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(table), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "it has " + ", ".join(list(table)[:12])
