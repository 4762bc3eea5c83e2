"""Runs as a Slurm job array, through submitit.

Each task of the array does its share of the runs, one after another. Slurm's warning (SIGUSR2, before the time is up or
on preemption) and SIGTERM save the state of the run under way in the store; after the warning the task puts itself back
into the queue, after SIGTERM Slurm does where it preempts. A task that is done again finds its finished runs there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.core.console import note
from benchmarks.core.errors import UserError
from benchmarks.core.interrupts import check
from benchmarks.core.paths import results_dir, shown
from benchmarks.planning.plan import RunSpec
from benchmarks.runner.away import (
    Errand,
    Place,
    bring_home,
    data_hash_of,
    give_up_away,
    set_out,
    settled,
)
from benchmarks.runner.executors.executor import Device
from benchmarks.runner.executors.sbatch import Setting
from benchmarks.runner.executors.share import Share
from benchmarks.runner.lanes import GRACE
from benchmarks.runner.lease import new_owner, under_way
from benchmarks.runner.local import TRIES, OnDone
from benchmarks.runner.needs import cell_of, memory
from benchmarks.runner.one import Busy
from benchmarks.runner.settings import Settings, Told
from benchmarks.runner.store import Store
from benchmarks.runner.transfer import RECORD, place_of, stored_record

#: Tasks of an array: Slurm's own limit is 1,001 unless its MaxArraySize says otherwise.
MOST_TASKS = 1000
#: Times that a task may run out of time and go back into the queue; each time it gets on.
REQUEUES = 1000
#: Minutes of a task, and seconds that it is warned before they are over, where nobody says.
MINUTES, WARNING = 240, 120
#: Seconds between two looks at the store.
POLL = 5.0


@dataclass
class SlurmExecutor:
    """See the module.

    Args:
        settings: of sbatch, as `benchmarks.runner.executors.sbatch.settings_of` gives them.
        store, jobs, threads, gpus, memory: see `benchmarks.runner.executors.choice.Options`.
        cluster: ``local`` runs the array's tasks as processes of this machine.
    """

    settings: dict[str, Setting] = field(default_factory=dict)
    store: str | None = None
    jobs: int | None = None
    threads: int = 1
    gpus: float | None = None
    memory: int | None = None
    cluster: Literal["slurm", "local"] = "slurm"

    def __post_init__(self) -> None:
        import submitit  # noqa: F401 - whether it is there shows now

        if self.gpus is not None and self.gpus != int(self.gpus):
            raise UserError("Slurm gives whole GPUs", where="--gpus-per-run", fix="name a whole number, or use Ray")

    def device(self, wanted: Literal["auto", "cpu", "cuda"]) -> Device:
        asked = bool(self.gpus) or any(
            k.startswith("gpus") or (k == "gres" and "gpu" in str(v)) for k, v in self.settings.items()
        )
        return "cuda" if wanted == "cuda" or (wanted == "auto" and asked) else "cpu"

    def preview(self, runs: Sequence[RunSpec]) -> str:
        """The script that sbatch would get."""
        from submitit.slurm.slurm import _make_sbatch_string

        tasks = self._tasks(len(runs))
        parameters = self._parameters(runs, self.device("auto"), results_dir())
        command = f"{sys.executable} -u -m submitit.core._submit {self._folder(results_dir())}"
        if tasks > 1:
            parameters["map_count"] = tasks
        script: str = _make_sbatch_string(command=command, folder=self._folder(results_dir()), **parameters)
        return script

    def run_all(
        self, runs: Sequence[RunSpec], settings: Settings, on_told: Callable[[Told], None], on_done: OnDone
    ) -> None:
        """See `benchmarks.runner.executors.executor.Executor`.

        Raises:
            UserError: data, code or store are not the same everywhere.
            KeyboardInterrupt: asked to stop; the runs under way have saved their state.
        """
        store = Store(self.store or settings.results)
        there = settled(runs, settings, store, note)
        for spec in runs:
            if (record := there.get(_key(spec))) is not None:
                bring_home(store, record, settings.results)
                on_done(spec, record, True)
        left = [spec for spec in runs if _key(spec) not in there]
        if left:
            place = set_out(left, store, share_data=False)
            _Array(self, left, place, replace(settings, threads=self.threads), on_told, on_done).go()

    def submit(self, shares: Sequence[Share], runs: Sequence[RunSpec], settings: Settings, folder: Path) -> list[Any]:
        """Hand an array over; its jobs.

        Raises:
            UserError: there is no Slurm here, or it refuses.
        """
        import submitit

        parameters = self._parameters(runs, settings.device, settings.results)
        try:
            if self.cluster == "local":
                executor: Any = submitit.LocalExecutor(folder, max_num_timeout=REQUEUES)
                executor.update_parameters(timeout_min=parameters["time"], signal_delay_s=parameters["signal_delay_s"])
            else:
                executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
                executor.update_parameters(**parameters)
            with executor.batch():
                return [executor.submit(share) for share in shares]
        except (RuntimeError, OSError, ValueError, submitit.core.utils.FailedJobError) as e:
            raise UserError(
                f"Slurm does not take the runs: {' '.join(str(e).split())[:300]}",
                where="--executor slurm",
                fix="call it where sbatch works, and check --slurm",
            ) from None

    def _tasks(self, runs: int) -> int:
        most = min(MOST_TASKS, self.jobs or MOST_TASKS) if self.cluster == "local" else MOST_TASKS
        return max(1, min(runs, most))

    def _folder(self, results: Path) -> Path:
        """Of the array's logs; tasks must see it."""
        store = Store(self.store or results)
        return (store.folder or results) / "slurm"

    def _parameters(self, runs: Sequence[RunSpec], device: Device, results: Path) -> dict[str, Any]:
        from submitit.slurm.slurm import _get_default_parameters

        own: dict[str, Any] = {
            "job_name": "latentbench",
            "time": MINUTES,
            "signal_delay_s": WARNING,
            "cpus_per_task": self.threads,
            "stderr_to_stdout": True,
        }
        if self.jobs:
            own["array_parallelism"] = self.jobs
        if device == "cuda" and not any(k.startswith(("gpus", "gres")) for k in self.settings):
            own["gpus_per_node"] = int(self.gpus or 1)
        if not any(k.startswith("mem") for k in self.settings):
            needs = memory(runs, results) if device == "cpu" else {}
            whole = needs.keys() >= {cell_of(r) for r in runs}
            if amount := self.memory or (max(needs.values()) if needs and whole else 0):
                own["mem"] = f"{-(-amount >> 20)}M"
        known = set(_get_default_parameters())
        own |= {k: v for k, v in self.settings.items() if k in known}
        rest = {k.replace("_", "-"): v for k, v in self.settings.items() if k not in known}
        return {**own, "additional_parameters": {"requeue": True, **rest}}


class _Array:
    """One call of `SlurmExecutor.run_all` with what is left to do."""

    def __init__(
        self,
        executor: SlurmExecutor,
        runs: Sequence[RunSpec],
        place: Place,
        settings: Settings,
        on_told: Callable[[Told], None],
        on_done: OnDone,
    ) -> None:
        self._executor, self._place, self._settings = executor, place, settings
        self._on_told, self._on_done = on_told, on_done
        self._waiting: dict[str, Errand] = {}
        self._before: dict[str, bytes | None] = {}
        self._deaths: Counter[str] = Counter()
        for spec in runs:
            owner = new_owner()  # the same when a task is queued again: its earlier self is dead then
            errand = Errand(spec, data_hash_of(spec), spec.code_hash, owner, (owner,))
            self._waiting[_key(spec)] = errand
            self._before[_key(spec)] = place.store.read(_record_of(errand))

    def go(self) -> None:
        """Hand arrays over until every run has its record."""
        folder = self._executor._folder(self._settings.results) / uuid.uuid4().hex[:8]
        while self._waiting:
            errands = list(self._waiting.values())
            tasks = self._executor._tasks(len(errands))
            shares = [Share(errands[i::tasks], self._place, self._settings) for i in range(tasks)]
            jobs = self._executor.submit(shares, [e.spec for e in errands], self._settings, folder)
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
        looked = 0.0
        while not all(job.done() for job in jobs):
            check()
            if time.monotonic() - looked >= POLL:
                self._look()
                looked = time.monotonic()
            time.sleep(min(POLL, 0.5))
        self._look()

    def _look(self) -> None:
        """Pass on what has come into the store since."""
        there: dict[str, dict[str, int]] = {}
        for key, errand in list(self._waiting.items()):
            name = _record_of(errand)
            suite = place_of(errand.spec.suite, "").rstrip("/")
            if suite not in there:
                there[suite] = self._place.store.names(suite)
            if name.removeprefix(f"{suite}/") not in there[suite]:
                continue
            if self._before[key] is not None and self._place.store.read(name) == self._before[key]:
                continue
            record = stored_record(self._place.store, errand.spec.suite, errand.run_id)
            if record is not None:
                del self._waiting[key]
                bring_home(self._place.store, record, self._settings.results)
                self._on_done(errand.spec, record, False)
        mine = {(e.spec.suite, e.run_id) for e in self._waiting.values()}
        for one in under_way(self._place.store):
            if (one.suite, one.run_id) in mine and one.told.cell:
                self._on_told(one.told)

    def _account(self, share: Share, job: Any, folder: Path) -> None:
        """What a task that is over has left undone: it is tried again, and then given up."""
        left = [e for e in share.errands if _key(e.spec) in self._waiting]
        if not left:
            return
        fault = None
        with suppress(Exception):  # submitit's own, for a task that broke
            fault = job.result()
        if fault is not None:
            raise UserError(f"a task could not begin: {fault}", where="--executor slurm")
        for errand in left:
            key = _key(errand.spec)
            self._deaths[key] += 1
            if self._deaths[key] < TRIES:
                continue
            why = f"its task died {TRIES} times (state {job.state}; log in {shown(folder)})"
            with suppress(Busy):
                record, cached = give_up_away(errand, self._place, self._settings, why)
                del self._waiting[key]
                bring_home(self._place.store, record, self._settings.results)
                self._on_done(errand.spec, record, cached)

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


def _record_of(errand: Errand) -> str:
    return f"{place_of(errand.spec.suite, errand.run_id)}/{RECORD}"


def _key(spec: RunSpec) -> str:
    return f"{spec.suite} {spec.cell}"
