"""`python -m perf`: ratios taken side by side within one run, as a table and as JSON for later comparison."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does

import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import click
from rich.console import Console

from perf import report
from perf.figures import Benchmark, Figure
from perf.machine import environment

#: name -> the function that measures it.
BENCHMARKS = {
    "startup": "perf.startup:startup",
    "planning": "perf.planning:planning",
    "decision": "perf.planning:decision",
    "leaderboard": "perf.planning:leaderboard",
    "packed": "perf.planning:packed",
    "site": "perf.site:site",
    "loop": "perf.harness:loop",
    "kinds": "perf.kinds:kinds",
    "stacking": "perf.stacking:stacking",
    "compiling": "perf.compiling:compiling",
    "run": "perf.whole:run",
    "scheduling": "perf.scheduling:scheduling",
    "jobs": "perf.jobs:jobs",
    "pythae": "perf.pythae_vae:pythae",
    "pipeline": "perf.pipeline:pipeline",
    "data": "perf.data:data",
    "metrics": "perf.metrics:metrics",
}


@click.command()
@click.option(
    "--only", multiple=True, type=click.Choice(list(BENCHMARKS)), help="Only this benchmark; may be repeated."
)
@click.option("--quick", is_flag=True, help="Smaller sizes; not to be compared with a whole run.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Where the figures are written.")
@click.option("--compare", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="An earlier run's JSON.")
def main(only: tuple[str, ...], quick: bool, path: Path | None, compare: Path | None) -> None:
    """Run the benchmarks and print each figure with its target; exit code 1 where a target is missed."""
    console = Console(width=None if sys.stdout.isatty() else 180)
    before = _read(compare, quick) if compare else None
    started = datetime.now(UTC)
    machine = environment()
    _describe(machine)
    path = path or Path("results/bench") / f"{started:%Y-%m-%dT%H%M%S}.json"
    figures: list[Figure] = []
    for name in only or BENCHMARKS:
        click.echo(f"{name} ...", err=True)
        module, _, function = BENCHMARKS[name].partition(":")
        benchmark: Benchmark = getattr(import_module(module), function)
        clock = time.monotonic()
        figures += benchmark(quick)
        click.echo(f"{name}: {time.monotonic() - clock:.0f} s", err=True)
        machine["load_average_after"] = [round(x, 2) for x in os.getloadavg()]
        report.write(path, figures, machine, quick=quick, date=started.isoformat(timespec="seconds"))
    report.show(figures, console, before)
    click.echo(f"load average now {machine['load_average_after']}; written to {path}")
    missed = [f.name for f in figures if f.met is False]
    if missed:
        click.echo(f"{len(missed)} targets missed: {', '.join(missed)}")
        sys.exit(1)


def _read(path: Path, quick: bool) -> dict[str, Figure]:
    try:
        figures, rest = report.read(path)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise click.ClickException(
            f"{path}: {e or type(e).__name__} (give a file that `python -m perf` wrote)"
        ) from None
    if rest.get("quick") is not quick:
        raise click.ClickException(f"{path}: quick and whole runs are not compared (run it the same way)")
    return figures


def _describe(machine: dict[str, object]) -> None:
    click.echo(
        f"{machine['cpu']}, {machine['cores']} cores, load average {machine['load_average']}, "
        f"{machine['threads']} torch threads, OMP_NUM_THREADS={machine['omp_num_threads']}"
    )
    packages = machine["packages"]
    assert isinstance(packages, dict)
    click.echo(f"Python {machine['python']}, " + ", ".join(f"{k} {v}" for k, v in packages.items()))


if __name__ == "__main__":
    main()
