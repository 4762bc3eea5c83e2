"""`latentbench verify`"""

from __future__ import annotations

from pathlib import Path

import click

from latentbench.cli.options import examples, format_option, print_json
from latentbench.core.console import note, printable
from latentbench.core.paths import shown


@click.command(
    epilog=examples(
        "verify",
        "verify results-from-elsewhere --sample 5",
        "verify results-from-elsewhere --sample all --format json",
    ),
)
@click.argument("results", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--sample", default="0", metavar="N|all", help="Evaluate the stored weights of so many runs again.")
@click.option("--seed", default=0, show_default=True, help="Of the choice of that sample.")
@format_option("table", "json")
@click.pass_context
def command(ctx: click.Context, results: Path | None, sample: str, seed: int, form: str) -> None:
    """Check a results folder that somebody sends (or one's own): does everything in it hang together?

    For each record: its seal, the chain from specification, data and code to fingerprint and name, the hashes of
    weights and curve, the identity of each metric; over all of them, numbers that no run could have produced; and the
    seal of each declaration of interim analyses. With --sample, stored weights are evaluated again and compared.
    Nothing in the folder is executed. Exit code 1: faults.
    """
    from latentbench.audit.verify import verify
    from latentbench.core.paths import results_dir

    folder = results or results_dir()
    found = verify(folder, sample=_count(sample), seed=seed, tell=lambda run: note(f"evaluating {printable(run)}"))
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
    evaluated = sum(bool(c.evaluated) for c in found)
    again = f", {evaluated} evaluated again from their weights" if evaluated else ""
    declared = sum(c.kind == "declaration" for c in found)
    analyses = f" and {declared} declaration{'s' if declared > 1 else ''} of interim analyses" if declared else ""
    click.echo(f"{records} records{analyses}, {len(faulty)} with faults{again}")
    ctx.exit(1 if faulty else 0)


def _count(text: str) -> int:
    from latentbench.core.bounds import whole_number
    from latentbench.core.errors import UserError

    if text == "all":
        return -1
    if (number := whole_number(text)) is None:
        raise UserError(f"{text!r} is no number of runs", where="--sample", fix="give a number, or all")
    return number
