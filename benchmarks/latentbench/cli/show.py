"""`latentbench show`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from latentbench.cli.options import examples, format_option, print_json, print_table
from latentbench.cli.render import said
from latentbench.core.console import printable

if TYPE_CHECKING:
    from latentbench.spec.claims import Claim, Tier
    from latentbench.spec.loading import LoadedSuite
    from latentbench.spec.papers import PaperEntry
    from latentbench.spec.suite import Reported, Suite


@click.command(epilog=examples("show iwae", "show iwae --format json", "show 1312.6114", "show vq-vae"))
@click.argument("paper")
@format_option("table", "json")
def command(paper: str, form: str) -> None:
    """A paper's card: what came out, reported numbers, methods, data, metrics, protocol, claims, cost per tier, notes.

    PAPER is a suite, or a paper of the catalogue by its id, arXiv number or title; one that has no suite yet shows what
    the catalogue says of it.
    """
    from latentbench.core.errors import UserError, did_you_mean
    from latentbench.spec.files import notes, suite_files
    from latentbench.spec.loading import load_suite
    from latentbench.spec.papers import find_paper

    name = paper
    if not paper.endswith((".yaml", ".yml")) and paper not in (known := suite_files()):
        try:
            entry = find_paper(paper)
        except UserError as e:
            from latentbench.spec.papers import catalogue

            fix = did_you_mean(paper, {*known, *(p.id for p in catalogue())}, "`latentbench list papers --search WORD`")
            raise UserError(e.what, where=e.where, fix=fix) from None
        if entry.id not in known:
            print_json(entry.model_dump(mode="json")) if form == "json" else _entry(entry)
            return
        name = entry.id
    loaded = load_suite(name)
    if form == "json":
        costs = [cost(loaded, t) for t in loaded.suite.tiers]
        print_json({**loaded.suite.model_dump(mode="json"), "cost": costs, "notes": notes(loaded.path)})
        return
    _card(loaded)


def _entry(entry: PaperEntry) -> None:
    """What the catalogue says of a paper without a suite."""
    said(entry.title, style="bold")
    facts = [entry.method, str(entry.year) if entry.year else None, f"family {entry.family}"]
    facts += [f"scope {entry.scope}", f"priority {entry.priority}"]
    said(", ".join(filter(None, facts)))
    if entry.arxiv:
        said(f"https://arxiv.org/abs/{entry.arxiv}")
    for name, text in (("claim", entry.claim), ("smallest honest experiment", entry.small)):
        if text:
            said(f"\n{name}", style="bold")
            said(text)
    for name, values in (("datasets", entry.datasets), ("metrics", entry.metrics)):
        if values:
            said(f"{name}: {', '.join(values)}")
    if entry.reported:
        print_table("stated in the abstract", ["what", "value"], [[r.what, r.value] for r in entry.reported])
    said(f"\nno suite yet; `latentbench new suite {entry.id}` begins one with all of this filled in", style="dim")


def _card(loaded: LoadedSuite) -> None:
    from latentbench.spec.files import notes

    suite, paper = loaded.suite, loaded.suite.paper
    authors = ", ".join(paper.authors[:4]) + (" et al." if len(paper.authors) > 4 else "")
    click.secho(printable(paper.title), bold=True)
    lines = [f"{authors}, {paper.year}" + (f", {paper.venue}" if paper.venue else "")]
    lines.append(f"suite {suite.id}, version {suite.version}" + (f", arXiv {paper.arxiv}" if paper.arxiv else ""))
    if paper.code:
        lines.append(f"authors' code: {paper.code.url} (licence: {paper.code.licence})")
    for line in lines:
        said(line)
    if suite.summary:
        said(" ".join(["", *suite.summary.split()]).lstrip())
    _answers(loaded)
    _reported(suite)
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
        _claims(suite),
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


def _answers(loaded: LoadedSuite) -> None:
    """What came out so far."""
    from latentbench.cli.answering import print_answers
    from latentbench.results.answers import answers
    from latentbench.results.gather import best

    if (found := best(loaded)) is not None:
        click.secho("\nwhat came out so far", bold=True)
        print_answers(answers(found), title=False)


def _reported(suite: Suite) -> None:
    """The numbers that the paper, or somebody else, prints: a table for each of theirs and each dataset."""
    tables: dict[tuple[str, str, str], list[Reported]] = {}
    for r in suite.reported:
        tables.setdefault((r.table, r.dataset, r.source if r.own else f"{r.source}, {r.origin}"), []).append(r)
    for (table, dataset, source), part in tables.items():
        metrics = list(dict.fromkeys(r.metric for r in part))
        values = {(r.method, r.metric): f"{r.value:g}" + (f" ± {r.std:g}" if r.std is not None else "") for r in part}
        print_table(
            f"reported: {table}, {dataset} ({source})",
            ["method", *metrics],
            [[m, *(values.get((m, k), "") for k in metrics)] for m in dict.fromkeys(r.method for r in part)],
            right=metrics,
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
