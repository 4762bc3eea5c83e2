"""A suite's card as plain values: what `latentbench show` prints, and keeps for the next time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

from latentbench.planning.plan import plan
from latentbench.records.archive import collect
from latentbench.results.across import steps
from latentbench.results.answers import answers
from latentbench.results.gather import best
from latentbench.spec.claims import Claim, PooledClaim, Tier, kind_of
from latentbench.spec.files import notes
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.registry import metrics
from latentbench.spec.suite import Reported, Suite


class Table(NamedTuple):
    """As `latentbench.cli.options.print_table` takes it."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    right: list[str] = []


def as_json(loaded: LoadedSuite) -> dict[str, Any]:
    """The suite, with what its tiers cost and what came out in prose."""
    costs = [cost(loaded, t) for t in loaded.suite.tiers]
    return {**loaded.suite.model_dump(mode="json"), "cost": costs, "notes": notes(loaded.path)}


def card(loaded: LoadedSuite) -> dict[str, Any]:
    """The card's ``title``, ``lines`` below it, ``answers`` so far (None without records), ``tables`` and ``notes``."""
    suite, paper = loaded.suite, loaded.suite.paper
    authors = ", ".join(paper.authors[:4]) + (" et al." if len(paper.authors) > 4 else "")
    lines = [f"{authors}, {paper.year}" + (f", {paper.venue}" if paper.venue else "")]
    lines.append(f"suite {suite.id}, version {suite.version}" + (f", arXiv {paper.arxiv}" if paper.arxiv else ""))
    if paper.code:
        lines.append(f"authors' code: {paper.code.url} (licence: {paper.code.licence})")
    if suite.summary:
        lines.append(" ".join(suite.summary.split()))
    found = best(loaded)
    return {
        "title": paper.title,
        "lines": lines,
        "answers": None if found is None else asdict(answers(found)),
        "tables": [*_reported(suite), *_tables(loaded)],
        "notes": notes(loaded.path),
    }


def _tables(loaded: LoadedSuite) -> Iterator[Table]:
    suite = loaded.suite
    yield Table(
        "methods",
        ["method", "label", "model", "parameters"],
        [
            [k, (m.label or "") + (" (baseline)" if m.baseline else ""), m.model, _pairs(m.params)]
            for k, m in suite.methods.items()
        ],
    )
    yield Table(
        "datasets",
        ["dataset", "source", "splits", "preprocessing"],
        [
            [k, d.source or k, d.protocol or (_pairs(d.split) if d.split else "as declared"), steps(d.preprocess)]
            for k, d in suite.datasets.items()
        ],
    )
    known = metrics()
    yield Table(
        "metrics",
        ["metric", "what", "unit", "settings"],
        [
            [
                k,
                e.summary if (e := known.get(suite.metric_name(k))) else "unknown",
                e.unit if e else "",
                _pairs(m.settings),
            ]
            for k, m in suite.metrics.items()
        ],
    )
    if suite.protocol:
        yield Table(
            "protocol",
            ["item", "value", "status", "source"],
            [[p.item, p.value, p.status, p.source] for p in suite.protocol],
        )
    yield Table("claims", ["claim", "kind", "where", "text"], _claims(suite))
    costs = [cost(loaded, t) for t in suite.tiers]
    yield Table(
        "tiers",
        ["tier", "runs", "seeds", "wall time of one job", "deviations"],
        [[c["tier"], c["runs"], c["seeds"], c["text"], "; ".join(c["deviations"])] for c in costs],
        ["runs", "seeds"],
    )


def _reported(suite: Suite) -> Iterator[Table]:
    """The numbers that the paper, or somebody else, prints: a table for each of theirs and each dataset."""
    tables: dict[tuple[str, str, str], list[Reported]] = {}
    for r in suite.reported:
        tables.setdefault((r.table, r.dataset, r.source if r.own else f"{r.source}, {r.origin}"), []).append(r)
    for (table, dataset, source), part in tables.items():
        metrics = list(dict.fromkeys(r.metric for r in part))
        values = {(r.method, r.metric): f"{r.value:g}" + (f" ± {r.std:g}" if r.std is not None else "") for r in part}
        yield Table(
            f"reported: {table}, {dataset} ({source})",
            ["method", *metrics],
            [[m, *(values.get((m, k), "") for k in metrics)] for m in dict.fromkeys(r.method for r in part)],
            metrics,
        )


def _claims(suite: Suite) -> list[list[str]]:
    """A row for each claim; those that say the same of many cells share one."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for c in suite.claims:
        alike.setdefault((_kind(c), c.where, c.text), []).append(c.id)
    return [
        [ids[0] if len(ids) == 1 else f"{ids[0]} … ({len(ids)} claims)", kind, where, text]
        for (kind, where, text), ids in alike.items()
    ]


def cost(loaded: LoadedSuite, tier: Tier) -> dict[str, Any]:
    """Runs of a tier and their wall time: measured where records are, else as the suite says."""
    spec, runs = loaded.suite.tiers[tier], plan(loaded, tier)
    found = collect(runs).found
    seconds = [r.cost.wall_seconds for r in found.values() if r.status == "finished"]
    text = spec.cost or "not measured yet"
    if seconds:
        total = sum(seconds) / len(seconds) * len(runs)
        kind = "measured" if len(seconds) == len(runs) else f"from {len(seconds)} measured runs"
        text = f"{_duration(total)} ({kind})"
    return {
        "tier": tier,
        "runs": len(runs),
        "seeds": len(spec.seeds),
        "text": text,
        "seconds": sum(seconds) if seconds else None,
        "deviations": spec.deviations,
    }


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _pairs(values: Any) -> str:
    return ", ".join(f"{k}={v}" for k, v in values.items())


def _kind(claim: Claim) -> str:
    """The kind of a claim, how it is pooled, and whether it is a sanity check."""
    pooled = f", {claim.pool} over {len(claim.cells)}" if isinstance(claim, PooledClaim) else ""
    return kind_of(claim) + pooled + (", sanity" if claim.sanity else "")
