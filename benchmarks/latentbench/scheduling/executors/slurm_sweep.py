"""The job arrays of a sweep on Slurm: submitted, their records awaited in the store, submitted again, cancelled."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from latentbench.core.errors import UserError
from latentbench.core.interrupts import check
from latentbench.core.paths import shown
from latentbench.planning.plan import RunSpec
from latentbench.running.observer import Report
from latentbench.running.one import Busy
from latentbench.running.settings import Settings
from latentbench.scheduling.executors.array_task import Share
from latentbench.scheduling.lease import new_owner, under_way
from latentbench.scheduling.local import TRIES, OnDone
from latentbench.scheduling.remote import give_up_request
from latentbench.scheduling.run_requests import RunRequest, SweepContext, data_hash_of, fetch_results
from latentbench.scheduling.transfer import RECORD, prefix_of, stored_record
from latentbench.scheduling.workers import GRACE

#: Seconds between two polls of the store.
POLL = 5.0


class Arrays(Protocol):
    """What takes job arrays: `latentbench.scheduling.executors.slurm.SlurmExecutor`."""

    cluster: Literal["slurm", "local"]

    def submit(
        self, shares: Sequence[Share], runs: Sequence[RunSpec], settings: Settings, folder: Path
    ) -> list[Any]: ...

    def tasks(self, runs: int) -> int: ...

    def folder(self, results: Path) -> Path: ...


class SlurmSweep:
    """One sweep, through the arrays of an executor."""

    def __init__(
        self,
        executor: Arrays,
        runs: Sequence[RunSpec],
        context: SweepContext,
        settings: Settings,
        report: Report,
        on_done: OnDone,
    ) -> None:
        self._executor, self._context, self._settings = executor, context, settings
        self._report, self._on_done = report, on_done
        self._waiting: dict[str, RunRequest] = {}
        self._before: dict[str, bytes | None] = {}
        self._deaths: Counter[str] = Counter()
        for spec in runs:
            owner = new_owner()  # the same when a task is queued again: its earlier self is dead then
            request = RunRequest(spec, data_hash_of(spec), spec.all_code, owner, (owner,))
            self._waiting[key_of(spec)] = request
            self._before[key_of(spec)] = context.store.read(_record_of(request))

    def go(self) -> None:
        """Submit arrays until every run has its record."""
        folder = self._executor.folder(self._settings.results) / uuid.uuid4().hex[:8]
        while self._waiting:
            requests = list(self._waiting.values())
            tasks = self._executor.tasks(len(requests))
            shares = [Share(requests[i::tasks], self._context, self._settings) for i in range(tasks)]
            jobs = self._executor.submit(shares, [e.spec for e in requests], self._settings, folder)
            try:
                self._await(jobs)
            except BaseException:
                self._cancel(jobs)
                raise
            for share, job in zip(shares, jobs, strict=True):
                self._account(share, job, folder)
        if not self._deaths:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                folder.parent.rmdir()

    def _await(self, jobs: Sequence[Any]) -> None:
        polled = 0.0
        while not all(job.done() for job in jobs):
            check()
            if time.monotonic() - polled >= POLL:
                self._poll()
                polled = time.monotonic()
            time.sleep(min(POLL, 0.5))
        self._poll()

    def _poll(self) -> None:
        """Pass on what has come into the store since."""
        there: dict[str, dict[str, int]] = {}
        for key, request in list(self._waiting.items()):
            name = _record_of(request)
            suite = prefix_of(request.spec.suite, "").rstrip("/")
            if suite not in there:
                there[suite] = self._context.store.names(suite)
            if name.removeprefix(f"{suite}/") not in there[suite]:
                continue
            if self._before[key] is not None and self._context.store.read(name) == self._before[key]:
                continue
            record = stored_record(self._context.store, request.spec.suite, request.run_id)
            if record is not None:
                del self._waiting[key]
                fetch_results(self._context.store, record, self._settings.results)
                self._on_done(request.spec, record, False)
        mine = {(e.spec.suite, e.run_id) for e in self._waiting.values()}
        for one in under_way(self._context.store):
            if (one.suite, one.run_id) in mine and one.report.cell:
                self._report(one.report)

    def _account(self, share: Share, job: Any, folder: Path) -> None:
        """What a task that is over has left undone: it is tried again, and then given up."""
        left = [e for e in share.requests if key_of(e.spec) in self._waiting]
        if not left:
            return
        fault = None
        with suppress(Exception):  # submitit's own, for a task that broke
            fault = job.result()
        if fault is not None:
            raise UserError(f"a task could not begin: {fault}", where="--executor slurm")
        for request in left:
            key = key_of(request.spec)
            self._deaths[key] += 1
            if self._deaths[key] < TRIES:
                continue
            why = f"its task died {TRIES} times (state {job.state}; log in {shown(folder)})"
            with suppress(Busy):
                record, cached = give_up_request(request, self._context, self._settings, why)
                del self._waiting[key]
                fetch_results(self._context.store, record, self._settings.results)
                self._on_done(request.spec, record, cached)

    def _cancel(self, jobs: Sequence[Any]) -> None:
        """End the tasks; each saves the state of its run."""
        if self._executor.cluster == "slurm":
            arrays = sorted({job.job_id.partition("_")[0] for job in jobs})
            with suppress(OSError, subprocess.SubprocessError):
                subprocess.run(["scancel", *arrays], check=False, capture_output=True, timeout=60)
        else:
            for job in jobs:
                with suppress(ProcessLookupError):  # the job's controller passes it on; its own way is SIGKILL
                    os.kill(int(job.job_id), signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and not all(job.done(force_check=True) for job in jobs):
            time.sleep(0.5)


def _record_of(request: RunRequest) -> str:
    return f"{prefix_of(request.spec.suite, request.run_id)}/{RECORD}"


def key_of(spec: RunSpec) -> str:
    return f"{spec.suite} {spec.cell}"
