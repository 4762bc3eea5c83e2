"""`python -m perf.kills`: SIGKILL at random moments of a sweep, then the same command again, until it is complete.

At the end every metric, learning curve (but for its seconds) and weight is compared, bit for bit, with a sweep that was
left alone. Suites are the shipped ones at tier smoke, with more epochs so that there is a training to kill.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click

from perf.disturbed import (
    CHECKPOINTING,
    EVALUATING,
    PHASES,
    PREPARING,
    RECORDING,
    STARTING,
    TRAINING,
    Place,
    Watch,
    await_phase,
    differences,
    end,
    kill,
    lengthen,
)

#: Suite -> epochs of its smoke tier, so that a run takes some seconds, and what of the suite takes part.
SUITES: dict[str, tuple[int, tuple[str, ...]]] = {
    "quickstart": (150, ("--dataset", "digits", "--method", "*vae", "--method", "*wae", "--method", "factorised")),
    "iwae": (12, ("--method", "vae-k1-1l", "--method", "iwae-k5-2l")),
    "real-nvp": (60, ("--method", "nice", "--method", "real-nvp")),
    "beta-tcvae": (60, ("--method", "vae", "--method", "tcvae-4")),
}
#: How often each phase is aimed at.
AIMS = {TRAINING: 6, CHECKPOINTING: 4, EVALUATING: 4, RECORDING: 4, STARTING: 2, PREPARING: 2}
#: Kills after which a sweep is left alone to end.
MOST_IN_A_ROW = 6
PATIENCE = 300.0


@dataclass
class Round:
    """One sweep, killed several times.

    Attributes:
        kills: the phase that each kill met.
        alone: of these, kills of the leading process alone, its workers being left as orphans.
        differences: from the undisturbed sweep; what was left lying about counts, too.
    """

    suite: str
    jobs: int
    kills: list[str] = field(default_factory=list)
    alone: int = 0
    differences: list[str] = field(default_factory=list)


def undisturbed(root: Path, suite: str) -> tuple[Place, dict[str, int]]:
    """A sweep that is left alone, and the steps of its trainings by cell."""
    epochs, options = SUITES[suite]
    place = Place(root, f"{suite}-alone", options)
    lengthen(place, suite, epochs)
    place.finish(suite, 1)
    return place, {cell: record.cost.steps for cell, (_, record) in place.records(suite).items()}


def one_round(
    root: Path, suite: str, jobs: int, reference: Place, steps: dict[str, int], most: int, rng: random.Random, name: str
) -> Round:
    """Kill a sweep up to `most` times, let it end, compare."""
    aims = rng.choices(list(AIMS), list(AIMS.values()), k=most)
    aims.sort(key=lambda aim: aim != PREPARING)  # there is data to prepare at the beginning only
    place = Place(root, name, reference.options, fresh=PREPARING in aims)
    watch, out = Watch(place, steps), Round(suite, jobs)
    for aim in aims:
        watch.begin()
        process = place.start(suite, jobs)
        try:
            if aim == STARTING:
                time.sleep(rng.uniform(0, 6.0))
            elif await_phase(process, watch, aim, PATIENCE):
                time.sleep(rng.uniform(0, 0.3 if aim in (TRAINING, EVALUATING) else 0.004))
            if process.poll() is not None:
                break  # it was done before it got there
            alone = jobs > 1 and rng.random() < 0.3
            met = watch.phases()
            kill(process, leader_alone=alone)
            out.kills.append(next(p for p in (aim, *reversed(PHASES)) if p in met))
            out.alone += alone
            if not alone:
                end(process)
        finally:
            if process.poll() is None:
                end(process)
    place.finish(suite, jobs)
    out.differences = differences(place, reference, suite) + [f"left behind: {p}" for p in place.leftovers()]
    shutil.rmtree(place.results)
    return out


def stops(root: Path, suite: str, steps: dict[str, int]) -> list[tuple[str, int, float, int]]:
    """Signal, jobs, seconds until the process has ended, exit code: asked to stop while it trains."""
    found = []
    for jobs in (1, 2):
        for one in (signal.SIGTERM, signal.SIGINT):
            place = Place(root, f"{suite}-{one.name}-{jobs}", SUITES[suite][1], every=60.0)
            watch = Watch(place, steps)
            watch.begin()
            process = place.start(suite, jobs)
            try:
                locks = place.results / "locks" / suite
                deadline = time.monotonic() + PATIENCE
                while not list(locks.glob("*.lock")) and time.monotonic() < deadline:
                    time.sleep(0.01)
                time.sleep(3.0)
                began = time.monotonic()
                if one is signal.SIGINT:
                    os.killpg(process.pid, one)  # as a terminal does
                else:
                    process.send_signal(one)
                code = process.wait(60)
                found.append((one.name, jobs, time.monotonic() - began, code))
            finally:
                end(process)
    return found


@click.command()
@click.option("--kills", "wanted", default=50, show_default=True, type=click.IntRange(1))
@click.option("--suites", default=",".join(SUITES), show_default=True, help="Those that need MNIST need its mirror.")
@click.option("--seed", default=0, show_default=True)
@click.option("--stops/--no-stops", "with_stops", default=True, help="Measure SIGTERM and Ctrl-C as well.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Where the figures are written.")
def main(wanted: int, suites: str, seed: int, with_stops: bool, path: Path | None) -> None:
    """Kill sweeps at random moments and check that they end in the same bits; exit code 1 if one does not."""
    names = suites.split(",")
    if unknown := set(names) - set(SUITES):
        raise click.BadParameter(f"not among {', '.join(SUITES)}: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="latentbench-kills-") as folder:
        sys.exit(_go(Path(folder), wanted, names, seed, with_stops, path))


def _go(root: Path, wanted: int, names: list[str], seed: int, with_stops: bool, path: Path | None) -> int:
    rng, rounds, began = random.Random(seed), list[Round](), time.monotonic()
    references = {}
    for name in names:
        references[name] = undisturbed(root, name)
        click.echo(f"{name}: left alone, {len(references[name][1])} runs, {time.monotonic() - began:.0f} s", err=True)
    done = 0
    while done < wanted and len(rounds) < 4 * wanted:
        suite = names[len(rounds) % len(names)]
        jobs = 1 + len(rounds) // len(names) % 2
        reference, steps = references[suite]
        most = min(MOST_IN_A_ROW, wanted - done)
        one = one_round(root, suite, jobs, reference, steps, most, rng, f"{suite}-{len(rounds)}")
        rounds.append(one)
        done += len(one.kills)
        verdict = "the same bits" if not one.differences else "; ".join(one.differences)
        click.echo(f"{done:3} kills, {time.monotonic() - began:.0f} s: {suite}, {jobs} jobs: {verdict}", err=True)
    stopped = stops(root, names[0], references[names[0]][1]) if with_stops else []
    _show(rounds, stopped, click.echo)
    if path is not None:
        figures = {"seed": seed, "rounds": [vars(r) for r in rounds], "stops": stopped}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return int(any(r.differences for r in rounds) or any(code != 130 for *_, code in stopped))


def _show(rounds: list[Round], stopped: list[tuple[str, int, float, int]], say: Callable[[str], None]) -> None:
    met, survived = Counter[str](), Counter[str]()
    for one in rounds:
        met.update(one.kills)
        if not one.differences:
            survived.update(one.kills)
    say(f"{'killed while':24}{'kills':>8}{'survived':>10}")
    for phase in PHASES:
        say(f"{phase:24}{met[phase]:8}{survived[phase]:10}")
    say(f"{'all':24}{met.total():8}{survived.total():10}")
    say(f"of these, the leading process alone: {sum(r.alone for r in rounds)}; sweeps: {len(rounds)}")
    for name, jobs, seconds, code in stopped:
        say(f"{name} while training, {jobs} jobs: ended after {seconds:.1f} s, exit code {code}")


if __name__ == "__main__":
    main()
