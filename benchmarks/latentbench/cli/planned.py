"""A plan as a terminal shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from latentbench.cli.options import print_table
from latentbench.cli.planned_json import as_json
from latentbench.core.console import note, printable
from latentbench.records.archive import is_reference
from latentbench.results.interim import schedule_of

if TYPE_CHECKING:
    from latentbench.results.budget import ClaimNeeds, Picked, SuiteNeeds

UNIT = {"cpu": "core-hours on a CPU", "cuda": "GPU hours"}
STATES = {"settled": "settled", "unlikely": "more seeds are not likely to settle it"}


def hours(value: float | None) -> str:
    """Two digits in the unit that suits: ``40 s`` (1 s at least), ``12 min``, ``3.4 h``, ``1,200 h``; ``?`` where
    unknown."""
    if value is None:
        return "?"
    if value == 0:
        return "0 s"
    if value < 1 / 3600:
        return "1 s"
    if value < 1.5 / 60:
        return f"{_digits(3600 * value)} s"
    return f"{_digits(60 * value)} min" if value < 1.5 else f"{_digits(value)} h"


def spread(low: float | None, high: float | None) -> str:
    """A range of hours, ``33 to 74 h``."""
    if low is None or high is None:
        return ""
    a, b = hours(low), hours(high)
    (x, unit), (_, other) = a.split(), b.split()
    if a == b:
        return a
    return f"{x} to {b}" if unit == other else f"{a} to {b}"


def size(count: float | None) -> str:
    if count is None:
        return "?"
    return f"{_digits(count / 1e9)} GB" if count >= 1e9 else f"{_digits(max(count / 1e6, 0.01))} MB"


def _digits(value: float) -> str:
    """Two significant digits below 100, thousands parted above."""
    if value >= 99.5:
        step = 10 ** (len(str(int(value))) - 2)
        return f"{round(value / step) * step:,}"
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def print_needs(needs: SuiteNeeds, device: str) -> None:
    """A suite's cells and claims, with their costs."""
    suite, tier = needs.found.loaded.suite, needs.found.tier
    if needs.to_do:
        print_table(
            f"{suite.id}, version {suite.version}, tier {tier}: runs to do, in {UNIT[device]}",
            ["dataset", "method", "to do", "a run", "all", "range", "from"],
            _cells(needs),
            right=("to do", "a run", "all"),
        )
    spent, low, high, missing = needs.cost(needs.to_do)
    known = len(needs.to_do) - missing
    parts = [f"{len(needs.found.runs) - len(needs.to_do)} of {len(needs.found.runs)} runs done"]
    if given := sum(map(is_reference, needs.found.collected.files.values())):
        parts[0] += f", {given} of them by reference records, which `latentbench run` without --budget makes anew here"
    if known:
        parts.append(f"{known} cost about {hours(spent)} ({spread(low, high)})")
    if missing:
        parts.append(f"{missing} cost what nobody has measured; --measure times them here")
    click.echo(printable(f"{suite.id}: {'; '.join(parts)}"))
    if needs.found.collected.stale_code:
        note(
            f"{len(needs.found.collected.stale_code)} records of {suite.id} count as done, though other code made "
            "them than today's: `latentbench run` without --budget makes them anew"
        )
    if needs.to_declare and needs.found.declared is not None:
        analyses = schedule_of(needs.found.declared).within(needs.found.declared.cap)
        at = ", ".join(str(analysis.seeds) for analysis in analyses)
        note(
            f"{suite.id}: judged and planned here as `run --budget` will judge, sequentially at {at} seeds, "
            "then at twice as many each time"
        )
    if needs.claims:
        click.echo()
        print_table(
            f"what a verdict costs: {suite.id}, tier {tier}",
            ["claim", "now", "seeds", "runs", "costs", "range"],
            [_claim(needs, c) for c in needs.claims],
            right=("runs", "costs"),
        )
    click.echo()


def _cells(needs: SuiteNeeds) -> list[list[Any]]:
    """One row for each method on each dataset; those without a cost are gathered by dataset and reason."""
    to_do = Counter((r.method, r.dataset) for r in needs.to_do)
    rows: list[list[Any]] = []
    blank: dict[tuple[str, str], list[str]] = {}
    for (method, dataset), n in to_do.items():
        each = needs.estimates[method, dataset]
        if each.hours is None or each.range_hours is None:
            blank.setdefault((dataset, each.text), []).append(method)
            continue
        low, high = each.range_hours
        rows.append(
            [dataset, method, n, hours(each.hours), hours(n * each.hours), spread(n * low, n * high), each.text]
        )
    for (dataset, why), methods in blank.items():
        n = sum(to_do[m, dataset] for m in methods)
        named = ", ".join(methods) if len(methods) <= 3 else f"{len(methods)} methods"
        rows.append([dataset, named, n, "?", "?", "", f"unknown: {why}"])
    return rows


def _claim(needs: SuiteNeeds, claim: ClaimNeeds) -> list[Any]:
    verdict = claim.verdict
    if claim.state != "open":
        return [verdict.claim, verdict.verdict, str(verdict.n), 0, "", STATES[claim.state]]
    spent, low, high, missing = needs.cost(claim.runs)
    seeds = f"{verdict.n} of {claim.seeds}{'' if claim.pilot else ' (pilot)'}"
    if missing:
        return [verdict.claim, verdict.verdict, seeds, len(claim.runs), "?", f"unknown: {missing} of the runs"]
    return [verdict.claim, verdict.verdict, seeds, len(claim.runs), hours(spent), spread(low, high)]


def print_totals(needs: Sequence[SuiteNeeds], device: str, cores: int) -> None:
    """All suites together: hours, wall time here, disk."""
    total = as_json(needs, device, None)["total"]
    known = total["to_do"] - total["unknown_runs"]
    if not total["to_do"]:
        click.echo("nothing is left to run")
        return
    text = f"{total['to_do']} runs to do"
    if known:
        which = f"{known} of them" if total["unknown_runs"] else "they"
        text += f"; {which} take about {hours(total['hours'])} ({spread(total['hours_low'], total['hours_high'])})"
        if device == "cpu" and cores > 1:
            text += f", {hours(total['hours'] / cores)} by the clock on {cores} cores"
        text += f", and {size(total['disk_bytes'])} of disk for records and weights"
    if total["unknown_runs"]:
        text += f"; {total['unknown_runs']} cost what nobody has measured"
    if total["data_bytes"]:
        text += f"; data still to prepare: about {size(total['data_bytes'])}"
    click.echo(printable(text))


def print_picked(choice: Picked) -> None:
    """What a budget buys, and what it leaves out."""
    click.echo()
    if not choice.claims and not choice.left_out:
        click.echo("no claim is open that more runs could settle")
        return
    ways = "no choice settles more" if choice.exact else "the best found in the time that the search had"
    cost = (
        f"{len(choice.runs)} runs, about {hours(choice.hours)} ({spread(choice.low, choice.high)}), "
        if choice.runs
        else ""
    )
    click.echo(f"budget {hours(choice.budget)}: {cost}{len(choice.claims)} claims ({ways})")
    if blind := sum(not c.pilot for c in choice.claims):
        click.echo(
            f"for {blind} of them no pilot has said how many seeds they need; the tier's own, or three, may not do"
        )
    if choice.claims:
        print_table(
            "bought",
            ["suite", "claim", "seeds", "runs"],
            [[c.suite, c.verdict.claim, c.seeds, len(c.runs)] for c in choice.claims],
            right=("seeds", "runs"),
        )
    if choice.left_out:
        print_table(
            "left out",
            ["suite", "claim", "would cost", "beside those bought"],
            [[x.claim.suite, x.claim.verdict.claim, hours(x.alone), hours(x.further)] for x in choice.left_out],
            right=("would cost", "beside those bought"),
        )
    if choice.runs:
        click.echo("`latentbench run` with the same suites, filters, tier and --budget runs them")
