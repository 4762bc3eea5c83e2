"""`latentbench track`"""

from __future__ import annotations

from typing import Any

import click

from latentbench.cli.options import examples
from latentbench.core.console import note


@click.group(epilog=examples("track sync", "track sync iwae --weights"))
def command() -> None:
    """Dashboards: what was recorded, told to wandb."""


@command.command(epilog=examples("track sync", "track sync iwae --weights", "track sync --mode offline --smoke"))
@click.argument("suites", nargs=-1)
@click.option("--mode", type=click.Choice(["online", "offline"]), default="online", show_default=True)
@click.option("--smoke", is_flag=True, help="Smoke runs, too.")
@click.option("--weights", is_flag=True, help="Final weights as artifacts.")
def sync(suites: tuple[str, ...], mode: Any, smoke: bool, weights: bool) -> None:
    """Upload the runs of the results folder that wandb has not been told of: curve, pictures, numbers, configuration.

    Records are what is read, so those made offline or before wandb was set up are uploaded as well. A second time
    uploads nothing twice.
    """
    from latentbench.core.paths import results_dir
    from latentbench.scheduling.track_sync import sync as tell_all

    done = tell_all(results_dir(), suites, mode, smoke=smoke, weights=weights, tell=lambda run: note(f"wandb: {run}"))
    left = f", {done.smoke} smoke runs left out (--smoke)" if done.smoke else ""
    click.echo(f"{done.told} run{'s' if done.told != 1 else ''} told, {done.before} told before{left}")
