"""The tasks of a sweep on a Ray cluster: submitted, polled, submitted again, cancelled."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from latentbench.core.errors import UserError
from latentbench.core.interrupts import check
from latentbench.planning.plan import RunSpec
from latentbench.running.observer import ProgressReport, Report
from latentbench.running.one import Busy
from latentbench.running.settings import Settings
from latentbench.scheduling.lease import new_owner
from latentbench.scheduling.local import LOOK_AGAIN, OnDone, Waiting
from latentbench.scheduling.remote import give_up_request, perform_request
from latentbench.scheduling.resources import cell_of, memory
from latentbench.scheduling.run_requests import RunRequest, SweepContext, data_hash_of, fetch_results
from latentbench.scheduling.sparing import sparing
from latentbench.scheduling.workers import GRACE

#: Workers that may die over one run, or nodes under it, before it counts as failed.
TRIES = 4
#: Tasks under way at a time: a share more than the cluster holds, so that none of its slots waits for this process.
SPARE, FEWEST, MOST = 1.5, 16, 2000
#: Seconds between two polls of the runs' reports.
POLL = 0.5


@dataclass(frozen=True)
class Resources:
    """Of each run, and how many side by side; see `latentbench.scheduling.executors.ray.RayExecutor`."""

    jobs: int | None
    threads: int
    gpus: float | None
    memory: int | None


class ReportBuffer:
    """An actor that keeps the last report of each run until it is taken."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str], ProgressReport] = {}

    def put(self, suite: str, what: ProgressReport) -> None:
        self._latest[suite, what.cell] = what

    def take(self) -> list[ProgressReport]:
        taken, self._latest = self._latest, {}
        return list(taken.values())


@dataclass(frozen=True)
class _Try:
    request: RunRequest
    task: Any


class RaySweep:
    """One sweep, on the cluster that this process is connected to."""

    def __init__(
        self,
        resources: Resources,
        runs: Sequence[RunSpec],
        context: SweepContext,
        settings: Settings,
        report: Report,
        on_done: OnDone,
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._resources, self._context, self._settings = resources, context, settings
        self._report, self._on_done = report, on_done
        self._waiting = Waiting(runs)
        self._under_way: dict[Any, _Try] = {}
        self._deaths: Counter[str] = Counter()
        self._dead: dict[str, tuple[str, ...]] = {}
        self._polled = 0.0
        self._needs = {} if settings.device == "cuda" or resources.memory else memory(runs, settings.results)
        self._task = ray.remote(max_retries=0)(_perform)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._buffer = ray.remote(ReportBuffer).options(num_cpus=0, scheduling_strategy=here).remote()
        self._shared = ray.put((context, settings))

    def go(self) -> None:
        """Send the runs out until all are done."""
        rest = 0.0
        try:
            while True:
                check()
                while len(self._under_way) < self._room() and time.monotonic() >= rest:
                    if (spec := self._waiting.next(patient=False)) is None:
                        break
                    self._send(spec)
                if not self._under_way:
                    if not len(self._waiting):
                        return
                    time.sleep(LOOK_AGAIN)
                    continue
                for one in self._finished():
                    if self._settle(one):
                        rest = time.monotonic() + LOOK_AGAIN
        finally:
            self._cancel()

    def _room(self) -> int:
        """How many tasks may be under way; the cluster may grow or shrink meanwhile."""
        if self._resources.jobs:
            return self._resources.jobs
        if not self._under_way or time.monotonic() - self._polled > POLL:
            import ray

            there = ray.cluster_resources()
            slots = int(there.get("CPU", 0) / self._resources.threads)
            if gpus := self._gpus():
                slots = min(slots, int(there.get("GPU", 0) / gpus))
            self._slots = slots
        return min(MOST, max(FEWEST, int(SPARE * self._slots)))

    def _gpus(self) -> float:
        if self._resources.gpus is not None:
            return self._resources.gpus
        return float(self._settings.devices) if self._settings.device == "cuda" else 0.0

    def _send(self, spec: RunSpec) -> None:
        wants: dict[str, Any] = {"num_cpus": self._resources.threads, "num_gpus": self._gpus()}
        if amount := self._resources.memory or self._needs.get(cell_of(spec)):
            wants["memory"] = amount
        request = RunRequest(spec, data_hash_of(spec), spec.all_code, new_owner(), self._dead.get(_key(spec), ()))
        ref = self._task.options(name=f"{spec.suite} {spec.cell}", **wants).remote(request, self._shared, self._buffer)
        self._under_way[ref] = _Try(request, ref)

    def _finished(self) -> list[_Try]:
        """Tasks that have ended, after a moment; on the way, what the others say is passed on."""
        import ray

        refs = list(self._under_way)
        ready, _ = ray.wait(refs, num_returns=1, timeout=POLL, fetch_local=False)
        if ready:
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        if time.monotonic() - self._polled > POLL:
            self._polled = time.monotonic()
            for what in ray.get(self._buffer.take.remote()):
                self._report(what)
        return [self._under_way[ref] for ref in ready]

    def _settle(self, one: _Try) -> bool:
        """Take note of how a task ended; whether its run is somebody else's at present."""
        import ray

        spec = one.request.spec
        try:
            record, cached = ray.get(one.task)
        except ray.exceptions.RayTaskError as e:
            del self._under_way[one.task]
            if not isinstance(cause := e.cause, Busy):
                raise (cause if isinstance(cause, UserError) else _explained(e)) from None
            self._waiting.put_off(spec)
            return True
        except (ray.exceptions.RayError, ray.exceptions.TaskCancelledError) as e:
            del self._under_way[one.task]
            return self._died(one.request, e)
        del self._under_way[one.task]
        fetch_results(self._context.store, record, self._settings.results)
        self._on_done(spec, record, cached)
        return False

    def _died(self, request: RunRequest, error: Exception) -> bool:
        spec, key = request.spec, _key(request.spec)
        self._deaths[key] += 1
        self._dead[key] = (*request.dead, request.owner)
        if self._deaths[key] < TRIES:
            self._waiting.put_first(spec)
            return False
        how = " ".join(str(error).split())[:200]
        why = f"its worker died {TRIES} times ({type(error).__name__}: {how})"
        try:
            record, cached = give_up_request(
                replace(request, owner=new_owner(), dead=self._dead[key]), self._context, self._settings, why
            )
        except Busy:
            self._waiting.put_off(spec)
            return True
        fetch_results(self._context.store, record, self._settings.results)
        self._on_done(spec, record, cached)
        return False

    def _cancel(self) -> None:
        """End what is under way: each run saves its state; what takes too long is cut off."""
        import ray

        refs = list(self._under_way)
        self._under_way.clear()
        with suppress(ray.exceptions.RayError):
            for ref in refs:
                ray.cancel(ref, force=False)
            _, slow = ray.wait(refs, num_returns=len(refs), timeout=GRACE, fetch_local=False) if refs else ([], [])
            for ref in slow:
                ray.cancel(ref, force=True)
        with suppress(ray.exceptions.RayError):
            ray.kill(self._buffer)


def _key(spec: RunSpec) -> str:
    return f"{spec.suite} {spec.cell}"


def _explained(error: Any) -> UserError:
    """What is wrong where a task could not even begin, or broke outside its run."""
    text = " ".join(str(error.cause or error).split())[-300:]
    return UserError(
        f"a worker of the cluster failed outside its run: {text}",
        where="--executor ray",
        fix="the same Python environment must be on every node",
    )


def _perform(request: RunRequest, shared: tuple[SweepContext, Settings], buffer: Any) -> Any:
    """A task: one run. Ray's cancellation and SIGTERM save its state and end it."""
    from latentbench.core.interrupts import install

    context, settings = shared
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    install(*before)

    def tell(what: ProgressReport) -> None:
        buffer.put.remote(request.spec.suite, what)

    try:
        return perform_request(request, context, settings, sparing(tell, POLL))
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
