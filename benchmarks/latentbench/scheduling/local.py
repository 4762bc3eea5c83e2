"""Runs on this machine, one after another or several side by side."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from latentbench.acceleration.processes import cores
from latentbench.core.interrupts import check
from latentbench.planning.plan import RunSpec
from latentbench.records.record import Record
from latentbench.running.observer import ProgressReport, Report
from latentbench.running.one import KILLED, Busy
from latentbench.running.settings import Settings
from latentbench.scheduling.following import follow_run
from latentbench.scheduling.task import give_up, perform
from latentbench.scheduling.workers import GRACE, Died, Worker, ready_workers

#: Processes that are started unasked; each takes half a gigabyte or more.
MOST_JOBS = 8

#: Processes that may die over one run before it counts as failed.
TRIES = 2
#: Seconds before a run that another process is doing is looked at again.
LOOK_AGAIN = 0.3

OnDone = Callable[[RunSpec, Record, bool], None]
"""Called after each run: its specification, its record, whether it was there already."""


def default_jobs(device: str, runs: int, devices: int = 1) -> int:
    """Runs side by side where nobody says: a core each, which small models use best; one at a time on a GPU, or where
    each is spread over several `devices`."""
    return 1 if device == "cuda" or devices > 1 else max(1, min(cores(), runs, MOST_JOBS))


def threads_for(jobs: int) -> int:
    """Torch threads of each of `jobs` processes, so that together they do not ask for more cores than there are."""
    return max(1, min(threads_allowed() or cores(), cores() // jobs))


def threads_allowed() -> int | None:
    """What ``OMP_NUM_THREADS`` allows: of a list, one number for each nested level, the first (OpenMP 5.2, 21.1.2);
    None where it says nothing that OpenMP would understand."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isascii() and first.isdecimal() and int(first[:18]) > 0 else None


def run_all(
    runs: Sequence[RunSpec],
    settings: Settings,
    jobs: int,
    report: Report,
    on_done: OnDone,
    *,
    threads: int | None = None,
    stack: int = 1,
    stack_draws: bool = False,
) -> None:
    """Carry out `runs`; a failed one leaves its record and the rest goes on.

    What another process on the same results folder is doing is put off, and found done later.

    Args:
        runs, settings: what to do, and how.
        jobs: processes side by side; 0 for this one, which the system may kill with all that it has yet to do.
        report, on_done: told how the runs go.
        threads: torch threads of each; by default the cores are shared among the jobs.
        stack: runs of one method that train as one program, at most; those come first, in this process.
        stack_draws: whether runs that differ in their number of draws are among them.

    Raises:
        UserError: data or folders that no run can do without.
        KeyboardInterrupt: interrupted; finished runs are kept, and the state of those under way.
    """
    for run in runs:
        _ = run.code_hash  # as planned: whoever does the run later holds what it executes to this
    if stack > 1 and settings.devices == 1:
        from latentbench.acceleration.stacks import run_stacks

        here = replace(settings, threads=threads or threads_for(1))
        runs = run_stacks(runs, here, stack, report, on_done, observe=follow_run, draws=stack_draws)
    settings = replace(settings, threads=threads or threads_for(max(jobs, 1) * settings.devices))
    waiting = Waiting(runs)
    if jobs == 0 and settings.devices == 1:  # what joins several devices may take its process down
        while (spec := waiting.next()) is not None:
            check()
            try:
                record, cached = perform(spec, settings, report, wait=False)
            except Busy:
                waiting.put_off(spec)
            else:
                on_done(spec, record, cached)
        return
    workers = [Worker(settings) for _ in range(max(jobs, 1))]
    try:
        _drive(workers, waiting, settings, report, on_done)
    except BaseException:
        for worker in workers:
            worker.stop()
        raise
    finally:
        deadline = time.monotonic() + GRACE
        for worker in workers:
            worker.close(deadline)


class Waiting:
    """Runs to do, in their order; those that another process is doing come again after the others."""

    def __init__(self, runs: Sequence[RunSpec]) -> None:
        self._runs = deque(runs)
        self._busy: deque[RunSpec] = deque()

    def next(self, *, patient: bool = True) -> RunSpec | None:
        """The next run, or None; where only busy ones are left, after a pause if `patient`."""
        if self._runs:
            return self._runs.popleft()
        if not self._busy:
            return None
        if patient:
            time.sleep(LOOK_AGAIN)
        return self._busy.popleft()

    def put_off(self, spec: RunSpec) -> None:
        self._busy.append(spec)

    def __len__(self) -> int:
        return len(self._runs) + len(self._busy)

    def put_first(self, spec: RunSpec) -> None:
        self._runs.appendleft(spec)


def _drive(workers: Sequence[Worker], waiting: Waiting, settings: Settings, report: Report, on_done: OnDone) -> None:
    deaths: Counter[str] = Counter()
    rest: float = 0.0
    while True:
        check()
        for worker in workers:
            if worker.spec is None and time.monotonic() >= rest and (spec := waiting.next(patient=False)) is not None:
                worker.start(spec)
        if not (active := [worker for worker in workers if worker.spec is not None]):
            if not len(waiting):
                return
            time.sleep(LOOK_AGAIN)
            continue
        for worker in ready_workers(active):
            spec, message = worker.spec, worker.receive()
            assert spec is not None
            match message:
                case ProgressReport():
                    report(message)
                case Died():
                    deaths[spec.cell] += 1
                    if deaths[spec.cell] < TRIES:
                        waiting.put_first(spec)
                    else:
                        deaths[spec.cell] = 0
                        why = f"its worker process died {TRIES} times ({message.how})"
                        why += f", as it does {KILLED}" if message.killed else ""
                        try:
                            on_done(spec, *give_up(spec, settings, why))
                        except Busy:
                            waiting.put_off(spec)
                case Busy():
                    waiting.put_off(spec)
                    rest = time.monotonic() + LOOK_AGAIN
                case BaseException():
                    raise message
                case (record, cached):
                    on_done(spec, record, cached)
