"""`latentbench validate`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentbench.cli.options import examples
from latentbench.core.console import note, printable
from latentbench.core.errors import UserError

if TYPE_CHECKING:
    from latentbench.spec.claims import Tier
    from latentbench.spec.loading import LoadedSuite


#: Faults that are said; a suite that has more is told the number of the rest.
SHOWN = 200


@click.command(
    epilog=examples(
        "validate                          every suite",
        "validate iwae my/suite.yaml       some, by id or path",
    ),
)
@click.argument("suites", nargs=-1)
@click.option("--strict", is_flag=True, help="Exit with 2 for a warning, too.")
@click.pass_context
def command(ctx: click.Context, suites: tuple[str, ...], strict: bool) -> None:
    """Check suites without running them: form, names, capabilities, claims, and that every model can be built.

    Prints a line for each fault, with file and line; exits with 2 if there is any. What can be run and could be better
    is a warning: claims that their seeds or cells cannot settle, that a model which has learned nothing would meet, or
    that cite a table without a number; methods of which nothing is said; likelihoods without a known optimum.
    """
    from latentbench.spec.loading import find_suite, suite_files, suite_id

    paths = [find_suite(s) for s in suites] if suites else list(suite_files().values())
    faults: list[UserError] = []
    warnings: list[UserError] = []
    for path in paths:
        found = check(path)
        faults += found
        if not found:
            warnings += advised(path)
            click.echo(printable(f"ok: {suite_id(path)}"))
    for warning in warnings:
        note(f"warning: {warning}")
    for fault in faults[:SHOWN]:
        note(f"error: {fault}")
    if (more := len(faults) - SHOWN) > 0:
        note(f"error: {more} more faults")
    ctx.exit(2 if faults or (strict and warnings) else 0)


def advised(path: Path) -> list[UserError]:
    """What could be better in a suite without faults."""
    from latentbench.spec.advice import advice
    from latentbench.spec.loading import load_suite

    return advice(load_suite(path))


def check(path: Path) -> list[UserError]:
    """All faults of one suite file. Where its form is wrong, what it says cannot be checked yet."""
    from latentbench.planning.stated import departures
    from latentbench.spec.loading import load_suite
    from latentbench.spec.validation import problems

    try:
        loaded = load_suite(path)
    except UserError as e:
        return [e, *e.also]
    found = problems(loaded)
    if not found:
        found = list(departures(loaded))
    lines = {fault.line for fault in found}
    lines |= {None} if found else set()
    for tier in loaded.suite.tiers:  # what is at fault already would only be found wrong again in other words
        found += [fault for fault in _built(loaded, tier, faulty=bool(lines)) if fault.line not in lines]
    return list({str(f): f for f in found}.values())


def _built(loaded: LoadedSuite, tier: Tier, *, faulty: bool) -> list[UserError]:
    """What planning a tier and building its models say against it.

    Of a suite known to be `faulty`, methods are tried one by one, so that one that cannot be planned hides no other.
    """
    from latentbench.planning.plan import plan
    from latentbench.running.preflight import check_models

    try:
        return check_models(loaded, plan(loaded, tier))
    except UserError as e:
        found = [e]
    for method in loaded.suite.methods if faulty else ():
        try:
            found += check_models(loaded, plan(loaded, tier, methods=[method], seeds=[0]))
        except UserError as e:
            found.append(e)
    return found
