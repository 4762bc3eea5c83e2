"""`latentbench show`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from latentbench.cli.options import examples, format_option, print_json, print_table
from latentbench.core.console import printable

if TYPE_CHECKING:
    from latentbench.spec.claims import Claim, Tier
    from latentbench.spec.loading import LoadedSuite


@click.command(epilog=examples("show iwae", "show iwae --format json"))
@click.argument("suite")
@format_option("table", "json")
def command(suite: str, form: str) -> None:
    """A paper's card: methods, data, metrics, protocol, claims, what each tier costs, and notes on what came out."""
    from latentbench.spec.files import notes
    from latentbench.spec.loading import load_suite

    loaded = load_suite(suite)
    if form == "json":
        costs = [cost(loaded, t) for t in loaded.suite.tiers]
        print_json({**loaded.suite.model_dump(mode="json"), "cost": costs, "notes": notes(loaded.path)})
        return
    _card(loaded)


def _card(loaded: LoadedSuite) -> None:
    from latentbench.spec.files import notes

    suite, paper = loaded.suite, loaded.suite.paper
    authors = ", ".join(paper.authors[:4]) + (" et al." if len(paper.authors) > 4 else "")
    click.secho(printable(paper.title), bold=True)
    lines = [f"{authors}, {paper.year}" + (f", {paper.venue}" if paper.venue else "")]
    lines.append(f"suite {suite.id}, version {suite.version}" + (f", arXiv {paper.arxiv}" if paper.arxiv else ""))
    if paper.code:
        lines.append(f"authors' code: {paper.code.url} (licence: {paper.code.licence})")
    if suite.summary:
        lines += ["", " ".join(suite.summary.split())]
    click.echo(printable("\n".join([*lines, ""])))
    print_table(
        "methods",
        ["method", "label", "model", "parameters"],
        [
            [k, (m.label or "") + (" (baseline)" if m.baseline else ""), m.model, _pairs(m.params)]
            for k, m in suite.methods.items()
        ],
    )
    print_table(
        "datasets",
        ["dataset", "source", "splits", "preprocessing"],
        [
            [k, d.source or k, d.protocol or (_pairs(d.split) if d.split else "as declared"), _steps(d.preprocess)]
            for k, d in suite.datasets.items()
        ],
    )
    from latentbench.spec.registry import metrics

    table = metrics()
    print_table(
        "metrics",
        ["metric", "what", "unit", "settings"],
        [
            [
                k,
                e.summary if (e := table.get(suite.metric_name(k))) else "unknown",
                e.unit if e else "",
                _pairs(m.settings),
            ]
            for k, m in suite.metrics.items()
        ],
    )
    if suite.protocol:
        print_table(
            "protocol",
            ["item", "value", "status", "source"],
            [[p.item, p.value, p.status, p.source] for p in suite.protocol],
        )
    print_table(
        "claims",
        ["claim", "kind", "where", "text"],
        [[c.id, _kind(c), c.where, c.text] for c in suite.claims],
    )
    costs = [cost(loaded, t) for t in suite.tiers]
    print_table(
        "tiers",
        ["tier", "runs", "seeds", "wall time of one job", "deviations"],
        [[c["tier"], c["runs"], c["seeds"], c["text"], "; ".join(c["deviations"])] for c in costs],
        right=("runs", "seeds"),
    )
    if text := notes(loaded.path):
        click.secho("\nwhat came out", bold=True)
        click.echo(printable(text))


def cost(loaded: LoadedSuite, tier: Tier) -> dict[str, Any]:
    """Runs of a tier and their wall time: measured where records are, else as the suite says."""
    from latentbench.planning.plan import plan
    from latentbench.records.archive import collect

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


def _steps(steps: list[Any]) -> str:
    return ", ".join(s if isinstance(s, str) else _pairs(s) for s in steps) or "none"


def _kind(claim: Claim) -> str:
    """The kind of a claim, how it is pooled, and whether it is a sanity check."""
    from latentbench.spec.claims import PooledClaim, kind_of

    pooled = f", {claim.pool} over {len(claim.cells)}" if isinstance(claim, PooledClaim) else ""
    return kind_of(claim) + pooled + (", sanity" if claim.sanity else "")
