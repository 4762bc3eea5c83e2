"""`latentbench verify`"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentbench.cli.options import examples, format_option, print_json
from latentbench.core.console import note, printable
from latentbench.core.paths import shown

if TYPE_CHECKING:
    from latentbench.audit.verify import Checked


#: Records whose numbers are evaluated again unasked, and the seconds that one of them may have taken.
SAMPLE, SECONDS = 5, 20.0


@click.command(
    epilog=examples(
        "verify",
        "verify results-from-elsewhere --sample 5",
        "verify results-from-elsewhere --sample all --format json",
    ),
)
@click.argument("results", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--sample",
    metavar="N|all",
    help=f"Evaluate the stored weights of so many runs again.  [default: {SAMPLE}, of those that take seconds]",
)
@click.option("--seed", default=0, show_default=True, help="Of the choice of that sample.")
@format_option("table", "json")
@click.pass_context
def command(ctx: click.Context, results: Path | None, sample: str | None, seed: int, form: str) -> None:
    """Check a results folder that somebody sends (or one's own): does everything in it hang together?

    For each record: its seal, the chain from specification, data and code to fingerprint and name, the hashes of
    weights and curve, the identity of each metric; over all of them, numbers that no run could have produced; and the
    seal of each declaration of interim analyses. Whoever edits a number can seal it anew: only stored weights tell.
    Those of a sample of the runs are evaluated again. Nothing in the folder is executed. Exit code 1: faults.
    """
    from latentbench.audit.verify import verify
    from latentbench.core.paths import results_dir

    folder = results or results_dir()
    found = verify(
        folder,
        sample=SAMPLE if sample is None else _count(sample),
        seed=seed,
        within=SECONDS if sample is None else None,
        tell=lambda run: note(f"evaluating {printable(run)}"),
    )
    faulty = [c for c in found if c.faults]
    if form == "json":
        print_json([vars(c) | {"path": shown(c.path)} for c in found])
        ctx.exit(1 if faulty else 0)
    for checked in faulty:
        for fault in checked.faults:
            click.echo(printable(f"{shown(checked.path)}: {fault}"))
    remarks: dict[str, int] = {}
    for checked in found:
        for remark in checked.remarks:
            remarks[remark] = remarks.get(remark, 0) + 1
    records = sum(c.kind == "record" for c in found)
    for remark, times in sorted(remarks.items(), key=lambda r: -r[1]):
        note(f"{times} of {records}: {printable(remark)}")
    declared = sum(c.kind == "declaration" for c in found)
    analyses = f" and {declared} declaration{'s' if declared > 1 else ''} of interim analyses" if declared else ""
    click.echo(f"{records} records{analyses}, {len(faulty)} with faults; {_evaluated(found)}")
    ctx.exit(1 if faulty else 0)


def _evaluated(found: Sequence[Checked]) -> str:
    """How many records' numbers came out of their weights again, and what that says of the others."""
    again = sum(bool(c.evaluated) for c in found)
    left = sum(c.has_weights and not c.evaluated and not c.faults for c in found)
    if not again:
        said = "no number was evaluated again from weights, so an edit that was sealed anew would not show"
    else:
        said = f"the numbers of {again} were evaluated again from their weights, those of the others were not"
    return said + (f" (--sample all evaluates {left} more)" if left else "")


def _count(text: str) -> int:
    from latentbench.core.bounds import whole_number
    from latentbench.core.errors import UserError

    if text == "all":
        return -1
    if (number := whole_number(text)) is None:
        raise UserError(f"{text!r} is no number of runs", where="--sample", fix="give a number, or all")
    return number
