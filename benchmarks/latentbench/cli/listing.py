"""`latentbench list`"""

from __future__ import annotations

from typing import Any

import click

from latentbench.cli.options import examples, format_option, print_json, print_table
from latentbench.core.console import note
from latentbench.core.errors import UserError, did_you_mean

#: Columns that a narrow terminal goes without.
MINOR = ("version", "tiers", "priority", "methods", "scope", "claims", "settings", "parameters")
KINDS = ["papers", "suites", "models", "datasets", "metrics"]


@click.command(
    "list",
    epilog=examples(
        "list",
        "list papers --family vae --priority 1",
        "list papers --search 'importance weighted' --state 'verdict at cpu'",
        "list datasets --search mnist",
        "list metrics --format json",
    ),
)
@click.argument("kind", type=click.Choice(KINDS), default="suites")
@click.option("--family", help="Papers of one family (vae, flow, diffusion …).")
@click.option("--priority", type=click.IntRange(1, 4), help="Papers of one priority.")
@click.option("--state", help="Papers or suites of one state ('no suite', 'verdict at cpu' …); a part of it will do.")
@click.option("--search", metavar="WORDS", help="What has all these words in any column.")
@format_option("table", "json")
def command(
    kind: str, family: str | None, priority: int | None, state: str | None, search: str | None, form: str
) -> None:
    """What there is, as a table or as JSON. Without an argument: the suites."""
    rows = globals()[f"_{kind}"]()
    if kind == "papers":
        rows = _chosen(rows, family, priority)
    elif (family, priority) != (None, None):
        raise UserError("it is for papers", where="--family/--priority", fix="latentbench list papers ...")
    if state is not None:
        rows = _of_state(kind, rows, state)
    if search is not None:
        words = search.casefold().split()
        rows = [r for r in rows if all(w in " ".join(map(_shown, r.values())).casefold() for w in words)]
    if form == "json":
        print_json(rows)
        return
    columns = list(rows[0]) if rows else []
    print_table(
        f"{len(rows)} {kind if len(rows) != 1 else kind[:-1]}",
        columns,
        [[_shown(r[c]) for c in columns] for r in rows],
        minor=MINOR,
    )
    if kind in ("papers", "suites") and rows:
        _explain({r["state"] for r in rows})


def _chosen(rows: list[dict[str, Any]], family: str | None, priority: int | None) -> list[dict[str, Any]]:
    """The papers of one family and priority; those that have a suite come first, then by priority and id.

    Raises:
        UserError: there is no such family.
    """
    families = {r["family"] for r in rows}
    if family is not None and family not in families:
        raise UserError(f"no family {family!r}", where="--family", fix=did_you_mean(family, families))
    kept = [r for r in rows if family in (None, r["family"]) and priority in (None, r["priority"])]
    return sorted(kept, key=lambda r: (r["state"] == "no suite", r["priority"], r["id"]))


def _of_state(kind: str, rows: list[dict[str, Any]], state: str) -> list[dict[str, Any]]:
    """Those whose state has `state` in it.

    Raises:
        UserError: there is no such state, or these things have none.
    """
    from latentbench.spec.standing import LEGEND

    if kind not in ("papers", "suites"):
        raise UserError("it is for papers and suites", where="--state", fix="latentbench list papers ...")
    wanted = state.casefold()
    if not any(wanted in known for known in LEGEND):
        raise UserError(f"no state {state!r}", where="--state", fix=did_you_mean(state, LEGEND))
    return [r for r in rows if wanted in r["state"]]


def _explain(states: set[str]) -> None:
    from latentbench.spec.standing import LEGEND

    note("state: " + "; ".join(f"{state}: {text}" for state, text in LEGEND.items() if state in states))


def _shown(value: Any) -> str:
    if value == [None, None]:
        return ""
    return (
        ", ".join("…" if v is None else str(v) for v in value)
        if isinstance(value, list)
        else ""
        if value is None
        else str(value)
    )


def _papers() -> list[dict[str, Any]]:
    from latentbench.spec.standing import papers

    return papers()


def _suites() -> list[dict[str, Any]]:
    from latentbench.spec.standing import suites

    return suites()


def _models() -> list[dict[str, Any]]:
    from latentbench.spec.registry import models, parameters

    return [
        {"name": n, "summary": e.summary, "can": sorted(e.can), "parameters": sorted(parameters(e.target))}
        for n, e in sorted(models().items())
    ]


def _datasets() -> list[dict[str, Any]]:
    from latentbench.data.registry import load_entry, names

    return [
        {"name": e.name, "title": e.title, "kind": e.kind, "splits": [f"{k} {s.rows:,}" for k, s in e.splits.items()]}
        for e in map(load_entry, names())
    ]


def _metrics() -> list[dict[str, Any]]:
    from latentbench.spec.registry import metrics

    return [
        {
            "name": n,
            "summary": e.summary,
            "unit": e.unit,
            "better": e.better,
            "needs": [*e.needs, *e.data],
            "settings": [f"{k}={v}" for k, v in e.settings.items()],
            "within": list(e.within),
        }
        for n, e in sorted(metrics().items())
    ]
