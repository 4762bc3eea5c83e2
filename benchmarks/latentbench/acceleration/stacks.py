"""Runs that differ in seed, learning rate or plain numbers alone, trained as one program.

Each run keeps its own lock, checkpoints, curve and record, in the form that it has alone; only the training is shared.
What cannot be stacked is done one after another, and a note says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from latentbench.acceleration.accelerated import Accelerated
from latentbench.acceleration.alone import why_alone
from latentbench.acceleration.stack_training import StackedRun, train_stack
from latentbench.acceleration.stackable import split_evenly, stackable
from latentbench.core.console import note
from latentbench.core.interrupts import check
from latentbench.data.dataset import open_dataset
from latentbench.planning.plan import RunSpec
from latentbench.records.archive import run_folder
from latentbench.records.record import Record
from latentbench.running.attempt import Attempt
from latentbench.running.conductor import SingleDevice
from latentbench.running.observer import Observe, ProgressReport, Report, Unobserved
from latentbench.running.one import SETTLED, lock, record_at
from latentbench.running.settings import Settings
from latentbench.spec.registry import find_model

if TYPE_CHECKING:
    pass

OnDone = Callable[[RunSpec, Record, bool], None]


def run_stacks(
    runs: Sequence[RunSpec],
    settings: Settings,
    most: int,
    report: Report,
    on_done: OnDone,
    say: Callable[[str], None] = note,
    observe: Observe = Unobserved,
    *,
    draws: bool = False,
) -> list[RunSpec]:
    """Do those of `runs` that can be stacked, at most `most` side by side, in this process.

    Args:
        runs, settings: what to do, and how.
        most: members of a stack.
        report, on_done: told how the runs go.
        say: told what could not be stacked, once a method.
        observe: gives who follows a run.
        draws: whether runs may be stacked that differ in their number of draws.

    Returns:
        Those that are left: for no stack, or in other hands.

    Raises:
        KeyboardInterrupt: interrupted; finished runs are kept, and the state of those under way.
    """
    done: set[int] = set()
    said: set[str] = set()

    def once(text: str) -> None:
        if text not in said:
            said.add(text)
            say(text)

    def finished(spec: RunSpec, record: Record, cached: bool) -> None:
        done.add(id(spec))
        on_done(spec, record, cached)

    for spec in runs if most > 1 else ():
        if (why := why_alone(spec)) is not None and "Fittable" not in find_model(spec.model).can:
            once(f"{spec.suite} {spec.method}: runs are not stacked: {why}")
    for group in stackable(runs, most, draws=draws):
        check()
        perform_stack(group, settings, report, finished, once, observe)
    return [spec for spec in runs if id(spec) not in done]


def perform_stack(
    specs: Sequence[RunSpec],
    settings: Settings,
    report: Report,
    on_done: OnDone,
    say: Callable[[str], None] = note,
    observe: Observe = Unobserved,
) -> None:
    """Do runs that `stackable` has put together, unless their records are there or others are doing them.

    Raises:
        UserError: the dataset cannot be had, or the results folder cannot be written.
    """
    from filelock import Timeout

    dataset = open_dataset(specs[0].data["source"])
    with ExitStack() as held:
        attempts: list[Attempt] = []
        for spec in specs:
            report(ProgressReport(spec.cell, "data"))
            try:
                held.enter_context(lock(spec, dataset.content_hash, settings, wait=False))
            except Timeout:
                continue
            folder = run_folder(spec, dataset.content_hash, settings.results)
            record, damage = record_at(folder / "record.json")
            if record is not None and record.status in SETTLED and not settings.force:
                on_done(spec, record, True)
            else:
                attempts.append(Attempt(spec, settings, dataset, folder, damage, report, observe))
        together = _together(attempts)
        while together:
            part = together.pop(0)
            if len(part) == 1:
                on_done(part[0].attempt.spec, part[0].attempt.carry_out(Accelerated()), False)
                continue
            results = train_stack(part, settings, say)
            if results is None:
                together = [[one] for one in part] + together
            elif not results:
                together = [*split_evenly(part, math.ceil(len(part) / 2)), *together]
            else:
                for one, result in zip(part, results, strict=True):
                    on_done(one.attempt.spec, one.attempt.carry_out(SingleDevice(), result), False)


def _together(attempts: Sequence[Attempt]) -> list[list[StackedRun]]:
    """Runs that stand at the same step: the newest that all have a checkpoint of, if there is one."""
    found = [StackedRun(a, a.checkpoints.latest()) for a in attempts]
    trained = [[one] for one in found if one.kept is not None and one.kept["finished"]]
    rest = [one for one in found if one.kept is None or not one.kept["finished"]]
    common = set.intersection(*(set(one.attempt.checkpoints.steps()) for one in rest)) if rest else set()
    groups: dict[int, list[StackedRun]] = {}
    for one in rest:
        if common:
            one.kept = one.attempt.checkpoints.latest(max(common))
        groups.setdefault(0 if one.kept is None else one.kept["out"]["steps"], []).append(one)
    return [*trained, *groups.values()]
