"""Runs on this machine, one after another or several side by side."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

from benchmarks.core.errors import UserError
from benchmarks.planning.plan import RunSpec
from benchmarks.records.record import Record
from benchmarks.runner.one import Settings, Told, perform

#: Processes that are started unasked; each takes half a gigabyte or more.
MOST_JOBS = 8

OnDone = Callable[[RunSpec, Record | None, bool, str | None], None]
"""Called after each run: its specification, its record (None if the worker died), whether it was there already, why it
has no record."""


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def default_jobs(device: str, runs: int) -> int:
    """Runs side by side where nobody says: a core each, which small models use best; on a GPU one at a time."""
    return 1 if device == "cuda" else max(1, min(cores(), runs, MOST_JOBS))


def threads_for(jobs: int) -> int:
    """Torch threads of each of `jobs` processes, so that together they do not ask for more cores than there are."""
    limit = int(os.environ.get("OMP_NUM_THREADS", "0") or 0) or cores()
    return max(1, min(limit, cores() // jobs))


def run_all(
    runs: Sequence[RunSpec],
    settings: Settings,
    jobs: int,
    on_told: Callable[[Told], None],
    on_done: OnDone,
) -> None:
    """Carry out `runs`; a failed one leaves its record and the rest goes on.

    Raises:
        UserError: data or folders that no run can do without.
        KeyboardInterrupt: interrupted; finished runs are kept.
    """
    settings = replace(settings, threads=threads_for(jobs))
    if jobs == 1:
        for spec in runs:
            record, cached = perform(spec, settings, on_told)
            on_done(spec, record, cached, None)
        return
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        told: Any = manager.Queue()
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_quiet_worker)
        futures: dict[Future[tuple[Record, bool]], RunSpec] = {
            pool.submit(_perform_there, spec, settings, told): spec for spec in runs
        }
        try:
            _watch(futures, told, on_told, on_done)
        except BaseException:
            for future in futures:
                future.cancel()
            for process in list((pool._processes or {}).values()):  # running workers would go on to their end
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _watch(
    futures: dict[Future[tuple[Record, bool]], RunSpec], told: Any, on_told: Callable[[Told], None], on_done: OnDone
) -> None:
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
        while True:
            try:
                on_told(told.get_nowait())
            except queue.Empty:
                break
        for future in done:
            spec = futures[future]
            try:
                record, cached = future.result()
            except UserError:
                raise
            except BrokenProcessPool:
                on_done(spec, None, False, "its worker process died (killed, or out of memory)")
            else:
                on_done(spec, record, cached, None)


def _quiet_worker() -> None:
    """Interrupts go to the parent, which ends its workers."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _perform_there(spec: RunSpec, settings: Settings, told: Any) -> tuple[Record, bool]:
    return perform(spec, settings, told.put)
