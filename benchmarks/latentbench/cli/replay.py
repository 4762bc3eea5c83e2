"""`latentbench replay`"""

from __future__ import annotations

import click

from latentbench.cli.options import examples, format_option, print_json, print_table
from latentbench.core.console import display, note, printable


@click.command(
    epilog=examples(
        "replay vae-k1-1l--mnist--cpu--s0",
        "replay results/reference/iwae/vae-k1-1l--mnist--cpu--s0--0123456789.json",
        "replay somebody-sent-me-this.json --today",
    ),
)
@click.argument("run")
@click.option("--device", type=click.Choice(["as-recorded", "cpu", "cuda"]), default="as-recorded", show_default=True)
@click.option("--today", is_flag=True, help="Use the code as it is, also where that of the record's revision is here.")
@click.option(
    "--trust-revision",
    is_flag=True,
    help="Run the code of the record's revision also where that is not in the history of what is checked out.",
)
@format_option("table", "json")
@click.pass_context
def command(ctx: click.Context, run: str, device: str, today: bool, trust_revision: bool, form: str) -> None:
    """Run a record again and compare: the same bits, or how far it drifted against the spread over seeds.

    RUN is a run's identifier (or its start), its folder, or a record's file, from anybody. The run is rebuilt from what
    the record says: specification, seed, thread count, and the code of its git revision where that is in the history
    of what is checked out and is the code that the record names; other code is run with --trust-revision alone.
    Exit code 0: no number lies outside the spread over seeds; 1: one does.
    """
    from dataclasses import asdict

    from latentbench.audit.rebuild import find_record, rebuild
    from latentbench.audit.replay import replay
    from latentbench.cli.devices import device_for
    from latentbench.cli.runbars import RunBars

    path, record = find_record(run)
    spec = rebuild(record, path)
    with display(quiet=False) as screen:
        bars = RunBars(screen)
        chosen = device_for(record.provenance.device if device == "as-recorded" else device)
        found = replay(spec, record, device=chosen, today=today, trust_revision=trust_revision, report=bars.show)
        bars.close(spec.cell)
    for remark in found.notes:
        note(remark)
    if form == "json":
        print_json(asdict(found) | {"identical": found.identical, "held": found.held})
    else:
        rows = [
            [
                d.metric,
                d.unit,
                _number(d.before),
                _number(d.now),
                _difference(d.before, d.now),
                _number(d.spread),
                d.word,
            ]
            for d in found.metrics
        ]
        columns = ["metric", "unit", "recorded", "replayed", "difference", "SD over seeds", ""]
        print_table(f"{printable(found.run_id)}, replayed with {found.code}", columns, rows, right=columns[2:6])
        weights = {None: "", True: "; weights with the same bits", False: "; weights with other bits"}[found.weights]
        click.echo(("identical bits in every number" if found.identical else _drift(found.held)) + weights)
    ctx.exit(0 if found.held else 1)


def _drift(held: bool) -> str:
    if not held:
        return "it does not come out again"
    return "other bits, within the spread over seeds or what rounding makes of them"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}"


def _difference(before: float | None, now: float | None) -> str:
    return "" if before is None or now is None else f"{now - before:.3g}"
